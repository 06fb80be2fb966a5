// Processor that decides by rules what leaves a device, and how. The rules and their engine are in protocols/filter.
import { defineProcessor } from '../contract/index.ts'
import { Filter, checkFilter, filterSettings, withoutFloors } from '../protocols/filter/index.ts'

export default defineProcessor({
  name: 'filter',
  summary: 'Keeps, drops, thins out, joins, redacts and changes records by rules over what they say.',
  config: filterSettings,
  create: (config, { clock }) => {
    const filter = new Filter(config, () => clock.elapsedMs())
    const { windows } = filter
    return {
      pass: (records) => filter.pass(records),
      counts: () => filter.counts(),
      ...(windows && { state: windows, flush: (_: bigint, last: boolean) => filter.flush(last) }),
    }
  },
  check: checkFilter,
  letThrough: withoutFloors,
})
