// A store of its own for each test of a file, with short ways to ask it: the embedded one in a directory, and the same
// questions to a real InfluxDB where one is named.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from 'vitest'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import type { DuckStore, DuckStoreOptions } from '../../../aggregator/store/duckdb.ts'
import type { Store } from '../../../aggregator/store/store.ts'
import type { LogQuery, LogRecordRow, MetricQuery, SeriesResult } from '../../../aggregator/query.ts'
import { nowNano, recordLog, secondNano } from './batches.ts'
import type { RecordedLog } from './batches.ts'
import { influx, influxStore, newBucket, removeBuckets } from './influx.ts'

export const never = new AbortController().signal
export const now = nowNano()

export interface Fixture<S extends Store = Store> {
  readonly store: S
  readonly log: RecordedLog
  reopen(options?: { maxSeries?: number }): Promise<void>
  search(query?: Partial<LogQuery>): Promise<LogRecordRow[]>
  ask(query: Partial<MetricQuery> & { metric: string }): Promise<SeriesResult[]>
  /** Runs the same look at what was just written, at what lies longer, and after a restart. */
  always(look: () => Promise<void>): Promise<void>
  /** What a store does to rows that lie for long: the embedded one seals them. */
  settle(): Promise<void>
}

export interface DuckFixture extends Fixture<DuckStore> {
  readonly directory: string
  reopen(options?: Partial<DuckStoreOptions>): Promise<void>
}

export type Kind = 'DuckDB' | 'InfluxDB'

/** When stores are opened and closed. */
export interface Life {
  before: (open: () => Promise<void>) => void
  after: (close: () => Promise<void>) => void
}
const eachTest: Life = { before: (open) => beforeEach(open), after: (close) => afterEach(close) }
/** One store for all tests of a description, which then keep to names of their own. */
export const oneStore: Life = { before: (open) => beforeAll(open), after: (close) => afterAll(close) }

type Tests = (fixture: Fixture, kind: Kind) => void

/** Describes `tests` once for each store. Without an InfluxDB its part is skipped, and its title says why. */
export function describeStores(title: string, life: Life, tests: Tests): void
export function describeStores(title: string, tests: Tests): void
export function describeStores(title: string, ...rest: [Tests] | [Life, Tests]): void {
  const [life, tests] = rest.length === 1 ? [eachTest, rest[0]] : rest
  describe(`${title} in DuckDB`, () => {
    tests(useStore(life), 'DuckDB')
  })
  describe.skipIf(!influx)(`${title} in InfluxDB${influx ? '' : ' (INFLUX_URL names none)'}`, () => {
    tests(useInflux(life), 'InfluxDB')
  })
}

export function useStore(life: Life = eachTest): DuckFixture {
  let directory = ''
  let store: DuckStore
  const log = recordLog()
  const open = async (options: Partial<DuckStoreOptions> = {}): Promise<void> => {
    store = await openDuckStore(directory, { log, maintenanceMs: 0, ...options })
  }
  life.before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'store-'))
    log.lines.length = 0
    await open()
  })
  life.after(async () => {
    await store[Symbol.asyncDispose]()
    await rm(directory, { recursive: true, force: true })
  })
  const reopen = async (options?: Partial<DuckStoreOptions>): Promise<void> => {
    await store[Symbol.asyncDispose]()
    await open(options)
  }
  return {
    get store() {
      return store
    },
    get directory() {
      return directory
    },
    log,
    reopen,
    ...questions(() => store),
    settle: () => store.maintain({ seal: 'all' }),
    async always(look) {
      await look()
      await store.maintain({ seal: 'all' })
      expect((await store.status()).files).toBeGreaterThan(0)
      await look()
      await reopen()
      await look()
    },
  }
}

function useInflux(life: Life): Fixture {
  let bucket = ''
  let store: Store
  const log = recordLog()
  life.before(async () => {
    bucket = newBucket()
    log.lines.length = 0
    store = influxStore({ bucket, log })
  })
  life.after(async () => {
    await store[Symbol.asyncDispose]()
    await removeBuckets(bucket)
  })
  const reopen = async (options: { maxSeries?: number } = {}): Promise<void> => {
    await store[Symbol.asyncDispose]()
    store = influxStore({ bucket, log, ...options })
  }
  return {
    get store() {
      return store
    },
    log,
    reopen,
    ...questions(() => store),
    settle: () => Promise.resolve(),
    async always(look) {
      await look()
      await reopen()
      await look()
    },
  }
}

function questions(store: () => Store): Pick<Fixture, 'search' | 'ask'> {
  return {
    async search(query) {
      return (await store().queries.logs({ limit: 100, where: [], ...query }, never)).records
    },
    ask: (query) =>
      store().queries.query(
        {
          where: [],
          sinceUnixNano: now - 3600n * secondNano,
          untilUnixNano: now + secondNano,
          limit: 1000,
          ...query,
        },
        never,
      ),
  }
}
