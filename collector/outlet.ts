// One exporter with all that stands before it: gate, sealer, buffer, sender. Records come in by `accept`; the promise
// that it returns resolves when they are safe: acknowledged by the peer, in the log, or dropped and counted.
import { RetryableError } from '../plugins/contract/index.ts'
import type {
  Class,
  Clock,
  DropReason,
  Exporter,
  Header,
  Log as Logger,
  Records,
} from '../plugins/contract/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import type { Bandwidth } from './bandwidth.ts'
import { BatchBuffer } from './buffer.ts'
import type { BufferLimits } from './buffer.ts'
import { Alarm } from './clock.ts'
import { splitRecords } from './cut.ts'
import { Gate } from './gate.ts'
import type { Mark } from './held.ts'
import { Sealer, maxRecordsBytes } from './sealer.ts'
import { Sender } from './sender.ts'
import type { Outcome } from './sender.ts'
import type { Stream } from './stream.ts'

/** Records that cannot wait do so while the outlet is not open yet, but not without limit. */
const mostBeforeOpen = 1000

/** At a stop: a peer that acknowledges nothing for so long will not, or goes itself. */
const stalledMs = 2000

export interface OutletOptions {
  /** The exporter's id. */
  id: string
  collector: string
  /** The device of the collector itself. */
  device: string
  session: string
  exporter: Exporter
  log: Log | undefined
  limits: BufferLimits
  timeoutMs: number
  window: number
  maxStreams: number
  /** What all exporters together may send; absent where nothing limits it. */
  bandwidth?: Bandwidth
  clock: Clock
  logger: Logger
  random: () => number
  onOutcome: (outcome: Outcome) => void
  /** Devices, or what is held of earlier sessions, changed. */
  onStatusChange: () => void
}

export class Outlet {
  readonly id: string
  readonly session: string
  readonly #options: OutletOptions
  readonly #sealer: Sealer
  readonly #buffer: BatchBuffer
  readonly #sender: Sender
  readonly #gate: Gate
  readonly #alarm: Alarm
  #devices = 0
  #isOpen = false
  #stopping: Error | undefined
  #onDrained: (() => void) | undefined
  /** Batches that the peer has taken or refused. */
  #settled = 0
  /** Records refused because there are too many streams. */
  refused = 0

