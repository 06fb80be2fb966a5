// The store on InfluxDB 2: the side that the aggregator sees. Batches become line protocol and go to the bucket of their
// class; questions become InfluxQL. It holds rows only: position and sets of the writer are kept by the journal.
import { setImmediate } from 'node:timers/promises'
import type { Log } from '../../../plugins/contract/define.ts'
import { PermanentError, RetryableError, messageOf } from '../../../plugins/contract/errors.ts'
import { decompressSync } from '../../../plugins/protocols/compression.ts'
import type { Queries } from '../../query.ts'
import type { Store, StoreBatch, StoreReceipt, StreamCount } from '../store.ts'
import { influxSettings } from './address.ts'
import type { InfluxAddress, InfluxSettings } from './address.ts'
import { prepareBuckets } from './buckets.ts'
import type { Buckets } from './buckets.ts'
import { Connection } from './connection.ts'
import { Audit, Written } from './audit.ts'
import { Bodies } from './bodies.ts'
import type { Lines } from './line.ts'
import { LogLines, ServiceTags } from './log-lines.ts'
import { prepareTasks } from './downsample.ts'
import { knownOf } from './known.ts'
import { PointLines } from './point-lines.ts'
import { listMetrics } from './catalogue.ts'
import { searchLogs } from './query-logs.ts'
import { latestValues, queryMetric } from './query-series.ts'
import { setAside } from './rejected.ts'
import { sendLines } from './sending.ts'
import type { Rejected } from './sending.ts'
import { Series } from './series.ts'

/** No batch is larger when it is decompressed; those on the wire are below 1 MB. */
const bareLimit = 32 * 1024 * 1024
const yieldBatches = 40
/** InfluxDB takes one while the next is written here. */
const bodiesAtOnce = 2
const auditMs = 600_000

export type InfluxStoreOptions = Partial<InfluxSettings> &
  InfluxAddress &
  Pick<InfluxSettings, 'token'> & { log: Log }

export interface InfluxStore extends Store {
  /** Has InfluxDB count what it confirmed, of all hours that are over; what is missing is in `status`. */
  audit(nowMs?: number): Promise<void>
}

/** What is known of InfluxDB once it has answered. */
interface Prepared {
  buckets: Buckets
}

/**
 * The store on the InfluxDB that `options` name. It need not be up: whatever is written waits until it is.
 * @throws PermanentError CREDENTIAL_MISSING where there is no token.
 */
export function openInfluxStore(options: InfluxStoreOptions): InfluxStore {
  const { log, ...given } = options
  const settings = influxSettings(given)
  settings.token()
  return new StoreOnInflux(settings, log)
}

class StoreOnInflux implements InfluxStore {
  readonly #settings: InfluxSettings
  readonly #connection: Connection
  readonly #log: Log
  readonly #services: ServiceTags
  readonly #series: Series
  readonly #logLines: LogLines
  readonly #pointLines: PointLines
  #preparing: Promise<Prepared> | undefined
  /** Records that InfluxDB confirmed since the start. */
  #stored = 0
  #error: string | undefined
  /** Why InfluxDB is not known yet. */
  #unknown: string | undefined
  readonly #ended = new AbortController()
  readonly #audit: Audit
  #last: readonly StoreBatch[] | undefined
  readonly keepsState = false
  readonly queries: Queries

