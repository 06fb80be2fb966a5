// A link goes up and down: a bad cable, a port of the switch that has had enough.
import type { FaultKind } from '../model.ts'

export const linkFlaps: FaultKind = {
  name: 'link_flaps',
  summary: 'A link goes down and up again and again.',
  seconds: 900,
  perDay: 0.2,
  fits: ({ kind }) => kind.ports.some(({ isOptical }) => isOptical),
  begin(device, random) {
    const { ports } = device.kind
    const uplinks = ports
      .map((_, index) => index)
      .filter((index) => ports[index]?.isOptical === true && device.state.ports[index]?.isUp === true)
    const index = uplinks.length > 0 ? random.pick(uplinks) : 0
    let isDown = true
    let until = random.between(1, 6)
    return {
      where: ports[index]?.name ?? '',
      step({ state }, seconds) {
        if (seconds >= until) {
          isDown = !isDown
          until = seconds + (isDown ? random.between(1, 8) : random.between(4, 40))
        }
        if (isDown) state.strain.linksDown |= 1 << index
      },
      end() {},
    }
  },
}
