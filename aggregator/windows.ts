// The windows of the aggregator's filter. Their rows are kept in the commit that keeps the numbers of the batches from
// which readings were taken, so that none is taken twice or not at all. What a window made goes two steps: the batch is
// kept as a row in one commit, and given to the store with the next. From then on it never changes: whoever finds the
// row after a crash or a handover writes the same batch, which a store that has it takes as one.
//
//   readings ─▶ window ─▶ made, a row ─▶ the store; the row goes
import { sealBatch, streamKey } from '../plugins/contract/batch.ts'
import type { Header, StreamId } from '../plugins/contract/batch.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { Writer } from '../plugins/contract/wire.ts'
import { writeSeries } from '../plugins/protocols/filter/index.ts'
import type { ReadingTaker, WindowSettings } from '../plugins/protocols/filter/index.ts'
import { TimedWindow } from './timed-window.ts'
import type { Now, OpenWindow } from './timed-window.ts'
import { decodeMade, deviceOfRow, encodeMade, isWindowRow, madeBatch, madeBy } from './window-rows.ts'
import type { MadeBatch } from './window-rows.ts'
import type { MadeTotals } from './written.ts'

/** Windows that end in one commit; the others do in the next. */
const mostEnded = 5000

/** What a commit does for the windows. */
export interface WindowStep {
  readonly rows: ReadonlyMap<string, Uint8Array | undefined>
  /** Goes into the store: an earlier commit has kept it. */
  readonly store: readonly MadeBatch[]
  /** Is kept by this commit. */
  readonly made: readonly MadeBatch[]
}