  constructor(settings: InfluxSettings, log: Log) {
    this.#settings = settings
    this.#connection = new Connection(settings)
    this.#audit = new Audit(log)
    const timer = setInterval(() => void this.audit(), auditMs).unref()
    this.#ended.signal.addEventListener('abort', () => clearInterval(timer), { once: true })
    this.#log = log
    this.#services = new ServiceTags(settings.maxServices)
    this.#series = new Series(settings.maxSeries, settings.tags)
    this.#logLines = new LogLines(this.#services)
    this.#pointLines = new PointLines(this.#series)
    const asked = async <T>(
      signal: AbortSignal,
      ask: (connection: Connection, buckets: Buckets, signal: AbortSignal) => Promise<T>,
    ): Promise<T> => {
      signal.throwIfAborted()
      const { buckets } = await this.#prepared()
      return ask(this.#connection, buckets, AbortSignal.any([signal, this.#ended.signal]))
    }
    this.queries = {
      logs: (query, signal) => asked(signal, (c, b, s) => searchLogs(c, b, query, s)),
      metrics: (device, signal) => asked(signal, (c, b, s) => listMetrics(c, b, device, s)),
      query: (query, signal) => asked(signal, (c, b, s) => queryMetric(c, b, query, s)),
      latest: (device, signal) => asked(signal, (c, b, s) => latestValues(c, b, device, s)),
    }
  }

  load(): ReturnType<Store['load']> {
    return Promise.resolve({ position: {}, streams: new Map() })
  }

  count(): Promise<StreamCount[]> {
    return Promise.resolve([])
  }

  async write(batches: readonly StoreBatch[]): Promise<readonly StoreReceipt[]> {
    if (batches.length === 0) return []
    try {
      const receipts = await this.#put(batches)
      this.#error = undefined
      return receipts
    } catch (error) {
      this.#series.settle(false)
      this.#error = messageOf(error)
      // A bucket that is gone is made again.
      if (error instanceof RetryableError && error.code === 'PEER_REFUSED') this.#preparing = undefined
      throw error
    }
  }

  async #put(batches: readonly StoreBatch[]): Promise<StoreReceipt[]> {
    const { buckets } = await this.#prepared()
    const receipts: { stored: number; rejected: number }[] = []
    const written = new Written()
    const bodies = new Bodies(bodiesAtOnce, async (bucket, lines) => {
      const rejected = await this.#send(bucket, lines)
      written.add(bucket, lines, batches, new Set(rejected.map(({ index }) => index)))
      for (const { owner } of rejected) {
        const receipt = receipts[owner]
        // A line of the catalogue is of no batch.
        if (!receipt) continue
        receipt.stored--
        receipt.rejected++
      }
    })
    try {
      for (const [index, batch] of batches.entries()) {
        // Lets others in: encoding 100,000 lines takes some 200 ms.
        if (index % yieldBatches === yieldBatches - 1) await setImmediate()
        const bucket = buckets.of(batch.class ?? batch.header.class)
        const lines = bodies.of(bucket)
        receipts.push(this.#add(batch, index, lines))
        if (lines.bytes >= this.#settings.bodyBytes) await bodies.send(bucket)
      }
    } finally {
      // Also after a failure: nothing of this write may be under way when it is repeated.
      await bodies.finish()
    }
    this.#series.settle(true)
    // A write that is repeated as a whole, because its state could not be saved, counts once.
    if (this.#last !== batches) this.#audit.confirm(written)
    this.#last = batches
    this.#complain()
    for (const { stored } of receipts) this.#stored += stored
    return receipts
  }

  #add(batch: StoreBatch, owner: number, lines: Lines): { stored: number; rejected: number } {
    const { header, signal, arrivedUnixNano, first = 0 } = batch
    const place = {
      header,
      owner,
      first,
      arrivedLow: Number(arrivedUnixNano & 0xffffffffn),
      arrivedHigh: Number((arrivedUnixNano >> 32n) & 0xffffffffn),
    }
    const writer = signal === 'logs' ? this.#logLines : this.#pointLines
    return writer.add(this.#bare(batch), place, lines)
  }

  /** The request; an empty one where the bytes are no batch at all, so that all of it counts as rejected. */
  #bare({ value, header }: StoreBatch): Uint8Array {
    try {
      return decompressSync(value, bareLimit)
    } catch (error) {
      if (!(error instanceof PermanentError)) throw error
      const { collector, device, session, class: name, seq, count } = header
      const where = { collector, device, session, class: name, seq, count }
      this.#log.error('batch unreadable', { ...where, error: error.message })
      return new Uint8Array(0)
    }
  }

  async #send(bucket: string, lines: Lines): Promise<Rejected[]> {
    const rejected = await sendLines(this.#connection, bucket, lines)
    if (rejected.length > 0) await setAside(this.#connection, bucket, rejected, this.#log)
    return rejected
  }

  #complain(): void {
    if (this.#pointLines.overLimit > 0) {
      const fields = { rejected: this.#pointLines.overLimit, limit: this.#settings.maxSeries }
      this.#log.warn('points of new series rejected: too many series', fields)
      this.#pointLines.overLimit = 0
    }
    if (this.#services.overLimit > 0) {
      const fields = { records: this.#services.overLimit, limit: this.#settings.maxServices }
      this.#log.warn('records stored without the tag service.name: too many services', fields)
      this.#services.overLimit = 0
    }
  }

  #prepared(): Promise<Prepared> {
    this.#preparing ??= this.#prepare().catch((error: unknown) => {
      this.#preparing = undefined
      throw error
    })
    return this.#preparing
  }

  async #prepare(): Promise<Prepared> {
    const buckets = await prepareBuckets(this.#connection, this.#log)
    // Only InfluxDB 2 manages buckets, and only it is asked.
    if (buckets.managed) {
      const { series, services } = await knownOf(this.#connection, buckets)
      this.#series.load(series)
      this.#services.load(services)
      if (this.#settings.downsampledMs > 0) await prepareTasks(this.#connection, buckets, this.#log)
    }
    return { buckets }
  }

  /** A wrong address or token must show before there is anything to write. */
  async #meet(): Promise<void> {
    try {
      await this.#prepared()
      this.#unknown = undefined
    } catch (error) {
      const what = messageOf(error)
      if (what !== this.#unknown) this.#log.warn('InfluxDB is not ready', { error: what })
      this.#unknown = what
    }
  }

  async audit(nowMs = Date.now()): Promise<void> {
    const prepared = await this.#prepared().catch(() => undefined)
    if (!prepared?.buckets.managed) return
    await this.#audit.look(this.#connection, prepared.buckets, nowMs, this.#ended.signal)
  }

  async status(): ReturnType<Store['status']> {
    await this.#meet()
    const what = this.#error ?? this.#unknown ?? this.#audit.failure
    const error = what === undefined ? {} : { error: what }
    return { bytes: 0, rows: this.#stored, files: 0, oldestUnixNano: undefined, ...error }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort(new RetryableError('STOPPING', 'the store is closing'))
  }
}
