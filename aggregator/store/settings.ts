// Settings of the embedded store, with their defaults; plain data, so that they can go to its thread.
import { classes } from '../../plugins/contract/signal.ts'
import type { Class } from '../../plugins/contract/signal.ts'

const hour = 3_600_000
const day = 24 * hour

export interface DuckStoreSettings {
  /** What DuckDB's buffer manager may take. Sorting spills beyond it, into the store's directory. */
  memoryBytes: number
  threads: number
  /** How long records are kept after their arrival. Whole files go, so up to a day more. */
  retentionMs: Readonly<Record<Class, number>>
  /**
   * Most bytes of the store's directory. Before they are reached the oldest file of the least precious class goes first,
   * and its records count as removed; when there is nothing more to remove, writes are refused with DISK_FULL.
   */
  maxBytes: number
  /** A table of recent rows that grew to this is closed and sealed as a file. */
  segmentRows: { logs: number; metrics: number }
  /** Age of a table of recent rows at which it is sealed when it holds enough to be worth a file … */
  segmentMs: number
  /** … which is this many rows; a day later also with fewer. */
  segmentMinRows: number
  /** Bytes of all tables of recent rows at which the largest is sealed: DuckDB's file never shrinks. */
  hotBytes: number
  /** Distinct series of data points; points of others are rejected. */
  maxSeries: number
  /** Longest time of one query. */
  queryTimeoutMs: number
  /** Queries that run at the same time; each occupies one of libuv's threads. */
  queries: number
  /** Between two looks for what to seal and to remove; 0 leaves that to `maintain`. */
  maintenanceMs: number
}

export const sealLatestMs = day

export function settingsOf(given: Partial<DuckStoreSettings>): DuckStoreSettings {
  const retention = Object.fromEntries(
    classes.map((name) => [name, name === 'usage' ? 400 * day : 7 * day]),
  ) as Record<Class, number>
  const maxBytes = given.maxBytes ?? Number.MAX_SAFE_INTEGER
  return {
    memoryBytes: 512 * 1024 ** 2,
    threads: 2,
    segmentRows: { logs: 1_000_000, metrics: 4_000_000 },
    segmentMs: hour,
    segmentMinRows: 100_000,
    hotBytes: Math.min(1024 ** 3, Math.floor(maxBytes / 8)),
    maxSeries: 1_000_000,
    queryTimeoutMs: 30_000,
    queries: 2,
    maintenanceMs: 10_000,
    ...given,
    maxBytes,
    retentionMs: { ...retention, ...given.retentionMs },
  }
}