export class FilterWindows {
  readonly #clock: Clock
  readonly #log: Log
  readonly #windows = new Map<string, TimedWindow>()
  readonly #out = new Writer(16 * 1024)
  /** Kept, and not yet in the store. */
  #ready: MadeBatch[] = []
  /** Rows that nobody can read or needs. */
  #strangers: string[] = []
  /** Before that no window ends. */
  #nextMs = Infinity
  #refused = 0

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
  }

  /** The windows of a rule. */
  of(rule: string, settings: WindowSettings): ReadingTaker {
    const window = new TimedWindow(rule, settings)
    this.#windows.set(rule, window)
    return window
  }

  /** Readings that were taken so far. */
  get taken(): number {
    let taken = 0
    for (const window of this.#windows.values()) taken += window.taken
    return taken
  }

  /** Before the readings of a batch. */
  begin(arrivedUnixNano: bigint): void {
    const arrivedMs = Number(arrivedUnixNano / 1_000_000n)
    for (const window of this.#windows.values()) window.arrivedMs = arrivedMs
  }

  /** After the readings of a batch: the windows that they opened end no sooner than this. */
  noteTaken(): void {
    const leastMs = Math.min(...[...this.#windows.values()].map(({ graceMs }) => graceMs))
    this.#nextMs = Math.min(this.#nextMs, this.#clock.elapsedMs() + leastMs)
  }

  /** How long until a commit has something to do for the windows; undefined where there is nothing to wait for. */
  dueInMs(): number | undefined {
    if (this.#ready.length + this.#strangers.length > 0) return 0
    if (this.#nextMs <= this.#clock.elapsedMs()) this.#look()
    return this.#nextMs === Infinity ? undefined : Math.max(0, this.#nextMs - this.#clock.elapsedMs())
  }

  /** What the next commit keeps and stores; `totals` are those that the last one kept. */
  step(totals: (stream: string) => MadeTotals | undefined): WindowStep {
    const now = this.#now()
    const rows = new Map<string, Uint8Array | undefined>()
    for (const key of this.#strangers.splice(0)) rows.set(key, undefined)
    const store = this.#ready.splice(0)
    for (const { row } of store) rows.set(row, undefined)
    const made = this.#nextMs <= now.elapsedMs ? this.#end(now, totals) : []
    for (const one of made) rows.set(one.row, encodeMade(one))
    for (const window of this.#windows.values()) window.changes(now.elapsedMs, rows)
    this.#complain()
    return { rows, store, made }
  }

  /** The commit of a step is safe, of those devices that are ours. */
  kept({ made }: WindowStep, isOurs: (row: string) => boolean): void {
    for (const one of made) if (isOurs(one.row)) this.#ready.push(one)
  }

  /** Takes up what an earlier run or the owner before has kept. */
  restore(rows: Iterable<readonly [string, Uint8Array]>): void {
    const { elapsedMs } = this.#now()
    for (const [key, value] of rows) {
      if (!isWindowRow(key)) continue
      if (key.startsWith('$made/')) {
        const made = decodeMade(value)
        if (made) this.#ready.push(made)
        else this.#log.error('what a window made cannot be read', { row: key })
        if (!made) this.#strangers.push(key)
        continue
      }
      const rule = key.split('/')[2] ?? ''
      let window = this.#windows.get(rule)
      // Its rule is gone, its readings are not: the window ends at once.
      if (!window) {
        window = new TimedWindow(rule, { interval: 0, to: [], max_series: 1 })
        this.#windows.set(rule, window)
      }
      if (!window.restore(key, value, elapsedMs)) this.#strangers.push(key)
    }
    this.#look()
  }

  forget(isGone: (device: string) => boolean): void {
    for (const window of this.#windows.values()) window.forget(isGone)
    this.#ready = this.#ready.filter(({ row }) => !isGone(deviceOfRow(row)))
    this.#strangers = this.#strangers.filter((row) => !isGone(deviceOfRow(row)))
  }

  #now(): Now {
    return {
      wallMs: Number(this.#clock.nowUnixNano() / 1_000_000n),
      elapsedMs: this.#clock.elapsedMs(),
    }
  }

  #look(): void {
    const now = this.#now()
    this.#nextMs = Infinity
    for (const window of this.#windows.values()) this.#nextMs = Math.min(this.#nextMs, window.nextMs(now))
  }

  #end(now: Now, totals: (stream: string) => MadeTotals | undefined): MadeBatch[] {
    const groups = new Map<string, OpenWindow[]>()
    let left = mostEnded
    for (const window of this.#windows.values()) {
      for (const one of window.end(now, left)) {
        left--
        const { device, class: name } = one.series.head
        const list = groups.get(`${device}/${name}`)
        if (list) list.push(one)
        else groups.set(`${device}/${name}`, [one])
      }
    }
    const made = [...groups.values()].flatMap((list) => this.#write(list, totals))
    for (const list of groups.values()) for (const { series } of list) series.count = 0
    this.#look()
    return made
  }

  /** All of one device and class: what they made, in as many batches as it takes. */
  #write(list: readonly OpenWindow[], totals: (stream: string) => MadeTotals | undefined): MadeBatch[] {
    const { device, class: name } = (list[0] as OpenWindow).series.head // no group is empty
    const stream: StreamId = { ...madeBy, device, class: name }
    let { batches, records } = totals(streamKey(stream)) ?? { batches: 0, records: 0 }
    const made: MadeBatch[] = []
    for (let at = 0; at < list.length;) {
      const { records: one, written } = writeSeries(this.#out, list, at)
      at += written
      batches++
      records += one.count
      const { count, from, to } = one
      const header: Header = { ...stream, seq: batches, count, from, to, produced: records, dropped: {} }
      const { bytes } = sealBatch(header, 'metrics', [one.bytes])
      made.push(madeBatch(header, bytes, this.#clock.nowUnixNano()))
    }
    return made
  }

  #complain(): void {
    let refused = 0
    for (const window of this.#windows.values()) refused += window.refused
    if (refused > this.#refused) {
      this.#log.warn('readings found no room in windows and are stored as they are', {
        readings: refused - this.#refused,
      })
    }
    this.#refused = refused
  }
}
