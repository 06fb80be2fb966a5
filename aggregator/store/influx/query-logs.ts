// The search of log records: from the newest backwards through windows of time that grow, until the page is full, then
// answered oldest first.
//
// InfluxDB sorts by the stored time, whose low bits are a number; answers are sorted by the time of the record, then
// stream, number of the batch and place in it, as in the embedded store. So rows are read until the span of time that
// the last of them shares its stored bits with is complete, and sorted here.
import { formatTime } from '../../time.ts'
import { QueryRefused } from '../../query.ts'
import type { Json, LogPage, LogQuery, LogRecordRow } from '../../query.ts'
import type { Buckets } from './buckets.ts'
import { everywhere } from './buckets.ts'
import { quotedName, quotedText } from './connection.ts'
import type { Connection, Row } from './connection.ts'
import { numberBits } from './line.ts'

const pageRows = 10_000
const pageBytes = 16 * 1024 * 1024
const hourNano = 3_600_000_000_000n
const largest = 2n ** 63n - 1n
const spanBits = BigInt(numberBits)
const spanMask = 2n ** spanBits - 1n

/** Where a record stands in the order of answers. */
interface Key {
  at: bigint
  stream: string
  seq: number
  index: number
}

interface Found extends Key {
  bytes: number
  /** The body as it lies there: text, or the JSON text of another value. */
  body: string
  record: LogRecordRow
}

const columns = [
  'record',
  'body',
  'body_form',
  'severity_number',
  'severity_text',
  'attributes',
  'resource',
  'event_name',
  'time_unix_nano',
  'observed_time_unix_nano',
  'arrived_unix_nano',
]

export async function searchLogs(
  connection: Connection,
  buckets: Buckets,
  query: LogQuery,
  signal: AbortSignal,
): Promise<LogPage> {
  const wanted = Math.min(query.limit, pageRows)
  if (wanted <= 0) return { records: [] }
  const before = query.before === undefined ? undefined : decodeCursor(query.before)
  const since = clamped(query.sinceUnixNano ?? 0n)
  let until = clamped(query.untilUnixNano ?? largest)
  if (before && before.at + 1n < until) until = before.at + 1n
  const matches = matcherOf(query, since, until, before)
  const where = filterOf(query)
  const page = new Page(wanted)
  for (const [from, to] of windows(since, until)) {
    const range = `time >= ${from} AND time <= ${to}`
    const fields = columns.map((name) => `${quotedName(name)}::field`).join(', ')
    const text = `SELECT ${fields}, "host.id"::tag FROM ${everywhere(buckets, 'logs')}
      WHERE ${[range, ...where].join(' AND ')} ORDER BY time DESC`
    for await (const row of connection.rows(text, signal)) {
      if (!page.takes(BigInt(row.text('time')))) break
      const found = foundOf(row)
      if (matches(found)) page.add(found)
    }
    if (page.isFull) break
  }
  return page.answer()
}

/** The newest records so far. */
class Page {
  readonly #wanted: number
  readonly #found: Found[] = []
  #bytes = 0
  /** The span of stored times in which the page became full: it is read to its end. */
  #last: bigint | undefined

  constructor(wanted: number) {
    this.#wanted = wanted
  }

  get isFull(): boolean {
    return this.#last !== undefined
  }

  /** False where nothing of this time, or before, can be in the answer. */
  takes(time: bigint): boolean {
    return this.#last === undefined || time >> spanBits >= this.#last
  }

