// The search of log records: newest first through the segments, until the page is full, then answered oldest first.
//
// Two steps for each page: keys of the records that fit (narrow columns, plus body or attributes where they are
// searched), then the records themselves. Order and page cursor are (ts, stream, seq, idx), which no two records
// share, so that equal times and records that arrive meanwhile neither repeat nor hide one.
import { formatTime } from '../time.ts'
import { QueryRefused } from '../query.ts'
import type { Json, LogPage, LogQuery, LogRecordRow, Match } from '../query.ts'
import type { Row } from './database.ts'
import type { QueryContext, SqlValue } from './runner.ts'
import { bodyForm } from './schema.ts'
import { marginNano } from './segments.ts'
import type { Segment, Segments } from './segments.ts'

const pageRows = 10_000
const pageBytes = 16 * 1024 * 1024

interface Key {
  at: bigint
  stream: number
  seq: bigint
  idx: number
  bytes: number
}

/** Names a record everywhere: stream, number of its batch, place in the batch. The live tail says the same. */
export const recordId = (stream: string, seq: number | bigint, index: number): string =>
  `${stream}/${seq}/${index}`

export async function searchLogs(
  context: QueryContext,
  segments: Segments,
  query: LogQuery,
): Promise<LogPage> {
  const filter = await filterOf(context, query)
  const wanted = Math.min(query.limit, pageRows)
  if (wanted <= 0) return { records: [] }
  const candidates = segments
    .within('logs', Number(query.sinceUnixNano ?? 0n), Number(query.untilUnixNano ?? 2n ** 63n))
    .sort((a, b) => b.atTo - a.atTo)
  let keys: Key[] = []
  const touched: Segment[] = []
  for (let size = 1; candidates.length > 0; size *= 2) {
    const oldest = keys.length > wanted ? Number(keys.at(-1)?.at ?? 0n) : -Infinity
    const group = candidates.splice(0, size).filter((each) => each.atTo + marginNano >= oldest)
    if (group.length === 0) break
    touched.push(...group)
    const rows = await context.rows(
      `SELECT ts, stream, seq, idx, strlen(body) + strlen(attributes) AS size
       FROM ${segments.relation(group, searchColumns)} WHERE ${filter.sql}
       ORDER BY ts DESC, stream DESC, seq DESC, idx DESC LIMIT ${wanted + 1}`,
      filter.values,
    )
    keys = [...keys, ...rows.map(keyOf)].sort(newestFirst).slice(0, wanted + 1)
  }
  const page = cut(keys, wanted)
  const last = page.at(-1)
  if (!last) return { records: [] }
  const records = await fetchRecords(context, segments, touched, page)
  return keys.length > page.length ? { records, next: encodeCursor(last) } : { records }
}

/** As many keys as a page holds, at least one. */
function cut(keys: readonly Key[], wanted: number): Key[] {
  let bytes = 0
  const page: Key[] = []
  for (const key of keys.slice(0, wanted)) {
    bytes += key.bytes
    if (bytes > pageBytes && page.length > 0) break
    page.push(key)
  }
  return page
}

async function fetchRecords(
  context: QueryContext,
  segments: Segments,
  touched: readonly Segment[],
  page: readonly Key[],
): Promise<LogRecordRow[]> {
  const newest = page[0]?.at ?? 0n
  const oldest = page.at(-1)?.at ?? 0n
  const keys = page.map(({ at, stream, seq, idx }) => `(${at},${stream},${seq},${idx})`).join(',')
  const holding = touched.filter(
    (each) => each.atTo + marginNano >= Number(oldest) && each.atFrom - marginNano <= Number(newest),
  )
  const columns =
    'ts, arrival, claimed, observed, device, resource, severity, stream, seq, idx, body_form, body, severity_text, attributes, event_name'
  const rows = await context.rows(
    `WITH keys(ts, stream, seq, idx) AS (VALUES ${keys})
     SELECT s.name, r.seq, r.idx, r.ts, r.claimed, r.observed, r.arrival, d.name, r.severity, r.severity_text,
       r.body_form, r.body, r.attributes, res.attributes, r.event_name
     FROM ${segments.relation(holding, columns)} r
     JOIN keys k ON r.ts = k.ts AND r.stream = k.stream AND r.seq = k.seq AND r.idx = k.idx
     JOIN streams s ON s.id = r.stream JOIN devices d ON d.id = r.device
     LEFT JOIN resources res ON res.id = r.resource
     WHERE r.ts BETWEEN ${oldest} AND ${newest}
     ORDER BY r.ts, r.stream, r.seq, r.idx`,
  )
  return rows.map(recordOf)
}

