// The catalogue of series: which metric of which device, with which attributes, is which series of InfluxDB. Tags are
// text and an allow-list, so each series carries a short name as a tag, and `dpulse_series` tells what that means.
// It lies in the bucket of the points and is told again every day, so that it ends when they do.
import { createHash } from 'node:crypto'
import type { PointCursor } from '../../../plugins/contract/point-cursor.ts'
import { Writer } from '../../../plugins/contract/wire.ts'
import type { Json } from '../../query.ts'
import { ByteInterner } from '../interner.ts'
import { jsonObject } from '../json-text.ts'
import { identityOf, kindOf, sorted } from '../../../plugins/protocols/series.ts'
import { ascii, fieldText, measurementText, tagOf, tagText, utf8 } from './line.ts'
import type { Lines } from './line.ts'

/** What InfluxDB knows under a name of our own; a metric that has it goes by another one. */
export const ownMeasurements = { logs: 'logs', series: 'dpulse_series', rejected: 'rejected' } as const

/** The measurement that holds a metric's points. */
export function measurementOf(metric: string): string {
  const name = measurementName(metric)
  const isTaken = (Object.values(ownMeasurements) as string[]).includes(name)
  return isTaken ? `${name}_metric` : name
}

/** A line that begins with a number sign is a comment, one without a measurement is none; `_` is InfluxDB's own. */
function measurementName(metric: string): string {
  const name = tagValue(metric)
  return name === '' ? 'unnamed' : /^[#_]/.test(name) ? `metric${name}` : name
}

/** Text as it stands in a tag once InfluxDB has read it. */
export const tagValue = (text: string): string => tagText(text).replaceAll(/\\([ ,=])/g, '$1')

/** One form in which points of a series come: its tags as bytes, up to the first field. */
export interface Entry {
  readonly head: Buffer
  readonly series: number
}

const reserved = new Set(['_field', '_measurement', 'time', 'dpulse.series', 'host.id'])
const contextLimit = 100_000
const formLimit = 400_000
/** Of all tags together; InfluxDB takes 64 KiB. */
const tagBytes = 8192
const dayNano = 86_400e9

export class Series {
  readonly #limit: number
  readonly #tags: readonly string[]
  readonly #numbers = new Map<string, number>()
  /** By number: the day on which it was told last, and under which Resource. */
  readonly #told: { day: number; resource: number }[] = []
  readonly #resources = new ByteInterner()
  readonly #contexts = new ByteInterner()
  readonly #fast = new ByteInterner()
  #entries: Entry[] = []
  #nextContext = 1
  #nextResource = 1
  readonly #key = new Writer(4096)
  #lastContext = 0
  #lastMetric = -1
  #lastResource = 0
  /** Numbers of series that were told in writes which are not yet confirmed. */
  #pending: number[] = []
  /** Series that InfluxDB has and that nobody has met here yet. */
  readonly #known = new Set<string>()

  constructor(limit: number, tags: readonly string[]) {
    this.#limit = limit
    this.#tags = tags
  }

  /** Those that InfluxDB has already: the limit is on all. */
  load(names: Iterable<string>): void {
    for (const name of names) if (!this.#numbers.has(name)) this.#known.add(name)
  }

  get size(): number {
    return this.#known.size + this.#numbers.size
  }

  /** Call before the first point of each Resource of a batch. */
  begin({ bytes, resource }: PointCursor): void {
    this.#lastMetric = -1
    const known = this.#resources.find(bytes, resource.start, resource.end)
    if (known >= 0) {
      this.#lastResource = known
      return
    }
    if (this.#resources.size >= contextLimit) {
      this.#resources.clear()
      this.#forgetForms()
    }
    this.#lastResource = this.#nextResource++
    this.#resources.set(bytes, resource.start, resource.end, this.#lastResource)
  }

  /** The form of the cursor's point, told of in `lines` where that is due; undefined beyond the limit. */
  intern(cursor: PointCursor, device: string, arrivedNano: number, lines: Lines): Entry | undefined {
    if (cursor.metricIndex !== this.#lastMetric) {
      this.#lastContext = this.#contextOf(cursor, device)
      this.#lastMetric = cursor.metricIndex
    }
    const known = this.#findForm(cursor)
    const entry = known >= 0 ? this.#entries[known] : undefined
    const day = Math.floor(arrivedNano / dayNano)
    if (entry && (this.#told[entry.series]?.day ?? -1) >= day) return entry
    return this.#internSlowly(cursor, device, arrivedNano, lines)
  }

  /** After a write: what it told InfluxDB has, or must be told again. */
  settle(isWritten: boolean): void {
    for (const number of isWritten ? [] : this.#pending) {
      const told = this.#told[number]
      if (told) told.day = -1
    }
    this.#pending = []
  }

  #contextOf(cursor: PointCursor, device: string): number {
    const key = this.#key
    key.reset()
    key.string(device)
    key.fixed32(this.#lastResource)
    key.string(kindOf(cursor))
    key.varint(cursor.temporality)
    key.bytes(cursor.bytes, cursor.name.start, cursor.name.end)
    key.bytes(cursor.bytes, cursor.unit.start, cursor.unit.end)
    const known = this.#contexts.find(key.buffer, 0, key.position)
    if (known >= 0) return known
    if (this.#contexts.size >= contextLimit) this.#forgetForms()
    const id = this.#nextContext++ >>> 0
    this.#contexts.set(key.buffer, 0, key.position, id)
    return id
  }

  #findForm({ bytes, attributes }: PointCursor): number {
    return this.#fast.find(bytes, attributes.start, attributes.end, this.#lastContext)
  }

  #internSlowly(cursor: PointCursor, device: string, arrivedNano: number, lines: Lines): Entry | undefined {
    const resource = jsonObject(cursor.resourceAttributes())
    const attributes = sorted(jsonObject(cursor.pointAttributes()))
    const found: Description = {
      device,
      metric: cursor.text(cursor.name),
      unit: cursor.text(cursor.unit),
      kind: kindOf(cursor),
      temporality: Math.min(cursor.temporality, 255),
      identity: JSON.stringify(sorted(identityOf(resource))),
      attributes: JSON.stringify(attributes),
    }
    const name = createHash('sha256')
      .update(JSON.stringify(Object.values(found)))
      .digest('hex')
      .slice(0, 16)
    let series = this.#numbers.get(name)
    if (series === undefined) {
      if (!this.#known.delete(name) && this.size >= this.#limit) return undefined
      series = this.#told.push({ day: -1, resource: 0 }) - 1
      this.#numbers.set(name, series)
    }
    const told = this.#told[series]
    const day = Math.floor(arrivedNano / dayNano)
    // New, or of another day, or under a Resource that changed in a label or by a restart: the newest is shown.
    if (told && (told.day < day || told.resource !== this.#lastResource)) {
      told.day = day
      told.resource = this.#lastResource
      this.#pending.push(series)
      catalogueLine(lines, name, found, JSON.stringify(resource), arrivedNano)
    }
    const entry = { head: headOf(name, found, this.#tagsOf(resource, attributes)), series }
    // Where its bytes differ from point to point, remembering them is of no use.
    if (cursor.hasContiguousAttributes() && this.#findForm(cursor) < 0) {
      if (this.#entries.length >= Math.min(formLimit, 2 * this.#limit)) this.#forgetForms()
      else {
        const { bytes, attributes: at } = cursor
        this.#fast.set(bytes, at.start, at.end, this.#entries.push(entry) - 1, this.#lastContext)
      }
    }
    return entry
  }

  /** Attributes as tags: those of the point come before those of its Resource. */
  #tagsOf(resource: Readonly<Record<string, Json>>, attributes: Readonly<Record<string, Json>>): string[] {
    const values = new Map<string, Json>()
    for (const key of this.#tags)
      if (Object.hasOwn(resource, key)) values.set(tagValue(key), resource[key] ?? '')
    for (const [key, value] of Object.entries(attributes)) values.set(tagValue(key), value)
    for (const key of reserved) values.delete(key)
    let left = tagBytes
    const tags: string[] = []
    for (const [key, value] of [...values].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const tag = tagOf(key, typeof value === 'string' ? value : JSON.stringify(value))
      left -= tag.length
      if (left >= 0) tags.push(tag)
    }
    return tags
  }

  #forgetForms(): void {
    this.#contexts.clear()
    this.#fast.clear()
    this.#entries = []
    this.#lastMetric = -1
  }
}

interface Description {
  device: string
  metric: string
  unit: string
  kind: string
  temporality: number
  identity: string
  attributes: string
}

function headOf(name: string, { device, metric }: Description, tags: readonly string[]): Buffer {
  const measurement = measurementText(measurementOf(metric))
  return Buffer.from(`${measurement},dpulse.series=${name}${tagOf('host.id', device)}${tags.join('')}`)
}

function catalogueLine(
  lines: Lines,
  name: string,
  found: Description,
  resource: string,
  arrivedNano: number,
): void {
  const { out } = lines
  const { device, temporality, ...texts } = found
  const tags = `,dpulse.series=${name}${tagOf('host.id', device)}${tagOf('metric', measurementOf(found.metric))}`
  utf8(out, `${ownMeasurements.series}${tags} temporality=${temporality}i`)
  for (const [key, text] of Object.entries({ ...texts, device, resource })) {
    const bytes = Buffer.from(text)
    ascii(out, `,${key}="`)
    fieldText(out, bytes, 0, bytes.length)
    out.byte(0x22)
  }
  // To the microsecond, which a double holds: the time of what is told need not be exact.
  ascii(out, ` ${Math.floor(arrivedNano / 1000)}000`)
  lines.end(-1)
}
