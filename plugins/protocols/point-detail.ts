// What a data point has beside one number, as exact JSON: buckets of histograms, quantiles of summaries, exemplars
// (opentelemetry-proto metrics/v1). Rare beside plain points, so here objects are built.
import { attributesOf } from '../contract/any-value.ts'
import type { MetricType, PointCursor } from '../contract/point-cursor.ts'
import { Reader } from '../contract/wire.ts'
import { jsonObject } from './log-json.ts'
import type { Json } from './log-json.ts'

export interface PointDetail {
  /** JSON, or empty. */
  text: string
  count: bigint
  sum: number | undefined
}

const exemplarField: Readonly<Record<MetricType, number>> = {
  gauge: 5,
  sum: 5,
  histogram: 8,
  exponential_histogram: 11,
  summary: 0,
}
const none: PointDetail = { text: '', count: 0n, sum: undefined }

/** Reads the cursor's point once more. Plain points have a detail only with exemplars. */
export function readDetail(cursor: PointCursor): PointDetail {
  const { type, point, bytes } = cursor
  const simple = type === 'gauge' || type === 'sum'
  // Times, value, flags and keys take at most 40 bytes beside the attributes: no room for an exemplar.
  const rest = point.end - point.start - (cursor.attributes.end - cursor.attributes.start)
  if (simple && rest <= 40) return none
  const reader = new Reader(bytes)
  reader.position = point.start
  reader.end = point.end
  const found: { [key: string]: Json } = {}
  const exemplars: Json[] = []
  let count = 0n
  let sum: number | undefined
  while (!reader.done) {
    const key = reader.key()
    const field = key >>> 3
    if (key === exemplarField[type] * 8 + 2) exemplars.push(nested(reader, readExemplar))
    else if (!simple && key === 4 * 8 + 1) {
      count = reader.fixed64Big()
      found.count = jsonOf(count)
    } else if (!simple && key === 5 * 8 + 1) {
      sum = reader.double()
      found.sum = jsonOf(sum)
    } else if (simple || !readField(reader, type, field, key & 7, found)) reader.skip(key)
  }
  if (exemplars.length > 0) found.exemplars = exemplars
  const text = Object.keys(found).length > 0 ? JSON.stringify(found) : ''
  return { text, count, sum }
}

/** Reads a field of a histogram or summary that `found` should have; false where it is none. */
function readField(
  reader: Reader,
  type: MetricType,
  field: number,
  wire: number,
  found: { [key: string]: Json },
): boolean {
  if (type === 'histogram') {
    if (field === 6) return list(reader, wire, 1, found, 'counts', () => jsonOf(reader.fixed64Big()))
    if (field === 7) return list(reader, wire, 1, found, 'bounds', () => jsonOf(reader.double()))
    if (field === 11) return one(found, 'min', wire === 1, () => reader.double())
    if (field === 12) return one(found, 'max', wire === 1, () => reader.double())
    return false
  }
  if (type === 'summary') {
    if (field !== 6 || wire !== 2) return false
    const quantiles = (found.quantiles ??= []) as Json[]
    quantiles.push(nested(reader, readQuantile))
    return true
  }
  if (field === 6 && wire === 0) {
    const zigzag = reader.varint()
    found.scale = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
    return true
  }
  if (field === 7 && wire === 1) {
    found.zeroCount = jsonOf(reader.fixed64Big())
    return true
  }
  if ((field === 8 || field === 9) && wire === 2) {
    found[field === 8 ? 'positive' : 'negative'] = nested(reader, readBuckets)
    return true
  }
  if (field === 12) return one(found, 'min', wire === 1, () => reader.double())
  if (field === 13) return one(found, 'max', wire === 1, () => reader.double())
  if (field === 14) return one(found, 'zeroThreshold', wire === 1, () => reader.double())
  return false
}

function one(found: { [key: string]: Json }, name: string, fits: boolean, read: () => number): boolean {
  if (fits) found[name] = jsonOf(read())
  return fits
}

/** A repeated number, packed or not. */
function list(
  reader: Reader,
  wire: number,
  itemWire: number,
  found: { [key: string]: Json },
  name: string,
  read: () => Json,
): boolean {
  if (wire !== itemWire && wire !== 2) return false
  const items = (found[name] ??= []) as Json[]
  if (wire === itemWire) items.push(read())
  else {
    nested(reader, () => {
      while (!reader.done) items.push(read())
      return null
    })
  }
  return true
}

function nested(reader: Reader, read: (reader: Reader) => Json): Json {
  const size = reader.length()
  const outer = reader.end
  reader.end = reader.position + size
  const result = read(reader)
  reader.position = reader.end
  reader.end = outer
  return result
}

function readQuantile(reader: Reader): Json {
  const result: { [key: string]: Json } = { quantile: 0, value: 0 }
  while (!reader.done) {
    const key = reader.key()
    if (key === 0x09) result.quantile = jsonOf(reader.double())
    else if (key === 0x11) result.value = jsonOf(reader.double())
    else reader.skip(key)
  }
  return result
}

function readBuckets(reader: Reader): Json {
  const result: { [key: string]: Json } = { offset: 0, counts: [] }
  while (!reader.done) {
    const key = reader.key()
    if (key === 0x08) {
      const zigzag = reader.varint()
      result.offset = zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2
    } else if (
      key >>> 3 !== 2 ||
      !list(reader, key & 7, 0, result, 'counts', () => jsonOf(reader.varint64()))
    )
      reader.skip(key)
  }
  return result
}

function readExemplar(reader: Reader): Json {
  const start = reader.position
  const result: { [key: string]: Json } = {}
  while (!reader.done) {
    const key = reader.key()
    if (key === 0x11) result.timeUnixNano = String(reader.fixed64Big())
    else if (key === 0x19) result.value = jsonOf(reader.double())
    else if (key === 0x31) result.value = jsonOf(BigInt.asIntN(64, reader.fixed64Big()))
    else if (key === 0x22) result.spanId = reader.bytes().toString('hex')
    else if (key === 0x2a) result.traceId = reader.bytes().toString('hex')
    else reader.skip(key)
  }
  const attributes = jsonObject(attributesOf(reader.buffer, start, reader.end, 7))
  if (Object.keys(attributes).length > 0) result.filteredAttributes = attributes
  return result
}

function jsonOf(value: number | bigint): Json {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  return Number.isFinite(value) ? value : String(value)
}
