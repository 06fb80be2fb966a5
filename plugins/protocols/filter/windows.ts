// The windows of a filter: each rule that aggregates has one, in which every series of readings has its place. Readings
// that a window took in come out as what it made of them; until then its rows of state stand for them.
import type { PointCursor } from '../../contract/cursor.ts'
import type { Made, ProcessorState, StateRow } from '../../contract/define.ts'
import { Writer } from '../../contract/wire.ts'
import { writeSeries } from './made.ts'
import type { RecordFacts } from './record.ts'
import type { RuleSettings } from './settings.ts'
import { Series, headOf } from './window.ts'

export type WindowSettings = NonNullable<RuleSettings['aggregate']>

/** What a rule that aggregates gives its readings to. */
export interface ReadingTaker {
  /** False where there is no room for another series: the reading goes on as it is. */
  take(series: string, record: RecordFacts, point: PointCursor, nowMs: number): boolean
}

/** A counter that was not heard of for so many windows, or goes back by as many, starts anew. */
const windowsKept = 10

export class Window implements ReadingTaker {
  /** Under which its rows are kept. */
  readonly id: string
  readonly settings: WindowSettings
  readonly #series = new Map<string, Series>()
  /** Those with readings of the window that is open. */
  readonly #open = new Set<string>()
  readonly #changed = new Set<string>()
  readonly #gone = new Set<string>()
  #openedMs = 0
  /** Windows are numbered, so that rows of one that is done with are told from those of the next. */
  #number = 0
  /** Readings that found no room. */
  refused = 0

  constructor(id: string, settings: WindowSettings) {
    this.id = id
    this.settings = settings
  }

