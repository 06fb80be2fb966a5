// Takes in what collectors and others send, over MQTT and OTLP, and answers when the journal has it on disk: headers are
// believed only from whom they speak of, foreign requests get headers, many batches share one commit with the rows of
// their accounts, and then each collector hears what it may forget.
import type { Header, Records } from '../plugins/contract/batch.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { PermanentError, codeOf, messageOf } from '../plugins/contract/errors.ts'
import type { Signal } from '../plugins/contract/signal.ts'
import { compressSync, decompressSync } from '../plugins/protocols/compression.ts'
import type { Handled } from '../plugins/protocols/otlp/answers.ts'
import { deviceFromHostId } from '../plugins/protocols/otlp/device.ts'
import { believedHeader, checkTotals, splitRequest } from '../plugins/protocols/otlp/split.ts'
import { statusSchema } from '../plugins/protocols/topics.ts'
import type { Ack, Status } from '../plugins/protocols/topics.ts'
import { Accounts } from './account.ts'
import type { Receiver, TelemetryMessage } from './broker-admission.ts'
import { acksOf, acksOfBatches } from './ingest-ack.ts'
import { GroupCommit } from './ingest-group.ts'
import type { Member } from './ingest-group.ts'
import { OwnStreams } from './ingest-streams.ts'
import { signalTopics } from './journal/journal.ts'
import type { AppendEntry, Journal } from './journal/journal.ts'

export interface IngestOptions {
  journal: Journal
  log: Log
  clock: Clock
  /** The aggregator's own device: that of foreign records without `host.id`. */
  device: string
  /** Tells a collector what it may forget; lost ones are told again when it repeats a batch. */
  acknowledge(collector: string, ack: Ack): void
  /** After each commit, for each batch that was new. */
  onBatch?(header: Header, signal: Signal): void
  /** Each birth and will. */
  onStatus?(status: Status): void
  limits?: Partial<IngestLimits>
}

export interface IngestLimits {
  /** The largest request, decompressed. */
  requestBytes: number
  /** Of requests that wait for the journal; senders then wait. */
  waitingBytes: number
  groupBytes: number
}

const MiB = 1024 * 1024
/** Twice what our collectors allow themselves. */
const statusBytes = MiB / 2
export const ingestLimits: IngestLimits = {
  requestBytes: 16 * MiB,
  waitingBytes: 64 * MiB,
  groupBytes: 8 * MiB,
}

export interface IngestCounters {
  batches: number
  records: number
  /** Spans among the records: passed on, not stored. */
  forwarded: number
  duplicates: number
  /** Messages and requests that could not be read, and records that fit no batch. */
  invalid: number
  /** As they came, compressed or not. */
  bytes: number
  commits: number
  commitMs: number
  failedCommits: number
  statuses: number
}

export type RequestListener = (header: Header, signal: Signal, request: Uint8Array) => void

export interface Ingest extends Receiver, AsyncDisposable {
  readonly accounts: Accounts
  readonly counters: Readonly<IngestCounters>
  /**
   * An OTLP request, bare. `believed` says whether its connection may speak for the collector of a header.
   * @throws PermanentError INPUT_INVALID where it is malformed; RetryableError where the journal cannot take it.
   */
  onRequest(request: OtlpRequest): Promise<Handled>
  /** Resolves when there is room for another message. */
  room(): Promise<void>
  /** Hears of each new batch with its request, until the returned function is called. Costs memory while it is used. */
  listen(listener: RequestListener): () => void
  /** Forgets streams, their rows included. */
  forget(keys: readonly string[]): Promise<void>
}

export interface OtlpRequest {
  signal: Signal
  bytes: Uint8Array
  /** Address of the sender, without port. */
  peer: string
  believed: (collector: string) => boolean
}

interface Sealed {
  header: Header
  signal: Signal
  /** For the journal. */
  value: Uint8Array
  /** Bare, where somebody listens. */
  request: Uint8Array | undefined
}

type Work =
  | { kind: 'batch'; batch: Sealed }
  | { kind: 'foreign'; collector: string; records: Records[]; invalid: number }
  | { kind: 'rows'; keys: string[] }

/** Loads the accounts from the journal's ledger table. */
export function openIngest(options: IngestOptions): Ingest {
  return new JournalIngest(options)
}