  add(found: Found): void {
    this.#found.push(found)
    this.#bytes += found.bytes
    if (this.#found.length <= this.#wanted && this.#bytes <= pageBytes) return
    this.#last ??= found.at >> spanBits
    // A flood within one span: only the newest of it can be answered.
    if (this.#found.length >= 2 * this.#wanted + 1000) this.#prune()
  }

  #prune(): void {
    this.#found.sort(newestFirst)
    let bytes = 0
    let keep = 0
    while (keep < this.#found.length && keep <= this.#wanted && bytes <= pageBytes)
      bytes += this.#found[keep++]?.bytes ?? 0
    // One more than is answered tells that there is more.
    this.#found.length = Math.min(this.#found.length, keep + 1)
    this.#bytes = this.#found.reduce((sum, each) => sum + each.bytes, 0)
  }

  answer(): LogPage {
    this.#found.sort(newestFirst)
    const page: Found[] = []
    let bytes = 0
    for (const found of this.#found.slice(0, this.#wanted)) {
      bytes += found.bytes
      if (bytes > pageBytes && page.length > 0) break
      page.push(found)
    }
    const last = page.at(-1)
    const records = page.map(({ record }) => record).reverse()
    return last && this.#found.length > page.length ? { records, next: encodeCursor(last) } : { records }
  }
}

/** Stored times from the newest back: a quarter of an hour, then four times as much, and so on. Both ends belong. */
function* windows(since: bigint, until: bigint): Generator<[from: bigint, to: bigint]> {
  if (since >= until) return
  const oldest = (since >> spanBits) << spanBits
  const newest = (until - 1n) | spanMask
  let to = newest
  const now = BigInt(Date.now()) * 1_000_000n + hourNano
  // What is dated later than now is rare: one look at all of it.
  if (to > now && now > oldest) {
    yield [(now >> spanBits) << spanBits, to]
    to = ((now >> spanBits) << spanBits) - 1n
  }
  for (let size = hourNano / 4n; to >= oldest; size *= 4n) {
    const begin = ((to - size) >> spanBits) << spanBits
    const from = begin > oldest ? begin : oldest
    yield [from, to]
    to = from - 1n
  }
}

function foundOf(row: Row): Found {
  const id = row.text('record')
  const [, stream = '', seq = '', index = ''] = /^(.*)\/(\d+)\/(\d+)$/s.exec(id) ?? []
  const body = row.text('body')
  const attributes = row.text('attributes')
  const time = unsigned(row.text('time_unix_nano'))
  const arrived = row.text('arrived_unix_nano')
  const record: LogRecordRow = {
    id,
    time: formatTime(time),
    observedTime: formatTime(unsigned(row.text('observed_time_unix_nano'))),
    device: row.text('host.id'),
    severityNumber: Number(row.text('severity_number')),
    severityText: row.text('severity_text'),
    body: row.text('body_form') === '1' ? (JSON.parse(body) as Json) : body,
    attributes: attributes === '' ? {} : (JSON.parse(attributes) as Record<string, Json>),
    resource: resourceOf(row.text('resource')),
    eventName: row.text('event_name'),
  }
  return {
    at: arrived === '' ? time : BigInt(arrived),
    stream,
    seq: Number(seq),
    index: Number(index),
    bytes: body.length + attributes.length,
    body,
    record,
  }
}

/** Resources repeat from row to row; each answer has its own copy all the same. */
const resourceOf = (text: string): Record<string, Json> =>
  text === '' ? {} : (JSON.parse(text) as Record<string, Json>)

const unsigned = (text: string): bigint => BigInt.asUintN(64, BigInt(text === '' ? '0' : text))

/** What InfluxDB can sort out by itself: it may let through more than is wanted, never less. */
function filterOf(query: LogQuery): string[] {
  const parts: string[] = []
  if (query.severity !== undefined) parts.push(`"severity_number"::field >= ${Math.floor(query.severity)}`)
  if (query.device) {
    const any = query.device.map((name) => `"host.id"::tag = ${quotedText(name)}`)
    parts.push(`(${any.join(' OR ')})`)
  }
  if (query.text !== undefined && query.text !== '')
    parts.push(`"body"::field =~ /(?is)${patternOf(query.text)}/`)
  return parts
}

/** A pattern that matches at least what holds the text in whatever case. */
function patternOf(text: string): string {
  // The first characters sort out nearly all; what is left is compared here.
  return Array.from(text.slice(0, 500).toWellFormed())
    .map((letter) => {
      // Its lower case is one letter here and two there, or it has several: any letter will do.
      if (/[iİıßςΣσẞ\uFFFD]/iu.test(letter)) return '.'
      if (/[\p{L}\p{N} _-]/u.test(letter)) return letter
      return `\\x{${(letter.codePointAt(0) ?? 0).toString(16)}}`
    })
    .join('')
}

/** As the embedded store's `lower()`: letter by letter. */
const lowered = (text: string): string => text.replaceAll('İ', 'i').replaceAll('Σ', 'σ').toLowerCase()

function matcherOf(
  query: LogQuery,
  since: bigint,
  until: bigint,
  before: Key | undefined,
): (found: Found) => boolean {
  const text = query.text === undefined || query.text === '' ? undefined : lowered(query.text)
  return (found) => {
    if (found.at < since || found.at >= until) return false
    if (before && newestFirst(before, found) >= 0) return false
    const { record } = found
    if (text !== undefined && !lowered(found.body).includes(text)) return false
    return query.where.every(({ key, value }) => {
      const own = Object.hasOwn(record.attributes, key) ? record.attributes[key] : undefined
      // A null counts as absent, as it does where JSON is asked with SQL.
      const from = own === undefined || own === null ? record.resource[key] : own
      return from !== undefined && textOf(from) === value
    })
  }
}

const textOf = (value: Json): string => (typeof value === 'string' ? value : JSON.stringify(value))

function newestFirst(a: Key, b: Key): number {
  if (a.at !== b.at) return a.at > b.at ? -1 : 1
  if (a.stream !== b.stream) return a.stream > b.stream ? -1 : 1
  return b.seq - a.seq || b.index - a.index
}

const clamped = (time: bigint): bigint => (time > largest ? largest : time < 0n ? 0n : time)

const encodeCursor = ({ at, stream, seq, index }: Key): string =>
  Buffer.from(`${at}.${seq}.${index}.${stream}`).toString('base64url')

function decodeCursor(cursor: string): Key {
  const text = Buffer.from(cursor, 'base64url').toString('utf8')
  const [, at, seq, index, stream = ''] = /^(\d{1,19})\.(\d{1,16})\.(\d{1,10})\.(.*)$/s.exec(text) ?? []
  if (at === undefined) throw new QueryRefused('next', 'not a cursor that this store gave out')
  return { at: BigInt(at), stream, seq: Number(seq), index: Number(index) }
}