  constructor(options: OutletOptions) {
    this.#options = options
    this.id = options.id
    this.session = options.session
    const { clock, limits } = options
    const nowMs = () => clock.elapsedMs()
    this.#alarm = new Alarm(clock, () => this.#tick())
    this.#buffer = new BatchBuffer({
      exporter: options.id,
      log: options.log,
      limits,
      clock,
      logger: options.logger,
      streams: () => this.#sealer.streams,
      currentStream: (header) => this.#currentStream(header),
      peerSilentMs: () => this.#sender.silentMs,
      roomReason: () => this.#roomReason,
      onChange: () => this.#changed(),
      onHeldChange: options.onStatusChange,
    })
    this.#sealer = new Sealer({
      collector: options.collector,
      session: options.session,
      maxStreams: options.maxStreams,
      nowMs,
      nowUnixNano: () => clock.nowUnixNano(),
      onBatch: (held) => {
        this.#buffer.add(held)
        this.#sender.pump()
        this.#alarm.at(nowMs() + (held.marks.length > 0 ? 0 : this.#buffer.spillAfterMs))
      },
    })
    this.#sender = new Sender({
      exporter: options.exporter,
      buffer: this.#buffer,
      clock,
      logger: options.logger,
      timeoutMs: options.timeoutMs,
      window: options.window,
      bandwidth: options.bandwidth,
      random: options.random,
      onOutcome: (outcome) => {
        if (outcome.kind !== 'failed') this.#settled++
        options.onOutcome(outcome)
        // Nothing is to be told then that the peer does not know.
        this.#changed(outcome.kind === 'delivered' && outcome.rejected === 0)
      },
      onDue: (dueMs) => this.#alarm.at(dueMs),
    })
    this.#gate = new Gate(
      () => limits.memory,
      () => this.memoryBytes,
    )
  }

  get memoryBytes(): number {
    return this.#sealer.bytes + this.#buffer.memoryBytes
  }

  get buffer(): BatchBuffer {
    return this.#buffer
  }

  get sender(): Sender {
    return this.#sender
  }

  get streams(): readonly Stream[] {
    return this.#sealer.streams
  }

  get devices(): string[] {
    return this.#sealer.devices
  }

  /** Records that wait to be sealed. */
  get openRecords(): number {
    return this.#sealer.records
  }

  /** Emits that wait for room. */
  get waiting(): number {
    return this.#gate.waiting
  }

  /** Reads what the log has of earlier sessions; before that nothing is accepted. */
  async open(): Promise<void> {
    await this.#buffer.open()
    this.#isOpen = true
    this.#changed()
  }

  /** Records with a mark fit into a batch. */
  accept(records: Records, mayWait: boolean, mark?: Mark): Promise<void> {
    if (this.#stopping) return Promise.reject(this.#stopping)
    if (records.bytes.length > maxRecordsBytes) return this.#acceptParts(records, mayWait, mark)
    const { class: name } = records
    const size = records.bytes.length
    if (this.#isOpen && this.#gate.mayEnter(name, size)) return this.#enter(records, mayWait, mark)
    if (mayWait || (!this.#isOpen && this.#gate.waiting < mostBeforeOpen)) {
      return new Promise((resolve, reject) => {
        this.#gate.wait(name, size, () => this.#enter(records, mayWait, mark).then(resolve, reject), reject)
      })
    }
    if (this.#buffer.makeRoom(name, () => this.#gate.hasRoom(name, size)))
      return this.#enter(records, mayWait)
    this.drop(records.device, name, this.#roomReason, records.count)
    return Promise.resolve()
  }

  /** Counts records that never came to a batch: they were produced, and dropped for the reason. */
  drop(device: string, name: Class, reason: DropReason, count: number): void {
    if (count <= 0 || this.#stopping) return
    if (!this.#sealer.drop(device, name, reason, count)) {
      // No stream may be added for that device, so the collector's own account tells of it.
      this.#sealer.drop(this.#options.device, name, 'budget', count)
      this.refused += count
    }
    this.#alarm.at(this.#options.clock.elapsedMs() + 100)
  }

  ready(isReady: boolean): void {
    this.#sender.ready(isReady)
  }

  /**
   * Seals all, tells all totals and sends until nothing of this session is in memory, the deadline is there, or the
   * peer does not take it; the rest goes to the log.
   */
  async close(deadlineMs: number): Promise<void> {
    if (this.#stopping) return
    const { clock } = this.#options
    this.#gate.admit()
    this.#stopping = new RetryableError('STOPPING', 'the collector stops')
    this.#gate.refuseAll(this.#stopping)
    if (this.#isOpen) {
      this.#sealer.finish()
      await this.#drain(clock.elapsedMs() + deadlineMs)
    }
    this.#sender.stop()
    this.#alarm.cancel()
    if (this.#isOpen) await this.#buffer.spillAll()
    this.#alarm.cancel()
  }

  /** Until nothing is left in memory, the deadline, or a peer that has acknowledged nothing for a while. */
  async #drain(untilMs: number): Promise<void> {
    const { clock } = this.#options
    const drained = new AbortController()
    this.#onDrained = () => drained.abort()
    this.#changed()
    for (let before = -1; before !== this.#settled && !drained.signal.aborted;) {
      before = this.#settled
      const waitMs = Math.min(stalledMs, untilMs - clock.elapsedMs())
      if (waitMs <= 0) return
      await clock.delay(waitMs, drained.signal).catch(() => undefined)
    }
  }

  /** Why there is no room: what could not be sent for want of bandwidth is a matter of the budget. */
  get #roomReason(): 'overflow' | 'budget' {
    return this.#options.bandwidth?.isShort === true ? 'budget' : 'overflow'
  }

  #currentStream(header: Header): Stream | undefined {
    const { session, collector } = this.#options
    if (header.session !== session || header.collector !== collector) return undefined
    return this.#sealer.stream(header.device, header.class)
  }

  #enter(records: Records, mayWait: boolean, mark?: Mark): Promise<void> {
    const safe = this.#sealer.add(records, mayWait, mark)
    if (!safe) {
      this.#dropWith(records, mark)
      this.drop(records.device, records.class, 'budget', records.count)
      return Promise.resolve()
    }
    this.#alarm.at(this.#options.clock.elapsedMs() + 100)
    if (this.#sealer.devices.length !== this.#devices) {
      this.#devices = this.#sealer.devices.length
      this.#options.onStatusChange()
    }
    return safe
  }

  /** Records too large for a batch: their records fit, or are refused one by one. */
  async #acceptParts(records: Records, mayWait: boolean, mark?: Mark): Promise<void> {
    this.#dropWith(records, mark)
    const { parts, tooLarge } = splitRecords(records, maxRecordsBytes)
    this.drop(records.device, records.class, 'invalid', tooLarge)
    await Promise.all(parts.map((part) => this.accept(part, mayWait)))
  }

  #dropWith({ device, class: name }: Records, mark: Mark | undefined): void {
    for (const [reason, count] of Object.entries(mark?.dropped ?? {})) {
      this.drop(device, name, reason as DropReason, count)
    }
  }

  #changed(isToldAll = false): void {
    if (this.#gate.waiting > 0 && this.#isOpen) this.#gate.admit()
    this.#sender.pump()
    if (this.#stopping) {
      if (this.#buffer.isDrained || !this.#sender.isHealthy) this.#onDrained?.()
    } else if (!isToldAll) this.#alarm.at(this.#options.clock.elapsedMs() + 100)
  }

  #tick(): void {
    const sealDue = this.#stopping ? Infinity : this.#sealer.tick(this.#options.clock.elapsedMs())
    const bufferDue = this.#buffer.tick()
    this.#sender.tick()
    if (this.#gate.waiting > 0 && this.#isOpen) this.#gate.admit()
    this.#alarm.at(Math.min(sealDue, bufferDue))
  }
}
