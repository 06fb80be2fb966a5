// What kafkajs does more often than it has to, changed in place: it clears memory that it is about to write, looks every
// millisecond whether requests wait, and asks at rest as often as under load. Together more than a tenth of a processor.
// Its version is pinned in package.json; each change names what it relies on.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

// Memory. An encoder begins with 512 bytes, and each of several that are within each other copies the one within.

interface Encoder {
  buf: Buffer
  offset: number
  readonly buffer: Buffer
  ensureAvailable(length: number): void
  writeBufferInternal(bytes: Buffer): void
  writeEncoderArray(encoders: readonly Encoder[]): Encoder
}

const encoder = require('kafkajs/src/protocol/encoder') as { prototype: Encoder }

/** Nothing of the buffer beyond `offset` is ever read. */
encoder.prototype.ensureAvailable = function (this: Encoder, length: number): void {
  const needed = this.offset + length
  if (needed <= this.buf.length) return
  const grown = Buffer.allocUnsafe(Math.max(needed, 2 * this.buf.length))
  this.buf.copy(grown, 0, 0, this.offset)
  this.buf = grown
}

encoder.prototype.writeEncoderArray = function (this: Encoder, encoders: readonly Encoder[]): Encoder {
  this.ensureAvailable(encoders.reduce((sum, { offset }) => sum + offset, 0))
  for (const { buffer } of encoders) this.writeBufferInternal(buffer)
  return this
}

// Requests that wait. With twenty connections the timer costs a twentieth of a processor at rest, and lies in the past,
// which Node 24 complains about. It has to run only where some wait; an answer that makes room for them looks by itself.

interface RequestQueue {
  pending: unknown[]
  throttledUntil: number
  throttleCheckTimeoutId: NodeJS.Timeout | null
  checkPendingRequests(): void
  scheduleCheckPendingRequests(): void
}

const requestQueue = require('kafkajs/src/network/requestQueue') as { prototype: RequestQueue }

requestQueue.prototype.scheduleCheckPendingRequests = function (this: RequestQueue): void {
  if (this.pending.length === 0 || this.throttleCheckTimeoutId) return
  this.throttleCheckTimeoutId = setTimeout(
    () => {
      this.throttleCheckTimeoutId = null
      this.checkPendingRequests()
    },
    Math.max(10, this.throttledUntil - Date.now()),
  )
}

// Fetching. An answer costs a few dozen microseconds for every partition, empty ones included. Under load it is worth
// waiting for many bytes; at rest the first byte is waited for, and longer.

interface Fetch {
  minBytes: number
  maxWaitTime: number
}

interface Fetched {
  responses: readonly { partitions: readonly { messages: readonly unknown[] }[] }[]
}

interface Broker {
  fetch: (this: Broker, request: Fetch) => Promise<Fetched>
}

/** So many empty answers in a row are rest: a partition that pauses while its messages are worked on is not. */
const restAfter = 10
/** Partitions that are resumed and members that join wait for the end of a fetch. */
const restMs = 500
/** Empty answers in a row. Each consumer has Broker objects of its own. */
const empty = new WeakMap<Broker, number>()

const broker = require('kafkajs/src/broker') as { prototype: Broker }
const { fetch } = broker.prototype

broker.prototype.fetch = async function (this: Broker, request: Fetch): Promise<Fetched> {
  const before = empty.get(this) ?? 0
  const isAtRest = before >= restAfter
  const maxWaitTime = Math.max(restMs, request.maxWaitTime)
  const answer = await fetch.call(this, isAtRest ? { ...request, minBytes: 1, maxWaitTime } : request)
  const isEmpty = answer.responses.every(({ partitions }) =>
    partitions.every(({ messages }) => messages.length === 0),
  )
  empty.set(this, isEmpty ? before + 1 : 0)
  return answer
}
