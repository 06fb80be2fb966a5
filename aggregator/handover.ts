// Between writer and a journal that several aggregators share. It keeps the accounts of the devices whose partitions are
// ours, gives a header to records that others wrote to Kafka, and saves all that must outlive an owner: position, rows of
// the writer, accounts. What it knows of a partition is forgotten when the partition goes, and read anew when it comes.
//
//   journal ─▶ handover ─▶ writer ─▶ store
//      ▲          │  foreign records become batches, headers go to the accounts
//      └──────────┘  once the store has them: one transaction for each partition, at most one a second
import { parseStreamKey, streamKey } from '../plugins/contract/batch.ts'
import type { Header } from '../plugins/contract/batch.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Status } from '../plugins/protocols/topics.ts'
import { Accounts } from './account.ts'
import { ForeignStreams, headerIn, signalOf } from './foreign.ts'
import { positionKey, signalTopics } from './journal/journal.ts'
import type {
  GainedPartition,
  Journal,
  JournalEntry,
  JournalRead,
  Moves,
  PartitionSave,
  Position,
  SignalTopic,
  TableRow,
} from './journal/journal.ts'
import type { Handover, HandoverOptions, RunningHandover } from './owner.ts'
import { deviceOfRow, isWindowRow } from './window-rows.ts'

interface Pending {
  topic: SignalTopic
  offset: number
  key: string
  header: Header
}

interface Owned {
  position: Record<string, number>
  streams: Set<string>
  pending: Pending[]
  /** What is not saved yet: the position moved, accounts changed, and rows of the writer. */
  isMoved: boolean
  dirty: Set<string>
  rows: Map<string, Uint8Array | undefined>
  foreign: ForeignStreams
}

type Birth = Pick<Status, 'collector' | 'ended' | 'held'>

const birthKey = 'birth/'
/** A transaction costs Kafka and us as much as storing a thousand records. What is not saved yet is stored again, as it is. */
const saveMs = 1000
const never = new AbortController().signal
/** Of one aggregator: devices times classes times sessions that are remembered. */
const streamLimit = 1_000_000

export function openHandover(options: HandoverOptions): RunningHandover {
  return new PartitionHandover(options)
}

class PartitionHandover implements RunningHandover {
  readonly accounts = new Accounts(streamLimit)
  readonly counters = { foreign: 0, unreadable: 0, unaccounted: 0 }
  readonly #options: HandoverOptions
  readonly #owned = new Map<number, Owned>()
  /** Of each stream that is ours. */
  readonly #partitions = new Map<string, number>()
  #saving: Promise<unknown> = Promise.resolve()
  /** When the next save may begin; before that it is only made ready. */
  #nextMs = -Infinity
  #isDue = false

  constructor(options: HandoverOptions) {
    this.#options = options
    options.journal.table('dpulse_registry').watch?.((key, value) => {
      if (value && key.startsWith(birthKey)) this.#bear(parseBirth(value))
    })
  }

  async read(...[from, limit, signal]: Parameters<Journal['read']>): Promise<JournalRead> {
    const read = await this.#options.journal.read(from, limit, signal)
    const entries: JournalEntry[] = []
    for (const entry of read.entries) this.#receive(entry, entries)
    return { ...read, entries }
  }