class JournalIngest implements Ingest {
  readonly accounts = new Accounts()
  readonly counters: IngestCounters = {
    batches: 0,
    records: 0,
    forwarded: 0,
    duplicates: 0,
    invalid: 0,
    bytes: 0,
    commits: 0,
    commitMs: 0,
    failedCommits: 0,
    statuses: 0,
  }
  readonly #options: IngestOptions
  readonly #limits: IngestLimits
  readonly #own = new OwnStreams()
  readonly #groups: GroupCommit<Work>
  readonly #listeners = new Set<RequestListener>()

  constructor(options: IngestOptions) {
    this.#options = options
    this.#limits = { ...ingestLimits, ...options.limits }
    this.#groups = new GroupCommit((group) => this.#commit(group), this.#limits)
    const damaged = this.accounts.load(options.journal.table('dpulse_ledger').entries())
    for (const stream of damaged) options.log.error('account of a stream is damaged', { stream })
  }

  async onTelemetry({ topic, collector, signal, payload }: TelemetryMessage): Promise<void> {
    try {
      const bytes = decompressSync(payload, this.#limits.requestBytes)
      const header = believedHeader(signal, bytes)
      if (header?.collector === collector) {
        checkTotals(header)
        // Kafka packs by itself, so that others can read it.
        const value = this.#options.journal.shared ? bytes : payload
        await this.#add({ header, signal, value, request: this.#kept(bytes) })
      } else {
        // A sender may call itself as it likes in its topic; the name of its stream is one that a header may hold.
        const sender = deviceFromHostId(collector)
        const { rejected, message } = await this.#addForeign(signal, bytes, sender)
        if (rejected > 0) this.#options.log.warn('records fit no batch', { topic, rejected, reason: message })
      }
      this.counters.bytes += payload.length
    } catch (error) {
      // What is malformed will never be well formed: it is answered, so that the sender does not repeat it for ever.
      if (!(error instanceof PermanentError)) throw error
      this.counters.invalid++
      this.#options.log.warn('MQTT message refused', { topic, code: codeOf(error), error: messageOf(error) })
    }
  }

  async onRequest({ signal, bytes, peer, believed }: OtlpRequest): Promise<Handled> {
    try {
      const header = believedHeader(signal, bytes)
      this.counters.bytes += bytes.length
      if (header && believed(header.collector)) {
        checkTotals(header)
        const value = this.#packed(bytes)
        await this.#add({ header, signal, value, request: this.#kept(bytes) })
        return { rejected: 0 }
      }
      return await this.#addForeign(signal, bytes, OwnStreams.collectorOf(peer))
    } catch (error) {
      if (error instanceof PermanentError) this.counters.invalid++
      throw error
    }
  }

  onStatus(collector: string, payload: Uint8Array): boolean {
    let status: Status
    try {
      if (payload.length > statusBytes) throw new Error(`it has ${payload.length} bytes`)
      status = statusSchema.parse(JSON.parse(Buffer.from(payload).toString()))
      if (status.collector !== collector) throw new Error(`it speaks of the collector ${status.collector}`)
    } catch (error) {
      this.counters.invalid++
      this.#options.log.warn('status refused', { collector, error: messageOf(error).slice(0, 500) })
      return false
    }
    this.counters.statuses++
    // Where several aggregators share the journal, whoever owns a partition keeps the accounts of its devices.
    if (status.state === 'online' && !this.#options.journal.shared) {
      const keys = this.accounts.birth(status, this.#nowMs())
      // If the row is not written now, the next batch of the stream or the next birth writes it.
      if (keys.length > 0) this.#groups.add({ kind: 'rows', keys }, 256).catch(() => undefined)
    }
    this.#options.onStatus?.(status)
    return true
  }

  room(): Promise<void> {
    return this.#groups.room()
  }

  listen(listener: RequestListener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  async forget(keys: readonly string[]): Promise<void> {
    const table = this.#options.journal.table('dpulse_ledger')
    for (const key of keys) this.accounts.forget(key)
    await Promise.all(keys.map((key) => table.set(key, undefined)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#groups.drained()
  }

  #nowMs(): number {
    return Number(this.#options.clock.nowUnixNano() / 1_000_000n)
  }

  #kept(request: Uint8Array): Uint8Array | undefined {
    return this.#listeners.size > 0 ? request : undefined
  }

  #packed(bytes: Uint8Array): Uint8Array {
    return this.#options.journal.shared ? bytes : compressSync(bytes, 'zstd')
  }

  #add(batch: Sealed): Promise<void> {
    const { value, request } = batch
    return this.#groups.add({ kind: 'batch', batch }, value.length + (request?.length ?? 0) + 512)
  }

  async #addForeign(signal: Signal, bytes: Uint8Array, collector: string): Promise<Handled> {
    const { records, rejected } = splitRequest(signal, bytes, { device: this.#options.device })
    const invalid = rejected.reduce((sum, { count }) => sum + count, 0)
    this.counters.invalid += invalid
    if (records.length > 0 || invalid > 0) {
      await this.#groups.add({ kind: 'foreign', collector, records, invalid }, bytes.length + 512)
    }
    const [first] = rejected
    return first ? { rejected: invalid, message: first.reason } : { rejected: 0 }
  }

  /** One commit of the journal. Only one runs at a time, so a duplicate's first copy is on disk, or in this group. */
  async #commit(group: readonly Member<Work>[]): Promise<void> {
    const { journal, clock, log } = this.#options
    if (journal.shared) return this.#pass(group)
    const stage = this.accounts.stage(this.#nowMs())
    const fresh: Sealed[] = []
    const heard: Header[] = []
    const keys: string[] = []
    for (const { value: work, fail } of group) {
      if (work.kind === 'rows') {
        keys.push(...work.keys)
        continue
      }
      try {
        for (const batch of work.kind === 'batch' ? [work.batch] : this.#seal(work)) {
          if (work.kind === 'batch') heard.push(batch.header)
          if (stage.record(batch.header) === 'new') fresh.push(batch)
          else this.counters.duplicates++
        }
      } catch (error) {
        fail(error)
      }
    }
    const rows = stage.rows(keys)
    if (rows.length > 0) {
      const began = clock.elapsedMs()
      try {
        await journal.append(fresh.map(entryOf), rows)
      } catch (error) {
        this.counters.failedCommits++
        this.#own.abandon()
        log.error('journal does not take batches', { code: codeOf(error), error: messageOf(error) })
        throw error
      }
      this.counters.commits++
      this.counters.commitMs += clock.elapsedMs() - began
      stage.apply()
    }
    for (const batch of fresh) this.#tell(batch)
    for (const [collector, ack] of acksOf(heard, this.accounts)) this.#options.acknowledge(collector, ack)
  }

  /**
   * A commit of a journal that several aggregators share: each takes in only some batches of a stream, so none of them
   * knows which are new. Whoever owns the partition does, and keeps the account.
   */
  async #pass(group: readonly Member<Work>[]): Promise<void> {
    const { clock, log } = this.#options
    const batches: Sealed[] = []
    const heard: Header[] = []
    for (const { value: work, fail } of group) {
      try {
        if (work.kind === 'batch') heard.push(work.batch.header)
        if (work.kind === 'batch') batches.push(work.batch)
        else if (work.kind === 'foreign') batches.push(...this.#seal(work))
      } catch (error) {
        fail(error)
      }
    }
    const began = clock.elapsedMs()
    try {
      await this.#options.journal.append(batches.map(entryOf), [])
    } catch (error) {
      this.counters.failedCommits++
      this.#own.abandon()
      log.error('journal does not take batches', { code: codeOf(error), error: messageOf(error) })
      throw error
    }
    this.counters.commits++
    this.counters.commitMs += clock.elapsedMs() - began
    for (const batch of batches) this.#tell(batch)
    for (const [collector, ack] of acksOfBatches(heard)) this.#options.acknowledge(collector, ack)
  }

  #seal({ collector, records, invalid }: Work & { kind: 'foreign' }): Sealed[] {
    return this.#own
      .seal(collector, records, invalid, this.#options.device)
      .map(({ header, signal, bytes }) => ({
        header,
        signal,
        value: this.#packed(bytes),
        request: this.#kept(bytes),
      }))
  }

  #tell({ header, signal, request }: Sealed): void {
    this.counters.batches++
    this.counters.records += header.count
    if (signal === 'traces') this.counters.forwarded += header.count
    this.#options.onBatch?.(header, signal)
    if (!request) return
    for (const listener of this.#listeners) {
      try {
        listener(header, signal, request)
      } catch (error) {
        // The journal has the batch: who only looks on must not make its sender repeat it.
        this.#options.log.error('live tail failed', { error: messageOf(error) })
      }
    }
  }
}

const entryOf = ({ header, signal, value }: Sealed): AppendEntry => ({
  topic: signalTopics[signal],
  class: header.class,
  key: header.device,
  value,
})
