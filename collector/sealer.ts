// In front of each exporter's buffer: joins Records of one (device, class, signal) and seals them as batches, with the
// number and the totals of their stream. Joining is concatenation; nothing here is done per record.
import { batchLimits, classes, maxBatchBytes, rank, sealBatch, signals } from '../plugins/contract/index.ts'
import type { Class, DropReason, Records, Signal } from '../plugins/contract/index.ts'
import { hold } from './held.ts'
import type { Held, Mark } from './held.ts'
import { Stream } from './stream.ts'

/** Room that a batch needs for its header. */
const headerRoom = 512
/** The most that Records may have to be sealed whole. */
export const maxRecordsBytes = maxBatchBytes - headerRoom

export interface SealerOptions {
  collector: string
  session: string
  /** Most streams of this session; what would need another is refused. */
  maxStreams: number
  nowMs: () => number
  nowUnixNano: () => bigint
  onBatch: (held: Held) => void
}

/** Records that wait to be joined by more. */
interface Open {
  /** Where it is found until it is sealed. */
  readonly device: Device
  readonly at: number
  readonly stream: Stream
  readonly signal: Signal
  readonly parts: Uint8Array[]
  bytes: number
  count: number
  from: bigint
  to: bigint
  readonly dueMs: number
  mayWait: boolean
  sealed: boolean
  readonly marks: Mark[]
  readonly safe: PromiseWithResolvers<void>
}

interface Device {
  readonly streams: (Stream | undefined)[]
  /** By class and signal. */
  readonly open: (Open | undefined)[]
}

export class Sealer {
  readonly #options: SealerOptions
  readonly #devices = new Map<string, Device>()
  readonly #streams: Stream[] = []
  /** In the order in which they are due, sealed ones among them. */
  #waiting: Open[] = []
  /** Of what is not sealed yet. */
  bytes = 0
  records = 0

  constructor(options: SealerOptions) {
    this.#options = options
  }

  get streams(): readonly Stream[] {
    return this.#streams
  }

  get devices(): string[] {
    return [...this.#devices.keys()]
  }

  /** The stream of a device and class; undefined where there are as many as there may be. */
  stream(device: string, name: Class): Stream | undefined {
    let known = this.#devices.get(device)
    const existing = known?.streams[rank[name]]
    if (existing) return existing
    if (this.#streams.length >= this.#options.maxStreams) return undefined
    if (!known) {
      known = {
        streams: classes.map(() => undefined),
        open: classes.flatMap(() => signals.map(() => undefined)),
      }
      this.#devices.set(device, known)
    }
    const { collector, session } = this.#options
    const stream = new Stream({ collector, session, device, class: name }, true)
    known.streams[rank[name]] = stream
    this.#streams.push(stream)
    return stream
  }

  /**
   * Takes Records that fit into one batch. The promise resolves when they are safe, or dropped and counted; undefined
   * where their stream would be one too many. A batch with a mark is sealed at once.
   */
  add(records: Records, mayWait: boolean, mark?: Mark): Promise<void> | undefined {
    const stream = this.stream(records.device, records.class)
    const device = this.#devices.get(records.device)
    if (!stream || !device) return undefined
    const at = rank[records.class] * signals.length + signals.indexOf(records.signal)
    let open = device.open[at]
    if (open && !fits(open, records)) {
      this.#seal(open)
      open = undefined
    }
    open ??= device.open[at] = this.#begin(stream, records.signal, device, at)
    open.parts.push(records.bytes)
    open.bytes += records.bytes.length
    open.mayWait &&= mayWait
    if (open.count === 0 || records.from < open.from) open.from = records.from
    if (open.count === 0 || records.to > open.to) open.to = records.to
    open.count += records.count
    this.bytes += records.bytes.length
    this.records += records.count
    if (mark) open.marks.push(mark)
    if (mark || open.count >= batchLimits.records || open.bytes >= batchLimits.bytes) this.#seal(open)
    return open.safe.promise
  }

  /** Counts records that never came into a batch. False where their stream would be one too many. */
  drop(device: string, name: Class, reason: DropReason, count: number): boolean {
    const stream = this.stream(device, name)
    stream?.dropUnsealed(reason, count)
    return stream !== undefined
  }

  /** Seals what is due and tells totals that are due; when the next is due. */
  tick(nowMs: number): number {
    let at = 0
    for (const open of this.#waiting) {
      if (!open.sealed && open.dueMs > nowMs) break
      if (!open.sealed) this.#seal(open)
      at++
    }
    if (at > 0) this.#waiting = this.#waiting.slice(at)
    return Math.min(this.#waiting[0]?.dueMs ?? Infinity, this.#tell(nowMs))
  }

  /** At a clean stop: everything is sealed, and all totals are told. */
  finish(): void {
    for (const open of this.#waiting) if (!open.sealed) this.#seal(open)
    this.#waiting = []
    for (const stream of this.#streams) if (stream.untold) this.#sealTotals(stream)
  }

  #tell(nowMs: number): number {
    let next = Infinity
    for (const stream of this.#streams) {
      const due = stream.tellDueMs(nowMs)
      if (due === undefined) continue
      if (due <= nowMs) this.#sealTotals(stream)
      else if (due < next) next = due
    }
    return next
  }

  #begin(stream: Stream, signal: Signal, device: Device, at: number): Open {
    const dueMs = this.#options.nowMs() + batchLimits.lingerMs
    const safe = Promise.withResolvers<void>()
    const open: Open = {
      device,
      at,
      stream,
      signal,
      dueMs,
      safe,
      parts: [],
      bytes: 0,
      count: 0,
      from: 0n,
      to: 0n,
      mayWait: true,
      sealed: false,
      marks: [],
    }
    this.#waiting.push(open)
    return open
  }

  #seal(open: Open): void {
    open.sealed = true
    open.device.open[open.at] = undefined
    this.bytes -= open.bytes
    this.records -= open.count
    const nowMs = this.#options.nowMs()
    for (const { dropped } of open.marks) {
      for (const reason in dropped) {
        open.stream.dropUnsealed(reason as DropReason, dropped[reason as DropReason] ?? 0)
      }
    }
    const marks = open.marks.map(({ key }) => key)
    const header = open.stream.seal(open.count, open.from, open.to, open.signal)
    const batch = sealBatch(header, open.signal, open.parts)
    open.parts.length = 0 // it stays among those that wait until its time
    const { mayWait, safe } = open
    const answer = (error?: Error) => (error ? safe.reject(error) : safe.resolve())
    this.#options.onBatch(hold(batch, open.stream, nowMs, { mayWait, safe: answer, marks }))
  }

  /** A batch without records, for a stream that is idle while its totals changed. */
  #sealTotals(stream: Stream): void {
    const now = this.#options.nowUnixNano()
    const nowMs = this.#options.nowMs()
    const header = stream.seal(0, now, now, stream.signal)
    const batch = sealBatch(header, stream.signal, [])
    this.#options.onBatch(hold(batch, stream, nowMs, {}))
  }
}

/** Whether one more would stay within what a batch should be: an OTLP request of others may itself have more records. */
const fits = (open: Open, more: Records): boolean =>
  open.count + more.count <= batchLimits.records && open.bytes + more.bytes.length <= batchLimits.bytes