  move({ lost, gained }: Moves, position: Position): ReturnType<Handover['move']> {
    const next: Record<string, number> = { ...position }
    const streams: (readonly [string, Uint8Array])[] = []
    const forgotten: string[] = []
    for (const partition of lost) {
      forgotten.push(...this.#forget(partition))
      for (const topic of Object.values(signalTopics)) delete next[positionKey(topic, partition)]
    }
    for (const one of gained) {
      this.#gain(one)
      Object.assign(next, one.position)
      streams.push(...one.streams)
    }
    const moved = new Set([...lost, ...gained.map(({ partition }) => partition)])
    const { shared } = this.#options
    return {
      position: next,
      streams,
      forgotten,
      isMoved: (device) => moved.has(shared.partitionOf(device)),
    }
  }

  async save(...[position, rows, urgent]: Parameters<Handover['save']>): Promise<(key: string) => boolean> {
    const { storeKeepsState, clock } = this.#options
    for (const [partition, owned] of this.#owned) this.#advance(partition, owned, position)
    for (const [key, row] of storeKeepsState ? [] : rows) {
      const owned = this.#ownerOf(key)
      owned?.rows.set(key, row)
      if (!isWindowRow(key)) owned?.streams.add(key)
    }
    if (urgent) {
      const kept = await this.#save()
      return (key) => storeKeepsState || kept.has(this.#partitionOf(key))
    }
    const leftMs = storeKeepsState ? 0 : this.#nextMs - clock.elapsedMs()
    // A store that keeps the rows itself must not be ahead of the accounts for long.
    if (leftMs <= 0) await this.flush()
    else if (!this.#isDue) {
      this.#isDue = true
      clock
        .delay(leftMs, never)
        .then(() => this.#flushDue())
        .catch(() => undefined)
    }
    // Those that were not kept are told as lost by the next read, and forgotten then.
    return (key) => storeKeepsState || this.#ownerOf(key) !== undefined
  }

  onStatus(status: Status): void {
    if (status.state !== 'online' || status.ended.length + status.held.length === 0) return
    const { collector, ended, held } = status
    const { journal, log } = this.#options
    const table = journal.table('dpulse_registry')
    const value = Buffer.from(JSON.stringify({ collector, ended, held } satisfies Birth))
    const known = table.get(birthKey + collector)
    if (known && value.equals(known)) return
    table.set(birthKey + collector, value).catch((error: unknown) => {
      log.warn('birth not passed on', { collector, error: messageOf(error) })
    })
  }

  forget(keys: readonly string[]): Promise<string[]> {
    return this.#exclusive(async () => {
      const isMoving = (key: string): boolean => {
        const owned = this.#ownerOf(key)
        return !owned || owned.dirty.has(key) || owned.rows.has(key) || pending.has(key)
      }
      const pending = new Set(
        [...this.#owned.values()].flatMap((owned) => owned.pending.map(({ key }) => key)),
      )
      const settled = Map.groupBy(keys, (key) => (isMoving(key) ? undefined : this.#partitionOf(key)))
      const states: PartitionSave[] = []
      for (const [partition, some] of settled) {
        const owned = partition === undefined ? undefined : this.#owned.get(partition)
        if (partition === undefined || !owned) continue
        const rows = some.map((key): TableRow => [key, undefined])
        const { position, streams, accounts } = this.#unsaved(partition, owned)
        states.push({ partition, position, streams: [...streams, ...rows], accounts: [...accounts, ...rows] })
      }
      const kept = await this.#options.shared.save(states)
      const closed = [...kept].flatMap((partition) => settled.get(partition) ?? [])
      for (const key of closed) this.#close(key)
      return closed
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#options.clock.every(saveMs, signal, () => this.#flushDue())
  }

  async flush(): Promise<void> {
    await this.#save()
  }

  /** Unless it was done a moment ago: then the next time. */
  async #flushDue(): Promise<void> {
    if (this.#options.clock.elapsedMs() >= this.#nextMs) await this.flush()
  }

  /** Answers which partitions have all that there was to save. */
  #save(): Promise<ReadonlySet<number>> {
    return this.#exclusive(async () => {
      const { clock, shared } = this.#options
      this.#isDue = false
      this.#nextMs = clock.elapsedMs() + saveMs
      const states: PartitionSave[] = []
      const settled = new Set(this.#owned.keys())
      for (const [partition, owned] of this.#owned) {
        const { isMoved, dirty, rows } = owned
        if (!isMoved && dirty.size === 0 && rows.size === 0) continue
        states.push(this.#unsaved(partition, owned))
        settled.delete(partition)
      }
      // What is not kept is told as lost by the next read, and all of its partition forgotten then.
      if (states.length > 0) for (const partition of await shared.save(states)) settled.add(partition)
      return settled
    })
  }

  /** What is to be saved of a partition; it counts as saved from now on. */
  #unsaved(partition: number, owned: Owned): PartitionSave {
    const { position, dirty, rows } = owned
    Object.assign(owned, { isMoved: false, dirty: new Set(), rows: new Map() })
    return { partition, position: { ...position }, streams: [...rows], accounts: this.#rowsOf(dirty) }
  }

  /** Two transactions of one partition never run at once. */
  #exclusive<T>(task: () => Promise<T>): Promise<T> {
    const mine = this.#saving.then(task, task)
    this.#saving = mine.catch(() => undefined)
    return mine
  }

  /** Of a stream or of another row of the writer. */
  #ownerOf(key: string): Owned | undefined {
    return this.#owned.get(this.#partitionOf(key))
  }

  #partitionOf(key: string): number {
    return this.#partitions.get(key) ?? this.#options.shared.partitionOf(deviceOfRow(key))
  }

  /** Takes into the accounts what of a partition came before `position`. */
  #advance(partition: number, owned: Owned, position: Position): void {
    for (const topic of Object.values(signalTopics)) {
      const key = positionKey(topic, partition)
      const at = position[key]
      if (at === undefined || at === owned.position[key]) continue
      owned.position[key] = at
      owned.isMoved = true
    }
    if (!owned.isMoved) return
    const nowMs = this.#nowMs()
    const later: Pending[] = []
    for (const one of owned.pending) {
      const isBefore = one.offset < (position[positionKey(one.topic, partition)] ?? 0)
      if (!isBefore) later.push(one)
      else if (this.#record(one, nowMs)) owned.dirty.add(one.key)
    }
    owned.pending = later
  }

  /** What Kafka has is stored, also where there are too many streams for another account: then the ledger is short of it. */
  #record({ header, key }: Pending, nowMs: number): boolean {
    try {
      this.accounts.record(header, nowMs)
      return true
    } catch (error) {
      if (this.counters.unaccounted++ % 1000 === 0) {
        this.#options.log.error('batches without an account', { stream: key, error: messageOf(error) })
      }
      return false
    }
  }

  #rowsOf(keys: Iterable<string>): TableRow[] {
    const rows: TableRow[] = []
    for (const key of keys) if (this.accounts.get(key)) rows.push([key, this.accounts.encode(key)])
    return rows
  }

  #receive(entry: JournalEntry, into: JournalEntry[]): void {
    const { topic, partition, offset } = entry
    const owned = this.#owned.get(partition)
    // Its partition has gone; whoever has it now reads it there.
    if (!owned) return
    const header = headerIn(entry, this.#options.shared)
    const batches = header ? [{ header, value: entry.value }] : this.#adopt(owned, entry)
    for (const { header, value } of batches) {
      const key = streamKey(header)
      owned.pending.push({ topic, offset, key, header })
      owned.streams.add(key)
      this.#partitions.set(key, partition)
      into.push(header === batches[0]?.header && value === entry.value ? entry : { ...entry, value })
    }
  }

  #adopt(owned: Owned, entry: JournalEntry): { header: Header; value: Uint8Array }[] {
    const { topic, partition, offset } = entry
    this.counters.foreign++
    const { batches, failure } = owned.foreign.adopt(signalOf[topic], entry)
    if (failure !== undefined) {
      this.counters.unreadable++
      this.#options.log.warn('message in Kafka is no OTLP', { topic, partition, offset, reason: failure })
    }
    return batches.map(({ header, bytes }) => ({ header, value: bytes }))
  }

