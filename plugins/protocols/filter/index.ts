// Rules over records: what a filter is configured with, and the engine that goes over their bytes. Collector and
// aggregator use the same.
export { Filter } from './filter.ts'
export { filterSettings, severities, withoutFloors } from './settings.ts'
export type { FilterSettings } from './settings.ts'
export { checkFilter } from './trial.ts'
export { writeSeries } from './made.ts'
export type { RecordFacts } from './record.ts'
export { Series, headOf } from './window.ts'
export type { ReadingTaker, WindowSettings } from './windows.ts'
