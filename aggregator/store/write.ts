// Writing: batches into hot tables, with the writer's position and streams, in one transaction.
import { setImmediate } from 'node:timers/promises'
import duckdb from '@duckdb/node-bindings'
import { decompressSync } from '../../plugins/protocols/compression.ts'
import { PermanentError } from '../../plugins/contract/errors.ts'
import type { Class } from '../../plugins/contract/signal.ts'
import { Chunk, createTableSql } from './columns.ts'
import { Mutex } from './database.ts'
import type { Database } from './database.ts'
import { loadDictionaries } from './dictionaries.ts'
import type { Dictionaries } from './dictionaries.ts'
import { LogRows } from './log-rows.ts'
import type { Rows, Stored } from './log-rows.ts'
import type { LogEvent, WriteBatch, WriteRequest } from './messages.ts'
import { PointRows } from './point-rows.ts'
import { batchLayout, hotTable, layoutOf } from './schema.ts'
import { Segments, emptySegment, hotRowBytes } from './segments.ts'
import type { Segment, StoredSignal } from './segments.ts'
import { SeriesCatalogue } from './series.ts'
import type { DuckStoreSettings } from './settings.ts'
import { StateTable } from './state.ts'
import { addTally } from './tally.ts'

/** No batch is larger when it is decompressed; those on the wire are below 1 MB. */
const bareLimit = 32 * 1024 * 1024

const yieldBatches = 40

/** Rows of one signal and class on their way into its open segment, within one write. */
interface Lane {
  readonly signal: StoredSignal
  readonly class: Class
  readonly rows: Rows
  segment: Segment | undefined
  appender: duckdb.Appender | undefined
}

/** What a write adds to a segment once it is committed. */
interface Growth {
  rows: number
  bytes: number
  atFrom: number
  atTo: number
  arrivalFrom: number
  arrivalTo: number
}

/** One open database and everything in memory that belongs to it. */
export class Engine {
  readonly database: Database
  readonly settings: DuckStoreSettings
  readonly segments: Segments
  readonly dictionaries: Dictionaries
  readonly series: SeriesCatalogue
  readonly state: StateTable
  /** Held by whatever changes the database. */
  readonly lock = new Mutex()
  readonly #say: (event: LogEvent) => void
  readonly #lanes = new Map<string, Lane>()
  readonly #batches = new Chunk(batchLayout)
  #growth = new Map<Segment, Growth>()
  #created: Segment[] = []
  /** Set by whoever measures the directory; writes are refused while it is. */
  full: string | undefined

  private constructor(
    database: Database,
    settings: DuckStoreSettings,
    dictionaries: Dictionaries,
    say: (event: LogEvent) => void,
  ) {
    this.database = database
    this.settings = settings
    this.dictionaries = dictionaries
    this.segments = new Segments(database.directory)
    this.series = new SeriesCatalogue(settings.maxSeries)
    this.state = new StateTable()
    this.#say = say
  }

  static async load(
    database: Database,
    settings: DuckStoreSettings,
    say: (event: LogEvent) => void,
  ): Promise<Engine> {
    const engine = new Engine(database, settings, await loadDictionaries(database), say)
    await engine.segments.load(database, settings.segmentRows)
    await engine.series.open(database)
    await engine.state.load(database)
    return engine
  }