function recordOf(row: Row): LogRecordRow {
  const [stream, seq, idx, at, claimed, observed, arrival, device, severity, severityText, ...rest] = row
  const [form, body, attributes, resource, eventName] = rest
  const time = (claimed as bigint) > 0n ? (claimed as bigint) : (at as bigint)
  return {
    id: recordId(String(stream), seq as bigint, Number(idx)),
    time: formatTime(time),
    observedTime: formatTime((observed as bigint) > 0n ? (observed as bigint) : (arrival as bigint)),
    device: String(device),
    severityNumber: Number(severity),
    severityText: String(severityText),
    body: bodyOf(Number(form), String(body)),
    attributes: JSON.parse(String(attributes)) as Record<string, Json>,
    resource: JSON.parse(resource === null ? '{}' : String(resource)) as Record<string, Json>,
    eventName: String(eventName),
  }
}

function bodyOf(form: number, text: string): Json {
  if (form === bodyForm.none) return ''
  return form === bodyForm.text ? text : (JSON.parse(text) as Json)
}

interface Filter {
  sql: string
  values: Record<string, SqlValue>
}

async function filterOf(context: QueryContext, query: LogQuery): Promise<Filter> {
  const parts = ['true']
  const values: Record<string, SqlValue> = {}
  if (query.sinceUnixNano !== undefined) parts.push(`ts >= ${clamp(query.sinceUnixNano)}`)
  if (query.untilUnixNano !== undefined) parts.push(`ts < ${clamp(query.untilUnixNano)}`)
  if (query.severity !== undefined) parts.push(`severity >= ${Math.floor(query.severity)}`)
  if (query.before !== undefined) {
    const [at, stream, seq, idx] = decodeCursor(query.before)
    parts.push(
      `ts <= ${at} AND (ts < ${at} OR stream < ${stream} OR (stream = ${stream} AND (seq < ${seq}
       OR (seq = ${seq} AND idx < ${idx}))))`,
    )
  }
  if (query.device) {
    const names = Object.fromEntries(query.device.map((name, index) => [`device${index}`, name]))
    const list = Object.keys(names).map((name) => `$${name}`)
    // Numbers, not a subquery: with them DuckDB passes over what no such device is in.
    const ids = await context.rows(`SELECT id FROM devices WHERE name IN (${list.join(', ')})`, names)
    parts.push(ids.length > 0 ? `device IN (${ids.map(([id]) => Number(id)).join(',')})` : 'false')
  }
  for (const [index, match] of query.where.entries()) {
    parts.push(await whereSql(context, match, index, values))
  }
  if (query.text !== undefined && query.text !== '') {
    values.text = query.text
    parts.push('contains(lower(body), lower($text))')
  }
  return { sql: parts.join(' AND '), values }
}

const searchColumns = 'ts, stream, seq, idx, device, severity, resource, body, attributes'

/**
 * The attribute of the record, or where it has none of that name, of its Resource. Parsing JSON is slow, so name and
 * value are looked for as text first.
 */
async function whereSql(
  context: QueryContext,
  { key, value }: Match,
  index: number,
  values: Record<string, SqlValue>,
): Promise<string> {
  values[`path${index}`] = jsonPointer(key)
  values[`value${index}`] = value
  values[`key${index}`] = `${JSON.stringify(key)}:`
  const own = `json_extract_string(attributes, $path${index})`
  const named = `contains(attributes, $key${index})`
  const plain = /^[^"\\\p{Cc}]*$/u.test(value) ? `AND contains(attributes, $value${index})` : ''
  const equal = `(${named} ${plain} AND ${own} = $value${index})`
  const resources = await context.rows(
    `SELECT id FROM resources WHERE contains(attributes, $key) AND json_extract_string(attributes, $path) = $value`,
    { key: `${JSON.stringify(key)}:`, path: jsonPointer(key), value },
  )
  if (resources.length === 0) return equal
  const ids = resources.map(([id]) => Number(id)).join(',')
  return `(${equal} OR (resource IN (${ids}) AND NOT (${named} AND ${own} IS NOT NULL)))`
}

/** RFC 6901. */
export const jsonPointer = (key: string): string => `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`

const clamp = (time: bigint): bigint => {
  const most = 2n ** 63n - 1n
  return time > most ? most : time < -most ? -most : time
}

function keyOf([at, stream, seq, idx, bytes]: Row): Key {
  return {
    at: at as bigint,
    stream: Number(stream),
    seq: seq as bigint,
    idx: Number(idx),
    bytes: Number(bytes),
  }
}

function newestFirst(a: Key, b: Key): number {
  if (a.at !== b.at) return a.at > b.at ? -1 : 1
  if (a.stream !== b.stream) return b.stream - a.stream
  if (a.seq !== b.seq) return a.seq > b.seq ? -1 : 1
  return b.idx - a.idx
}

const encodeCursor = ({ at, stream, seq, idx }: Key): string =>
  Buffer.from(`${at}.${stream}.${seq}.${idx}`).toString('base64url')

function decodeCursor(cursor: string): string[] {
  const text = Buffer.from(cursor, 'base64url').toString('latin1')
  const match = /^(-?\d{1,19})\.(\d{1,10})\.(\d{1,19})\.(\d{1,10})$/.exec(text)
  if (!match) throw new QueryRefused('next', 'not a cursor that this store gave out')
  return match.slice(1)
}
