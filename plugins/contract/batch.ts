// Records, and the batch that the sealer makes of them: OTLP bytes whose own private field carries the header.
//
//   Export*ServiceRequest (opentelemetry-proto, collector/*/v1)
//     field 7200, length-delimited (82 C2 03): Header, written first, read wherever it stands
//       1 collector  string      2 device  string     3 session  string (ULID)
//       4 class      enum        5 seq     uint64     6 count    uint64
//       7 from       fixed64     8 to      fixed64    (Unix ns of the first and last record)
//       9 produced   uint64     10 dropped repeated { 1 reason enum, 2 total uint64 }
//     field 1, repeated: ResourceLogs | ResourceMetrics | ResourceSpans
//
// Readers that do not know field 7200 skip it, so a batch is plain OTLP to everyone else.
import { Reader, Writer, WireError, bytesType, fixed64Type, varintType } from './wire.ts'
import { classes, dropReasons } from './signal.ts'
import type { Class, Dropped, Signal } from './signal.ts'

/**
 * Encoded OTLP of one device, signal and class: a whole Export*ServiceRequest without a header. Requests
 * concatenate, so joining two Records is a copy.
 */
export interface Records {
  readonly device: string
  readonly signal: Signal
  readonly class: Class
  readonly count: number
  /** Times of the first and the last record, Unix ns. */
  readonly from: bigint
  readonly to: bigint
  readonly bytes: Uint8Array
  /** In the memory in front of `bytes`, so many are free for a header. Whoever writes it there seals only once. */
  readonly headroom?: number
}

/** Fits the header of nearly every stream. */
export const usualHeadroom = 256

/** What a stream is: everything of one class about one device from one run of one exporter of a collector. */
export interface StreamId {
  /** Who reports. */
  readonly collector: string
  /** Whom the records are about: `[a-z0-9-]{1,64}`. */
  readonly device: string
  /** ULID of this run of this exporter. */
  readonly session: string
  readonly class: Class
}

export interface Header extends StreamId {
  /** 1, 2, 3 … in the stream. */
  readonly seq: number
  /** Records in the batch; 0 where only the totals are told. */
  readonly count: number
  readonly from: bigint
  readonly to: bigint
  /** Records that sources handed over since the session began, this batch included. */
  readonly produced: number
  /** Running totals, by reason. */
  readonly dropped: Dropped
}

/** Immutable once sealed. `bytes` holds header and request; what a restart finds in a buffer is sent as it is. */
export interface Batch {
  readonly header: Header
  readonly signal: Signal
  readonly bytes: Uint8Array
}

/** DESIGN §4: the first of these that a batch reaches seals it. */
export const batchLimits = { records: 500, bytes: 512 * 1024, lingerMs: 100 } as const
/** What Kafka takes by default, less room for key and framing. No batch may be larger. */
export const maxBatchBytes = 1_000_000

/**
 * The highest number and total of a stream: five years of 100,000 records a second. Sums of hundreds of streams stay
 * exact below 2^53, so that nobody who announces nonsense makes the account of others inexact.
 */
export const totalLimit = 2 ** 44

const headerTag = 7200 * 8 + bytesType

export const isDeviceId = (id: string): boolean => /^[a-z0-9-]{1,64}$/.test(id)

/** One text for a stream, usable as a map key and for display. */
export const streamKey = (id: StreamId): string => `${id.collector}/${id.session}/${id.device}/${id.class}`

/** The stream that `streamKey` named. */
export function parseStreamKey(key: string): StreamId {
  const [collector = '', session = '', device = '', name = ''] = key.split('/')
  return { collector, session, device, class: name as Class }
}

/** Every batch has one, and it is copied at once: both writers are used again and again. */
const body = new Writer(256)
const field = new Writer(256)

export const encodeHeader = (header: Header): Buffer => Buffer.from(writeHeader(header))

