// The catalogue of series: which metric of which device, with which attributes, has which number. Found by the bytes
// of a point's attributes; only what was not seen before is decoded, sorted and looked up by its canonical form.
import type { PointCursor } from '../../plugins/contract/point-cursor.ts'
import { Writer } from '../../plugins/contract/wire.ts'
import { identityOf, kindOf, sorted } from '../../plugins/protocols/series.ts'
import type { MetricKind } from '../query.ts'
import type { Connection, Database } from './database.ts'
import { ByteInterner } from './interner.ts'
import { jsonObject } from './json-text.ts'

interface NewSeries {
  id: number
  device: string
  metric: string
  unit: string
  kind: MetricKind
  temporality: number
  identity: string
  attributes: string
  resource: number
}

const contextLimit = 100_000

export class SeriesCatalogue {
  readonly #limit: number
  /** Numbers in use; the limit is on these. */
  #live = 0
  #next = 1
  #nextContext = 1
  readonly #contexts = new ByteInterner()
  readonly #fast = new ByteInterner()
  #canonical = new ByteInterner()
  readonly #resourceOf = new Map<number, number>()
  readonly #key = new Writer(4096)
  #pending: NewSeries[] = []
  readonly #moved = new Map<number, number>()
  #lastContext = 0
  #lastMetric = -1
  readonly touched = new Set<number>()
  #touching = false
  #loaded = false

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#live
  }

  /** How many there are; which, the first write of points reads, so that opening need not wait for it. */
  async open(database: Database): Promise<void> {
    const [[count, last] = []] = await database.rows('SELECT count(*), coalesce(max(id), 0) FROM series')
    this.#live = Number(count)
    this.#next = Number(last) + 1
    this.#loaded = this.#live === 0
  }

  /** Call before `intern`. */
  async ready(database: Database): Promise<void> {
    if (!this.#loaded) await this.load(database)
  }

  async load(database: Database): Promise<void> {
    const rows = await database.rows(
      'SELECT id, device, metric, unit, kind, temporality, identity, attributes, resource FROM series',
    )
    this.#canonical = new ByteInterner()
    this.#resourceOf.clear()
    this.#fast.clear()
    for (const [id, device, metric, unit, kind, temporality, identity, attributes, resource] of rows) {
      const key = canonicalKey([device, metric, unit, kind, temporality, identity, attributes])
      this.#canonical.set(key, 0, key.length, Number(id))
      this.#resourceOf.set(Number(id), Number(resource))
      this.#next = Math.max(this.#next, Number(id) + 1)
    }
    this.#live = rows.length
    this.#loaded = true
  }

  /** Call before the first point of a batch: what was remembered of the last metric is of another request. */
  beginBatch(): void {
    this.#lastMetric = -1
  }

  /** The number of the series of the cursor's point; 0 where the limit is reached. */
  intern(cursor: PointCursor, device: string, deviceId: number, resource: number): number {
    if (cursor.metricIndex !== this.#lastMetric) {
      this.#lastContext = this.#contextOf(cursor, deviceId, resource)
      this.#lastMetric = cursor.metricIndex
    }
    const key = this.#key
    key.reset()
    key.fixed32(this.#lastContext)
    key.raw(cursor.bytes, cursor.attributes.start, cursor.attributes.end)
    const known = this.#fast.find(key.buffer, 0, key.position)
    const id = known >= 0 ? known : this.#internSlowly(cursor, device, resource)
    if (this.#touching && id > 0) this.touched.add(id)
    return id
  }

  #contextOf(cursor: PointCursor, deviceId: number, resource: number): number {
    const key = this.#key
    key.reset()
    key.fixed32(deviceId)
    key.fixed32(resource)
    key.string(kindOf(cursor))
    key.varint(cursor.temporality)
    key.bytes(cursor.bytes, cursor.name.start, cursor.name.end)
    key.bytes(cursor.bytes, cursor.unit.start, cursor.unit.end)
    const known = this.#contexts.find(key.buffer, 0, key.position)
    if (known >= 0) return known
    if (this.#contexts.size >= contextLimit) {
      this.#contexts.clear()
      this.#fast.clear()
    }
    const id = this.#nextContext++ >>> 0
    this.#contexts.set(key.buffer, 0, key.position, id)
    return id
  }

  #internSlowly(cursor: PointCursor, device: string, resource: number): number {
    const found = {
      device,
      metric: cursor.text(cursor.name),
      unit: cursor.text(cursor.unit),
      kind: kindOf(cursor),
      temporality: Math.min(cursor.temporality, 255),
      identity: JSON.stringify(sorted(identityOf(jsonObject(cursor.resourceAttributes())))),
      attributes: JSON.stringify(sorted(jsonObject(cursor.pointAttributes()))),
    }
    const canonical = canonicalKey(Object.values(found))
    let id = this.#canonical.find(canonical, 0, canonical.length)
    if (id < 0) {
      if (this.#live >= this.#limit) return 0
      id = this.#next++
      this.#live++
      this.#canonical.set(canonical, 0, canonical.length, id)
      this.#resourceOf.set(id, resource)
      this.#pending.push({ id, ...found, resource })
    } else if (this.#resourceOf.get(id) !== resource) {
      // The same series under a Resource that changed in a label, or by a restart: the newest is shown.
      this.#resourceOf.set(id, resource)
      this.#moved.set(id, resource)
    }
    if (cursor.hasContiguousAttributes()) {
      if (this.#fast.size >= 2 * this.#limit) this.#fast.clear()
      this.#key.reset()
      this.#key.fixed32(this.#lastContext)
      this.#key.raw(cursor.bytes, cursor.attributes.start, cursor.attributes.end)
      if (this.#fast.find(this.#key.buffer, 0, this.#key.position) < 0) {
        this.#fast.set(this.#key.buffer, 0, this.#key.position, id)
      }
    }
    return id
  }

  async save({ sql }: Connection): Promise<void> {
    if (this.#pending.length > 0) {
      const appender = await sql.createAppender('series')
      for (const series of this.#pending) {
        appender.appendUInteger(series.id)
        appender.appendVarchar(series.device)
        appender.appendVarchar(series.metric)
        appender.appendVarchar(series.unit)
        appender.appendVarchar(series.kind)
        appender.appendUTinyInt(series.temporality)
        appender.appendVarchar(series.identity)
        appender.appendVarchar(series.attributes)
        appender.appendUInteger(series.resource)
        appender.endRow()
      }
      appender.closeSync()
    }
    const byResource = new Map<number, number[]>()
    for (const [id, resource] of this.#moved) {
      const ids = byResource.get(resource)
      if (ids) ids.push(id)
      else byResource.set(resource, [id])
    }
    for (const [resource, ids] of byResource) {
      await sql.run(`UPDATE series SET resource = ${resource} WHERE id IN (${ids.join(',')})`)
    }
  }

  saved(): void {
    this.#pending = []
    this.#moved.clear()
  }

  /** From now on remembers which series get points, until `load` was called after a removal. */
  watch(on: boolean): void {
    this.#touching = on
    this.touched.clear()
  }

  /** Resources that series refer to. */
  resources(): Set<number> {
    return new Set(this.#resourceOf.values())
  }
}

const canonicalKey = (parts: readonly unknown[]): Buffer => Buffer.from(JSON.stringify(parts))
