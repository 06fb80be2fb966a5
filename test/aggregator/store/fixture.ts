// A store in a directory of its own for each test of a file, with short ways to ask it.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect } from 'vitest'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import type { DuckStore, DuckStoreOptions } from '../../../aggregator/store/duckdb.ts'
import type { LogQuery, LogRecordRow, MetricQuery, SeriesResult } from '../../../aggregator/query.ts'
import { nowNano, recordLog, secondNano } from './batches.ts'
import type { RecordedLog } from './batches.ts'

export const never = new AbortController().signal
export const now = nowNano()

export interface Fixture {
  readonly store: DuckStore
  readonly directory: string
  readonly log: RecordedLog
  reopen(options?: Partial<DuckStoreOptions>): Promise<void>
  search(query?: Partial<LogQuery>): Promise<LogRecordRow[]>
  ask(query: Partial<MetricQuery> & { metric: string }): Promise<SeriesResult[]>
  /** Runs the same look at fresh rows, at sealed ones, and after a restart. */
  always(look: () => Promise<void>): Promise<void>
}

export function useStore(): Fixture {
  let directory = ''
  let store: DuckStore
  const log = recordLog()
  const open = async (options: Partial<DuckStoreOptions> = {}): Promise<void> => {
    store = await openDuckStore(directory, { log, maintenanceMs: 0, ...options })
  }
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'store-'))
    log.lines.length = 0
    await open()
  })
  afterEach(async () => {
    await store[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })
  const fixture: Fixture = {
    get store() {
      return store
    },
    get directory() {
      return directory
    },
    log,
    async reopen(options) {
      await store[Symbol.asyncDispose]()
      await open(options)
    },
    async search(query) {
      return (await store.queries.logs({ limit: 100, where: [], ...query }, never)).records
    },
    ask: (query) =>
      store.queries.query(
        {
          where: [],
          sinceUnixNano: now - 3600n * secondNano,
          untilUnixNano: now + secondNano,
          limit: 1000,
          ...query,
        },
        never,
      ),
    async always(look) {
      await look()
      await store.maintain({ seal: 'all' })
      expect((await store.status()).files).toBeGreaterThan(0)
      await look()
      await fixture.reopen()
      await look()
    },
  }
  return fixture
}
