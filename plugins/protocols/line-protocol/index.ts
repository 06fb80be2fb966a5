// InfluxDB line protocol, from bytes to Records.
export { LineReader, longestLine } from './lines.ts'
export { LineRecords, precisions, refusedClass } from './records.ts'
export type { LineOptions, Refused, Taken } from './records.ts'