  #gain({ partition, position, accounts, streams }: GainedPartition): void {
    this.#forget(partition)
    const { device, log } = this.#options
    const damaged = new Set(this.accounts.load(accounts))
    for (const stream of damaged) log.error('account of a stream is damaged', { stream })
    const owned: Owned = {
      position: { ...position },
      streams: new Set(),
      pending: [],
      isMoved: false,
      dirty: new Set(),
      rows: new Map(),
      foreign: new ForeignStreams({ device, partition, totals: (key) => this.accounts.get(key) }),
    }
    for (const [key] of accounts) {
      if (damaged.has(key)) continue
      owned.streams.add(key)
      this.#partitions.set(key, partition)
    }
    // What windows made has no account.
    for (const [key] of streams) if (!isWindowRow(key)) owned.streams.add(key)
    this.#owned.set(partition, owned)
    for (const [key, value] of this.#options.journal.table('dpulse_registry').entries()) {
      if (key.startsWith(birthKey)) this.#bear(parseBirth(value), partition)
    }
  }

  #close(key: string): void {
    const owned = this.#ownerOf(key)
    owned?.streams.delete(key)
    owned?.foreign.forget(key)
    this.accounts.forget(key)
    this.#partitions.delete(key)
  }

  #forget(partition: number): string[] {
    const streams = [...(this.#owned.get(partition)?.streams ?? [])]
    for (const key of streams) {
      this.accounts.forget(key)
      this.#partitions.delete(key)
    }
    this.#owned.delete(partition)
    return streams
  }

  /** Takes from a birth what concerns the devices that are ours, of one partition or all. */
  #bear(birth: Birth | undefined, only?: number): void {
    if (!birth) return
    const { shared } = this.#options
    const isOurs = ({ device }: { device: string }): boolean => {
      const partition = shared.partitionOf(device)
      return this.#owned.has(partition) && (only === undefined || partition === only)
    }
    const [ended, held] = [birth.ended.filter(isOurs), birth.held.filter(isOurs)]
    if (only !== undefined && ended.length + held.length === 0) return
    const status = { ...birth, ended, held } as Status
    for (const key of this.accounts.birth(status, this.#nowMs())) {
      const partition = shared.partitionOf(parseStreamKey(key).device)
      const owned = this.#owned.get(partition)
      owned?.dirty.add(key)
      owned?.streams.add(key)
      if (owned) this.#partitions.set(key, partition)
    }
  }

  #nowMs(): number {
    return Number(this.#options.clock.nowUnixNano() / 1_000_000n)
  }
}

function parseBirth(value: Uint8Array): Birth | undefined {
  try {
    return JSON.parse(Buffer.from(value).toString()) as Birth
  } catch {
    return undefined
  }
}
