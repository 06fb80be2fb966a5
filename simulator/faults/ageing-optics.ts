// A laser fades: more current for less light, then errors, then no link, until the module is replaced.
import type { FaultKind } from '../model.ts'
import { replaceOptics } from '../physics/links.ts'

export const ageingOptics: FaultKind = {
  name: 'ageing_optics',
  summary: 'The laser of a module fades, until the link has errors and is lost.',
  seconds: 6 * 3600,
  perDay: 0.05,
  fits: ({ kind }) => kind.ports.some(({ isOptical }) => isOptical),
  begin(device, random, lasts) {
    const { ports } = device.kind
    const lit = ports
      .map((_, index) => index)
      .filter((index) => ports[index]?.isOptical === true && device.state.ports[index]?.isUp === true)
    const index = lit.length > 0 ? random.pick(lit) : 0
    const port = device.state.ports[index]
    const from = port?.ageing ?? 0
    const speed = (1 - from) / (lasts * random.between(0.5, 0.9))
    return {
      where: ports[index]?.name ?? '',
      step(_device, seconds) {
        if (port) port.ageing = Math.max(port.ageing, Math.min(1, from + speed * seconds))
      },
      end(device) {
        replaceOptics(device, index)
      },
    }
  },
}
