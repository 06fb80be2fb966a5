// The durable log: append-only topics and compacted tables in one directory, on disk when a promise says so. The
// collector's disk buffer and the aggregator's embedded journal are built on it. How it works: log.ts.
export type * from './api.ts'
export type { LogFile, LogFileSystem } from './disk.ts'
export { nodeFileSystem } from './disk.ts'
export {
  LogBusyError,
  LogClosedError,
  LogError,
  LogFullError,
  LogLockedError,
  LogWriteError,
} from './errors.ts'
export { openLog } from './log.ts'
