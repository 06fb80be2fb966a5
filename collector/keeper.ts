// Keeps what processors of one pipeline have taken in: their rows of state are in the log's table `windows` before
// sources are answered, and what they make of them stays there until a batch in the log has it. So a kill repeats
// nothing and loses nothing: a row stands for readings, an `out` row for what became of them, a mark for the batch.
//
//   <pipeline>/<component>/<row>     state of a processor
//   <pipeline>/<component>!<ulid>    Records made of rows that are gone; its key is the mark of their batches
import { ulid } from 'ulid'
import * as z from 'zod'
import { classes, signals } from '../plugins/contract/index.ts'
import type { Clock, DropReason, Log as Logger, Records } from '../plugins/contract/index.ts'
import type { Log, Table } from '../plugins/protocols/log/index.ts'
import type { Chain, Flushed, Stage } from './chain.ts'
import type { Outlet } from './outlet.ts'
import type { Tap } from './subscribers.ts'

/** Readings that come together share a commit. */
const gatherMs = 50
const retryMs = 1000
const flushEveryMs = 1000

interface Sets {
  table: string
  key: string
  value: Uint8Array | undefined
}

/** What a processor made, under the key by which it is kept; without one where it is not. */
interface Out {
  key: string
  made: Flushed
}

export interface KeeperOptions {
  pipeline: string
  chain: Chain
  outlets: readonly Outlet[]
  tap: Tap
  /** Undefined keeps everything in memory. */
  log: Log | undefined
  clock: Clock
  logger: Logger
}

export class Keeper {
  readonly #options: KeeperOptions
  /** Where it hands over what is made. */
  outlets: readonly Outlet[]
  readonly #table: Table | undefined
  readonly #stages: readonly Stage[]
  /** Not on disk yet: of a write that failed, or of what was made. */
  #pending = new Map<string, Uint8Array | undefined>()
  #saving: Promise<void> | undefined
  #next: Promise<void> | undefined
  readonly #restored: Out[] = []
  readonly #stopped = new AbortController()
  /** While windows are looked at again and again; only where there is any. */
  #flushing: AbortController | undefined

  constructor(options: KeeperOptions) {
    this.#options = options
    this.outlets = options.outlets
    this.#stages = options.chain.stages.filter(({ processor }) => processor.state !== undefined)
    this.#table = this.#stages.length > 0 ? options.log?.table('windows') : undefined
  }

  /**
   * What an earlier run left behind goes back to the processors; what they had made is handed over by `resume`. Once for
   * each: `known` are those that had theirs.
   */
  restore(known: Set<string>): void {
    for (const stage of this.#stages) {
      const prefix = this.#prefix(stage)
      if (known.has(prefix)) continue
      known.add(prefix)
      const rows = new Map<string, Uint8Array>()
      const madeOf = new Set<string>()
      for (const [key, value] of this.#table?.entries() ?? []) {
        if (key.startsWith(`${prefix}/`)) rows.set(key.slice(prefix.length + 1), value)
        else if (key.startsWith(`${prefix}!`)) {
          const made = decodeMade(value, stage)
          if (made) this.#restored.push({ key, made })
          else this.#options.logger.error('what windows held cannot be read', { key })
          for (const row of made?.rows ?? []) madeOf.add(row)
        }
      }
      // Both are there where the end came in the middle of a write.
      for (const row of madeOf) {
        if (rows.delete(row)) this.#pending.set(`${prefix}/${row}`, undefined)
      }
      if (rows.size > 0) stage.processor.state?.restore(rows)
    }
  }