/** Valid until the next one is written. */
function writeHeader(header: Header): Buffer {
  body.reset()
  body.tag(1, bytesType)
  body.string(header.collector)
  body.tag(2, bytesType)
  body.string(header.device)
  body.tag(3, bytesType)
  body.string(header.session)
  body.tag(4, varintType)
  body.varint(classes.indexOf(header.class) + 1)
  body.tag(5, varintType)
  body.varint(header.seq)
  body.tag(6, varintType)
  body.varint(header.count)
  body.tag(7, fixed64Type)
  body.fixed64Big(header.from)
  body.tag(8, fixed64Type)
  body.fixed64Big(header.to)
  body.tag(9, varintType)
  body.varint(header.produced)
  for (const [index, reason] of dropReasons.entries()) {
    const total = header.dropped[reason]
    if (!total) continue
    body.tag(10, bytesType)
    const mark = body.openSmall()
    body.tag(1, varintType)
    body.varint(index + 1)
    body.tag(2, varintType)
    body.varint(total)
    body.closeSmall(mark)
  }
  field.reset()
  field.varint(headerTag)
  field.bytes(body.buffer, 0, body.position)
  return field.buffer.subarray(0, field.position)
}

function decodeHeader(reader: Reader): Header {
  const numbers = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
  const names = ['', '', '', '']
  const dropped: Dropped = {}
  let from = 0n
  let to = 0n
  const began = reader.position
  while (!reader.done) {
    const key = reader.key()
    const field = key >>> 3
    const type = key & 7
    if (field <= 3 && type === bytesType) names[field] = reader.string()
    else if ((field <= 6 || field === 9) && type === varintType) numbers[field] = reader.varint()
    else if (field === 7 && type === fixed64Type) from = reader.fixed64Big()
    else if (field === 8 && type === fixed64Type) to = reader.fixed64Big()
    else if (field === 10 && type === bytesType) decodeDropped(reader, dropped)
    else reader.skip(key)
  }
  const [, collector = '', device = '', session = ''] = names
  const name = classes[(numbers[4] ?? 0) - 1]
  if (
    !isDeviceId(collector) ||
    !isDeviceId(device) ||
    !/^[0-9A-Z]{26}$/.test(session) ||
    !name ||
    !numbers[5]
  ) {
    throw new WireError('header without a valid collector, device, session, class and seq', began)
  }
  const [seq = 0, count = 0, , , produced = 0] = numbers.slice(5)
  return { collector, device, session, class: name, seq, count, from, to, produced, dropped }
}

function decodeDropped(reader: Reader, into: Dropped): void {
  const outer = reader.end
  reader.end = reader.length() + reader.position
  let reason = 0
  let total = 0
  while (!reader.done) {
    const key = reader.key()
    if (key === 8) reason = reader.varint()
    else if (key === 16) total = reader.varint()
    else reader.skip(key)
  }
  reader.end = outer
  const name = dropReasons[reason - 1]
  if (name) into[name] = total
}

/** The request with its header written in front. */
export function sealBatch(header: Header, signal: Signal, parts: readonly Uint8Array[]): Batch {
  const bytes = Buffer.concat([writeHeader(header), ...parts])
  return { header, signal, bytes }
}

/** The same of Records, without a copy where there is room for the header. */
export function sealRecords(header: Header, { signal, bytes, headroom = 0 }: Records): Batch {
  const head = writeHeader(header)
  if (head.length > headroom) return { header, signal, bytes: Buffer.concat([head, bytes]) }
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset - head.length, head.length + bytes.length)
  whole.set(head)
  return { header, signal, bytes: whole }
}

/**
 * The header of a request, wherever it stands. Undefined where there is none, or more than one (somebody
 * merged two batches): then the request counts as one of others.
 * @throws WireError where the bytes are no protobuf message, or the header is malformed.
 */
export function findHeader(bytes: Uint8Array): Header | undefined {
  const reader = new Reader(bytes)
  let found: Header | undefined
  let many = false
  while (!reader.done) {
    const key = reader.key()
    if (key !== headerTag) {
      reader.skip(key)
      continue
    }
    if (found) many = true
    const outer = reader.end
    reader.end = reader.length() + reader.position
    found = decodeHeader(reader)
    reader.end = outer
  }
  return many ? undefined : found
}

/** The request without any header field: what `sealBatch` takes when a batch gets a new one. */
export function stripHeader(bytes: Uint8Array): Uint8Array {
  const reader = new Reader(bytes)
  const kept: Uint8Array[] = []
  let began = 0
  while (!reader.done) {
    const start = reader.position
    const key = reader.key()
    reader.skip(key)
    if (key !== headerTag) continue
    kept.push(bytes.subarray(began, start))
    began = reader.position
  }
  if (began === 0) return bytes
  kept.push(bytes.subarray(began))
  return Buffer.concat(kept)
}
