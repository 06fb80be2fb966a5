// The kernel gives up; the card boots again, and may do so once more while the cause is there.
import type { FaultKind } from '../model.ts'
import { panic } from '../physics/boot.ts'

export const kernelPanic: FaultKind = {
  name: 'kernel_panic',
  summary: 'The kernel panics and the card boots again; the log of it comes after the boot.',
  seconds: 600,
  perDay: 0.03,
  fits: () => true,
  begin(device, random) {
    panic(device)
    // Some are not done with one.
    const againAfter = random.chance(0.3) ? random.between(120, 500) : Number.POSITIVE_INFINITY
    let isAgain = false
    return {
      where: 'kernel',
      step(device, seconds) {
        if (isAgain || seconds < againAfter || device.state.power !== 'on') return
        isAgain = true
        panic(device)
      },
      end() {},
    }
  },
}