  /** Takes a reading in; false where there are as many series as there may be. */
  take(key: string, record: RecordFacts, point: PointCursor, nowMs: number): boolean {
    let series = this.#series.get(key)
    if (!series) {
      if (this.#series.size >= this.settings.max_series && !this.#forget(nowMs)) {
        this.refused++
        return false
      }
      series = new Series(headOf(record, point), this.settings.to)
      this.#series.set(key, series)
    }
    if (this.#open.size === 0) this.#openedMs = nowMs
    this.#open.add(key)
    this.#changed.add(key)
    series.startAnewBefore(point, windowsKept * this.settings.interval)
    series.take(point, nowMs)
    return true
  }

  isDue(nowMs: number): boolean {
    return this.#open.size > 0 && nowMs - this.#openedMs >= this.settings.interval
  }

  get isOpen(): boolean {
    return this.#open.size > 0
  }

  /** What it holds, with the keys of the rows that stand for it. */
  held(): { series: Series; row: string }[] {
    const held: { series: Series; row: string }[] = []
    for (const key of this.#open) {
      const series = this.#series.get(key)
      if (series) held.push({ series, row: this.#rowKey(key) })
    }
    return held
  }

  /** The next one begins: what this one held has been written. */
  end(nowMs: number): void {
    for (const key of this.#open) {
      const series = this.#series.get(key)
      if (!series) continue
      this.#gone.add(this.#rowKey(key))
      series.count = 0
      // From its last value the next window counts on.
      if (series.to.includes('increase')) this.#changed.add(key)
      else this.#changed.delete(key)
    }
    this.#open.clear()
    this.#number++
    this.#forgetOld(nowMs)
  }

  *changes(nowMs: number): Generator<StateRow> {
    for (const key of this.#gone) yield { key, value: undefined }
    for (const key of this.#changed) {
      const series = this.#series.get(key)
      if (!series) continue
      const row = series.count > 0 ? this.#rowKey(key) : `${this.id}/${key}/idle`
      yield { key: row, value: series.encode(nowMs - this.#openedMs) }
    }
    this.#gone.clear()
    this.#changed.clear()
  }

  restore(key: string, number: number | undefined, series: Series, ageMs: number, nowMs: number): void {
    const known = this.#series.get(key)
    // The row of what a series was before its open window adds nothing to it.
    if (known && number === undefined) return
    this.#series.set(key, series)
    if (number === undefined || series.count === 0) return
    this.#open.add(key)
    this.#number = Math.max(this.#number, number)
    this.#openedMs = Math.min(this.#open.size === 1 ? Infinity : this.#openedMs, nowMs - ageMs)
  }

  #rowKey(key: string): string {
    return `${this.id}/${key}/${this.#number}`
  }

  /** Room for one more, at the cost of the one that is silent for longest; false where all have readings. */
  #forget(nowMs: number): boolean {
    let oldest: string | undefined
    let heardMs = nowMs
    for (const [key, series] of this.#series) {
      if (series.count > 0 || series.heardMs > heardMs) continue
      oldest = key
      heardMs = series.heardMs
    }
    if (oldest === undefined) return false
    this.#drop(oldest)
    return true
  }

  #forgetOld(nowMs: number): void {
    for (const [key, series] of this.#series) {
      if (series.count === 0 && nowMs - series.heardMs > windowsKept * this.settings.interval) this.#drop(key)
    }
  }

  #drop(key: string): void {
    const series = this.#series.get(key)
    this.#series.delete(key)
    this.#changed.delete(key)
    if (series?.to.includes('increase')) this.#gone.add(`${this.id}/${key}/idle`)
  }
}

/** All windows of a filter, and their state. */
export class Windows implements ProcessorState {
  readonly #windows: Map<string, Window>
  readonly #nowMs: () => number
  readonly #ready: Made[] = []
  readonly #out = new Writer(16 * 1024)
  /** Rows that are of no rule any more, or not to be read: to be removed. */
  readonly #strangers: string[] = []

  constructor(windows: readonly Window[], nowMs: () => number) {
    this.#windows = new Map(windows.map((window) => [window.id, window]))
    this.#nowMs = nowMs
  }

  flush(last: boolean): Made | undefined {
    if (this.#ready.length === 0) {
      const nowMs = this.#nowMs()
      for (const window of this.#windows.values()) {
        if (window.isDue(nowMs) || (last && window.isOpen)) this.#ready.push(...this.#end(window, nowMs))
      }
    }
    return this.#ready.shift()
  }

  changes(): StateRow[] {
    const nowMs = this.#nowMs()
    const rows: StateRow[] = this.#strangers.splice(0).map((key) => ({ key, value: undefined }))
    for (const window of this.#windows.values()) rows.push(...window.changes(nowMs))
    return rows
  }

  restore(rows: ReadonlyMap<string, Uint8Array>): void {
    const nowMs = this.#nowMs()
    for (const [row, value] of rows) {
      const [id = '', key = '', number = ''] = row.split('/')
      let window = this.#windows.get(id)
      const found = Series.decode(value, nowMs, window?.settings.to)
      if (!found) {
        this.#strangers.push(row)
        continue
      }
      if (!window) {
        if (number === 'idle') {
          this.#strangers.push(row)
          continue
        }
        // Its rule is gone, its readings are not: the window ends at once.
        window = new Window(id, { interval: 0, to: [], max_series: 1 })
        this.#windows.set(id, window)
      }
      window.restore(key, number === 'idle' ? undefined : Number(number), found.series, found.ageMs, nowMs)
    }
  }

  /** What a window holds, as Records of one device and class each, and no more than fit into a batch. */
  #end(window: Window, nowMs: number): Made[] {
    const groups = new Map<string, Held[]>()
    for (const one of window.held()) {
      const { device, class: name } = one.series.head
      const group = `${device}/${name}`
      const list = groups.get(group)
      if (list) list.push(one)
      else groups.set(group, [one])
    }
    const made: Made[] = []
    for (const list of groups.values()) {
      for (let at = 0; at < list.length;) {
        const { records, taken, written } = writeSeries(this.#out, list, at)
        const rows = list.slice(at, at + written).map(({ row }) => row)
        made.push({ records, taken, rows })
        at += written
      }
    }
    window.end(nowMs)
    return made
  }
}

interface Held {
  series: Series
  row: string
}