  /** Hands over what was made before and is in no batch yet, and from now on what is made; the outlets are open. */
  resume(): void {
    void this.#handAll(this.#restored.splice(0))
    const { chain, clock } = this.#options
    if (!chain.flushes || this.#flushing) return
    this.#flushing = new AbortController()
    const flush = () => void this.flush(false).catch(() => undefined)
    void clock.every(flushEveryMs, this.#flushing.signal, flush)
  }

  /** Resolves when all that processors have taken in by now is in the log. Rejects only at the stop. */
  saved(): Promise<void> {
    if (!this.#table) return Promise.resolve()
    this.#next ??= this.#saveSoon()
    return this.#next
  }

  /** What is ready goes into the log, then to the outlets. */
  async flush(last: boolean): Promise<void> {
    const { chain, clock } = this.#options
    if (!chain.flushes) return
    if (last) this.#flushing?.abort()
    const made: Out[] = []
    for (const one of chain.flush(clock.nowUnixNano(), last)) {
      const isKept = this.#table !== undefined && one.stage.processor.state !== undefined
      const key = isKept && one.records.length > 0 ? `${this.#prefix(one.stage)}!${ulid()}` : ''
      if (key !== '') this.#pending.set(key, encodeMade(one))
      made.push({ key, made: one })
    }
    if (made.length === 0) return
    if (this.#table) await this.#saveNow()
    await this.#handAll(made)
  }

  /** Whoever waits for the disk is told that it will not be. */
  stop(): void {
    this.#flushing?.abort()
    this.#stopped.abort()
  }

  async #handAll(list: readonly Out[]): Promise<void> {
    for (const { made } of list) for (const records of made.records) this.#options.tap.see(records)
    const kept = list.filter(({ key }) => key !== '')
    for (const one of list) if (one.key === '') this.#handLoose(one)
    await Promise.all(kept.map((one) => this.#hand(one)))
  }

  /** Nothing keeps it meanwhile: it is in memory alone, as what a source does not wait for. */
  #handLoose({ made }: Out): void {
    for (const outlet of this.outlets) {
      this.#drop(outlet, made)
      // Refused, they are counted there.
      for (const records of made.records) outlet.accept(records, true).catch(() => undefined)
    }
  }

  #drop(outlet: Outlet, { device, class: name, dropped }: Flushed): void {
    for (const [reason, count] of Object.entries(dropped)) {
      outlet.drop(device, name, reason as DropReason, count)
    }
  }

  async #hand({ key, made }: Out): Promise<void> {
    const { outlets } = this
    const marks = made.records.map((_, index) => `${key}.${index}`)
    const safe = outlets.flatMap((outlet) =>
      made.records.map((records, index) => {
        const mark = marks[index] ?? ''
        if (outlet.buffer.hasMark(mark)) return Promise.resolve()
        // The count goes with the first of them.
        return outlet.accept(records, true, { key: mark, dropped: index === 0 ? made.dropped : {} })
      }),
    )
    try {
      await Promise.all(safe)
      this.#pending.set(key, undefined)
      await this.saved()
    } catch {
      return // at the stop: the next start hands over what is in no batch
    }
    for (const { buffer } of outlets) for (const mark of marks) buffer.forgetMark(mark)
  }

  async #saveSoon(): Promise<void> {
    const { clock } = this.#options
    await clock.delay(gatherMs, this.#stopped.signal).catch(() => undefined)
    await this.#saving
    this.#next = undefined
    await this.#saveNow()
  }

  /** One commit after the other. */
  async #saveNow(): Promise<void> {
    const before = this.#saving
    const mine = (async () => {
      await before?.catch(() => undefined)
      await this.#save()
    })()
    this.#saving = mine.catch(() => undefined)
    await mine
  }

  async #save(): Promise<void> {
    const { log, clock, logger } = this.#options
    for (;;) {
      const sets = this.#changes()
      if (sets.length === 0 || !log) return
      try {
        return void (await log.commit({ set: sets }))
      } catch (error) {
        // What changed meanwhile is newer.
        for (const { key, value } of sets) if (!this.#pending.has(key)) this.#pending.set(key, value)
        if (this.#stopped.signal.aborted) throw error
        logger.warn('the state of processors could not be written, their sources wait', { error })
        await clock.delay(retryMs, this.#stopped.signal).catch(() => undefined)
      }
    }
  }

  #changes(): Sets[] {
    const rows = this.#pending
    this.#pending = new Map()
    for (const stage of this.#stages) {
      const prefix = this.#prefix(stage)
      for (const { key, value } of stage.processor.state?.changes() ?? []) rows.set(`${prefix}/${key}`, value)
    }
    return [...rows].map(([key, value]) => ({ table: 'windows', key, value }))
  }

  #prefix({ id }: Stage): string {
    return `${this.#options.pipeline}/${id}`
  }
}

const recordsSchema = z.object({
  device: z.string(),
  signal: z.enum(signals),
  class: z.enum(classes),
  count: z.number(),
  from: z.string(),
  to: z.string(),
  bytes: z.string(),
})
const madeSchema = z.object({
  device: z.string(),
  class: z.enum(classes),
  dropped: z.record(z.string(), z.number()),
  rows: z.array(z.string()),
  records: z.array(recordsSchema),
})

function encodeMade({ records, device, class: name, dropped, rows }: Flushed): Buffer {
  const list = records.map(({ from, to, bytes, ...rest }) => ({
    ...rest,
    from: String(from),
    to: String(to),
    bytes: Buffer.from(bytes).toString('base64'),
  }))
  return Buffer.from(JSON.stringify({ device, class: name, dropped, rows, records: list }))
}

function decodeMade(value: Uint8Array, stage: Stage): Flushed | undefined {
  try {
    const row = madeSchema.parse(JSON.parse(Buffer.from(value).toString()))
    const records = row.records.map(({ from, to, bytes, ...rest }): Records => ({
      ...rest,
      from: BigInt(from),
      to: BigInt(to),
      bytes: Buffer.from(bytes, 'base64'),
    }))
    return { ...row, stage, dropped: row.dropped, records }
  } catch {
    return undefined
  }
}
