// Makes Records of a request that somebody else wrote: by device and class, none larger than a batch. Most requests
// are of one device and class already, and pass through untouched.
import { batchLimits, findHeader, stripHeader, totalLimit } from '../../contract/batch.ts'
import type { Header, Records } from '../../contract/batch.ts'
import { countRecords } from '../../contract/cursor.ts'
import { PermanentError } from '../../contract/errors.ts'
import type { Class, Signal } from '../../contract/signal.ts'
import { WireError } from '../../contract/wire.ts'
import { checkRequest, refuseMalformed } from './check.ts'
import { Part, Shells, Times, maxPartBytes, maxShellBytes, sizeWithin } from './parts.ts'
import { walk } from './walk.ts'

export interface Rejected {
  readonly class: Class
  readonly count: number
  readonly reason: string
}

export interface Split {
  /** In the order of the request within each device and class. */
  readonly records: Records[]
  /** Records that fit no batch, to be counted as `invalid`. */
  readonly rejected: Rejected[]
}

/** Each device and class of a request makes a part; a request that names more of them is no honest one. */
export const maxParts = 2000

/** What the other parts of a request begin with. */
const otherBytes = 4096

const unixNow = (): bigint => BigInt(Date.now()) * 1_000_000n

/**
 * Divides a foreign request by device (`host.id`, else `own.device`) and class. A header is taken off: it is one
 * that nobody believed. Records are copied as they came, unknown fields included.
 * @throws PermanentError INPUT_INVALID with the byte offset where the request is malformed.
 */
export function splitRequest(signal: Signal, bytes: Uint8Array, own: { readonly device: string }): Split {
  checkRequest(signal, bytes)
  return refuseMalformed(signal, bytes.length, () => {
    const now = unixNow()
    const request = stripHeader(bytes)
    return passThrough(signal, request, own.device, now) ?? divide(signal, request, own.device, now)
  })
}

/** The whole request as Records, where it is of one device and class and within the limits. */
function passThrough(signal: Signal, bytes: Uint8Array, own: string, now: bigint): Split | undefined {
  if (bytes.length > maxPartBytes) return undefined
  const records = walk(signal, bytes, own, now)
  if (!records.next()) return { records: [], rejected: [] }
  const { device, class: name } = records
  const times = new Times()
  let count = 0
  do {
    if (records.device !== device || records.class !== name || ++count > batchLimits.records) return undefined
    times.see(records.low, records.high)
  } while (records.next())
  const { from, to } = times
  return { records: [{ device, signal, class: name, count, from, to, bytes }], rejected: [] }
}

function divide(signal: Signal, bytes: Uint8Array, own: string, now: bigint): Split {
  const done: Records[] = []
  const open = new Map<string, Map<Class, Part>>()
  let parts = 0
  const wholeBytes = Math.min(bytes.length, batchLimits.bytes)
  const refused = new Map<string, Rejected>()
  const records = walk(signal, bytes, own, now)
  const shells = new Shells(records)
  let lastDevice = ''
  let ofDevice: Map<Class, Part> | undefined
  while (records.next()) {
    shells.follow()
    const size = records.record.end - records.record.start
    const { class: name, device } = records
    if (ofDevice === undefined || device !== lastDevice) {
      lastDevice = device
      ofDevice = open.get(device)
      if (!ofDevice) open.set(device, (ofDevice = new Map()))
    }
    let part = ofDevice.get(name)
    const reason =
      !part && parts >= maxParts
        ? `more than ${maxParts} devices and classes in one request`
        : refusal(size, shells.size)
    if (reason !== undefined) {
      const before = refused.get(name + reason)?.count ?? 0
      refused.set(name + reason, { class: name, count: before + 1, reason })
      continue
    }
    if (part?.isFullFor(size, shells) === true) {
      done.push(part.finish(signal, shells.bytes))
      parts--
      part = undefined
    }
    if (!part) {
      // Mostly nearly all of a request is of one class.
      part = new Part(device, name, parts === 0 && done.length === 0 ? wholeBytes : otherBytes)
      parts++
      ofDevice.set(name, part)
    }
    part.add(records, shells)
  }
  for (const some of open.values())
    for (const part of some.values()) done.push(part.finish(signal, shells.bytes))
  return { records: done, rejected: [...refused.values()] }
}

function refusal(recordBytes: number, shellBytes: number): string | undefined {
  if (shellBytes > maxShellBytes) {
    return `Resource, scope and metric around a record have ${shellBytes} bytes, at most ${maxShellBytes} are allowed`
  }
  return sizeWithin(recordBytes, shellBytes) > maxPartBytes
    ? `a record has ${recordBytes} bytes, more than fit a batch of ${maxPartBytes}`
    : undefined
}

/**
 * The header of a request that is a batch as our sealer made it: exactly one header, as many records as it counts, and
 * a total that includes them and what was dropped. Everything else counts as a request without one. Whether its
 * collector may speak is for the caller.
 */
export function believedHeader(signal: Signal, bytes: Uint8Array): Header | undefined {
  try {
    const header = findHeader(bytes)
    if (!header) return undefined
    let least = header.count
    for (const total of Object.values(header.dropped)) least += total
    if (header.produced < least) return undefined
    return countRecords(signal, bytes) === header.count ? header : undefined
  } catch (error) {
    if (error instanceof WireError) return undefined
    throw error
  }
}

/** @throws PermanentError INPUT_INVALID where the header of a believed collector announces what no stream can have. */
export function checkTotals({ seq, produced, dropped }: Header): void {
  for (const [name, total] of Object.entries({ seq, produced, ...dropped })) {
    if (total <= totalLimit) continue
    const what = `a header that announces ${name} ${total}; no stream has more than ${totalLimit}`
    throw new PermanentError('INPUT_INVALID', what)
  }
}
