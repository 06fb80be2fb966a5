// Another tenant's virtual functions on the same card take what they can get of links, cores and drives.
import type { FaultKind } from '../model.ts'

export const noisyNeighbour: FaultKind = {
  name: 'noisy_neighbour',
  summary: 'Another tenant of the card takes its links and cores: pauses, drops, heat.',
  seconds: 1200,
  perDay: 0.2,
  fits: () => true,
  begin({ kind, state }, random) {
    const uplinks = kind.ports.filter((port, index) => port.isOptical && state.ports[index]?.isUp === true)
    const network = random.between(0.95, 1.2)
    const cpu = random.between(0.2, 0.5)
    const storage = random.between(0.1, 0.5)
    return {
      where: uplinks.map(({ name }) => name).join(' '),
      step({ state: { strain } }, seconds) {
        const swell = Math.min(1, seconds / 20) * (0.85 + 0.15 * Math.sin(seconds / 11))
        strain.network += network * swell
        strain.cpu += cpu * swell
        strain.storage += storage * swell
      },
      end() {},
    }
  },
}