  write(request: WriteRequest): Promise<Stored[]> {
    return this.lock.run(() => this.#write(request))
  }

  /** Forgets names and totals of the streams of which no row is left, and says which they were. */
  forget(streams: readonly string[]): Promise<string[]> {
    return this.lock.run(async () => {
      const names = this.dictionaries.streams
      const ids = new Map<number, string>()
      for (const name of streams) {
        const id = names.find(name)
        if (id !== undefined) ids.set(id, name)
      }
      if (ids.size > 0) {
        const used = await this.database.rows(
          `SELECT DISTINCT stream FROM batches WHERE stream IN (${[...ids.keys()].join(',')})`,
        )
        for (const [id] of used) ids.delete(Number(id))
      }
      const gone = [...ids.keys()].join(',')
      if (gone !== '')
        await this.database.transaction(() =>
          this.database.run(
            `DELETE FROM tally WHERE stream IN (${gone}); DELETE FROM streams WHERE id IN (${gone})`,
          ),
        )
      for (const name of ids.values()) names.forget(name)
      return [...ids.values()]
    })
  }

  async #write(request: WriteRequest): Promise<Stored[]> {
    const receipts: Stored[] = []
    if (request.batches.some(({ signal }) => signal === 'metrics')) await this.series.ready(this.database)
    try {
      await this.database.transaction(async () => {
        let offset = 0
        for (const [index, batch] of request.batches.entries()) {
          // Lets questions in: decoding 100,000 rows takes some 200 ms.
          if (index % yieldBatches === yieldBatches - 1) await setImmediate()
          const value = new Uint8Array(request.values, offset, batch.length)
          offset += batch.length
          receipts.push(await this.#batch(batch, value))
        }
        await this.#finish(request, receipts)
      })
    } catch (error) {
      this.#abandon()
      throw error
    }
    this.#committed(request)
    return receipts
  }

  async #batch(batch: WriteBatch, value: Uint8Array): Promise<Stored> {
    if (batch.count === 0 && value.length === 0) return { stored: 0, rejected: 0 }
    const { dictionaries } = this
    const lane = this.#laneOf(batch.signal, batch.class)
    const segment = await this.#segmentOf(lane)
    const place = {
      device: dictionaries.devices.intern(batch.device),
      stream: dictionaries.streams.intern(batch.stream),
      seq: batch.seq,
      first: batch.first,
      count: batch.count,
      arrivedLow: Number(batch.arrivedUnixNano & 0xffffffffn),
      arrivedHigh: Number((batch.arrivedUnixNano >> 32n) & 0xffffffffn),
    }
    if (lane.rows instanceof PointRows) lane.rows.device = batch.device
    lane.rows.clearSpan()
    const receipt = lane.rows.add(this.#bare(value, batch), place, () => flush(lane))
    if (receipt.stored === 0) return receipt
    this.#grow(segment, batch, receipt.stored, lane.rows)
    this.#noteBatch(place.stream, batch.seq, segment.id, receipt.stored)
    return receipt
  }

  /** The request; an empty one where the bytes are no batch at all, so that all of it counts as rejected. */
  #bare(value: Uint8Array, batch: WriteBatch): Uint8Array {
    try {
      return decompressSync(value, bareLimit)
    } catch (error) {
      if (!(error instanceof PermanentError)) throw error
      const { stream, seq, count } = batch
      this.#say({
        level: 'error',
        message: 'batch unreadable',
        fields: { stream, seq, count, error: error.message },
      })
      return new Uint8Array(0)
    }
  }

  #laneOf(signal: StoredSignal, name: Class): Lane {
    const key = `${signal}/${name}`
    let lane = this.#lanes.get(key)
    if (!lane) {
      const rows =
        signal === 'logs' ? new LogRows(this.dictionaries) : new PointRows(this.dictionaries, this.series)
      lane = { signal, class: name, rows, segment: undefined, appender: undefined }
      this.#lanes.set(key, lane)
    }
    return lane
  }

  /** The segment that takes the lane's next batch: a batch lies in one segment only. */
  async #segmentOf(lane: Lane): Promise<Segment> {
    let { segment } = lane
    const limit = this.settings.segmentRows[lane.signal]
    if (segment && this.#rowsOf(segment) >= limit) {
      closeAppender(lane)
      segment = undefined
    }
    segment ??= this.segments.all.find(
      (each) =>
        each.signal === lane.signal &&
        each.class === lane.class &&
        each.state === 'open' &&
        this.#rowsOf(each) < limit,
    )
    if (!segment) {
      segment = emptySegment(this.segments.reserve(), lane.signal, lane.class)
      this.#created.push(segment)
      await this.database.run(
        `${createTableSql(hotTable(segment.id), layoutOf[lane.signal])};
         INSERT INTO segments VALUES (${segment.id}, '${lane.signal}', '${lane.class}', NULL, 0, 0, 0, 0, 0, 0)`,
      )
    }
    lane.segment = segment
    lane.appender ??= duckdb.appender_create(this.database.writer.raw, null, hotTable(segment.id))
    return segment
  }

  #rowsOf(segment: Segment): number {
    return segment.rows + (this.#growth.get(segment)?.rows ?? 0)
  }

  #grow(segment: Segment, batch: WriteBatch, rows: number, span: { from: number; to: number }): void {
    const arrived = Number(batch.arrivedUnixNano)
    const old = this.#growth.get(segment)
    this.#growth.set(segment, {
      rows: (old?.rows ?? 0) + rows,
      bytes: (old?.bytes ?? 0) + rows * hotRowBytes[batch.signal],
      atFrom: Math.min(old?.atFrom ?? Infinity, span.from),
      atTo: Math.max(old?.atTo ?? -Infinity, span.to),
      arrivalFrom: Math.min(old?.arrivalFrom ?? Infinity, arrived),
      arrivalTo: Math.max(old?.arrivalTo ?? -Infinity, arrived),
    })
  }

  #batchAppender: duckdb.Appender | undefined

  #noteBatch(stream: number, seq: number, segment: number, written: number): void {
    const chunk = this.#batches
    const row = chunk.rows++
    chunk.integers(0)[row] = stream
    chunk.words(1)[row * 2] = seq % 4_294_967_296
    chunk.words(1)[row * 2 + 1] = Math.floor(seq / 4_294_967_296)
    chunk.integers(2)[row] = segment
    chunk.integers(3)[row] = written
    this.#batchAppender ??= duckdb.appender_create(this.database.writer.raw, null, 'batches')
    if (chunk.full) chunk.append(this.#batchAppender)
  }

  async #finish(request: WriteRequest, receipts: readonly Stored[]): Promise<void> {
    for (const lane of this.#lanes.values()) closeAppender(lane)
    if (this.#batchAppender) {
      this.#batches.append(this.#batchAppender)
      duckdb.appender_close_sync(this.#batchAppender)
      this.#batchAppender = undefined
    }
    const { writer } = this.database
    const { streams, devices, services, resources } = this.dictionaries
    for (const table of [streams, devices, services, resources, this.series]) await table.save(writer)
    await this.state.save(this.database, request)
    const rejected = new Map<number, number>()
    for (const [index, { stream }] of request.batches.entries()) {
      const count = receipts[index]?.rejected ?? 0
      if (count === 0) continue
      const id = streams.intern(stream)
      rejected.set(id, (rejected.get(id) ?? 0) + count)
    }
    await addTally(this.database, 'rejected', rejected)
  }

  #committed(request: WriteRequest): void {
    const { streams, devices, services, resources } = this.dictionaries
    for (const table of [streams, devices, services, resources, this.series]) table.saved()
    this.state.saved(request)
    for (const [segment, growth] of this.#growth) {
      segment.rows += growth.rows
      segment.bytes += growth.bytes
      segment.atFrom = Math.min(segment.atFrom, growth.atFrom)
      segment.atTo = Math.max(segment.atTo, growth.atTo)
      segment.arrivalFrom = Math.min(segment.arrivalFrom, growth.arrivalFrom)
      segment.arrivalTo = Math.max(segment.arrivalTo, growth.arrivalTo)
      // A segment that got too large, or that was followed by a new one, takes nothing any more.
      if (segment.rows >= this.settings.segmentRows[segment.signal]) segment.state = 'closed'
    }
    for (const segment of this.#created) this.segments.add(segment)
    this.#growth = new Map()
    this.#created = []
    this.#complain()
  }

  #complain(): void {
    for (const { rows } of this.#lanes.values()) {
      if (!(rows instanceof PointRows) || rows.overLimit === 0) continue
      const fields = { rejected: rows.overLimit, limit: this.settings.maxSeries }
      this.#say({ level: 'warn', message: 'points of new series rejected: too many series', fields })
      rows.overLimit = 0
    }
  }

  /** After a failure nothing of the write may be left in the buffers. */
  #abandon(): void {
    for (const lane of this.#lanes.values()) {
      lane.rows.chunk.clear()
      discard(lane.appender)
      lane.appender = undefined
      lane.segment = undefined
    }
    this.#batches.clear()
    discard(this.#batchAppender)
    this.#batchAppender = undefined
    this.#growth = new Map()
    this.#created = []
  }
}

function flush(lane: Lane): void {
  if (lane.appender) lane.rows.chunk.append(lane.appender)
}

function closeAppender(lane: Lane): void {
  if (!lane.appender) return
  flush(lane)
  duckdb.appender_close_sync(lane.appender)
  lane.appender = undefined
  lane.segment = undefined
}

function discard(appender: duckdb.Appender | undefined): void {
  if (!appender) return
  try {
    duckdb.appender_clear(appender)
    duckdb.appender_close_sync(appender)
  } catch {
    // It failed already, and its transaction is rolled back: there is nothing left to lose.
  }
}
