// The windows of one rule that aggregates, in the aggregator: they go by the time of the readings, since what a collector
// kept through an outage comes hours later and beside what is new. So a series may have several that are open.
import type { PointCursor } from '../plugins/contract/cursor.ts'
import { Series, headOf } from '../plugins/protocols/filter/index.ts'
import type { ReadingTaker, RecordFacts, WindowSettings } from '../plugins/protocols/filter/index.ts'
import { windowRow } from './window-rows.ts'

/** How long a window waits for what is late; a shorter one as long as it lasts. */
const mostGraceMs = 5000
/** A counter that was not heard of for so many windows starts anew. */
const windowsKept = 10
const dayMs = 86_400_000
const two32 = 4_294_967_296

export interface OpenWindow {
  readonly series: Series
  readonly id: string
  readonly startMs: number
  readonly openedMs: number
}

/** Now, by the clock of the machine and by the one that is never set. */
export interface Now {
  readonly wallMs: number
  readonly elapsedMs: number
}

export class TimedWindow implements ReadingTaker {
  readonly rule: string
  readonly #settings: WindowSettings
  /** How long it waits for what is late. */
  readonly graceMs: number
  readonly #open = new Map<string, OpenWindow>()
  /** Of each series the one with the newest reading; only where a function counts on from it. */
  readonly #newest = new Map<string, Series>()
  readonly #changed = new Set<string>()
  readonly #gone = new Set<string>()
  /** When the batch at hand came: its readings that claim a time far from it go by it, as in the store. */
  arrivedMs = 0
  /** Readings that it took, and those that found no room. */
  taken = 0
  refused = 0

  constructor(rule: string, settings: WindowSettings) {
    this.rule = rule
    this.#settings = settings
    this.graceMs = Math.min(settings.interval, mostGraceMs)
  }

  get isOpen(): boolean {
    return this.#open.size > 0
  }

  take(id: string, record: RecordFacts, point: PointCursor, nowMs: number): boolean {
    const { interval, to, max_series: most } = this.#settings
    const claimedMs = ((point.timeHigh >>> 0) * two32 + (point.timeLow >>> 0)) / 1e6
    const isSuspect = Math.abs(claimedMs - this.arrivedMs) > dayMs
    const startMs = Math.floor((isSuspect ? this.arrivedMs : claimedMs) / interval) * interval
    const key = windowRow(record.device, this.rule, id, String(startMs))
    let window = this.#open.get(key)
    if (!window) {
      if (this.#open.size >= most) {
        this.refused++
        return false
      }
      window = { series: new Series(headOf(record, point), to), id, startMs, openedMs: nowMs }
      if (to.includes('increase')) this.#follow(window, point)
      this.#open.set(key, window)
    }
    const { series } = window
    series.take(point, nowMs)
    if (to.includes('increase')) this.#note(id, series, point)
    this.#changed.add(key)
    this.taken++
    return true
  }

  /** When the next one may end: it may be later. */
  nextMs({ wallMs, elapsedMs }: Now): number {
    let next = Infinity
    for (const window of this.#open.values()) {
      const waitsMs = Math.max(this.#endsMs(window) - wallMs, this.#silentMs(window) - elapsedMs)
      next = Math.min(next, elapsedMs + waitsMs, this.#lastMs(window))
    }
    return next
  }

  /** Takes out at most so many of those that end, with the keys of their rows. */
  end({ wallMs, elapsedMs }: Now, most: number): OpenWindow[] {
    const ended: OpenWindow[] = []
    for (const [key, window] of this.#open) {
      if (ended.length >= most) break
      const isOver = wallMs >= this.#endsMs(window) && elapsedMs >= this.#silentMs(window)
      if (!isOver && elapsedMs < this.#lastMs(window)) continue
      this.#open.delete(key)
      this.#changed.delete(key)
      this.#gone.add(key)
      const { series, id } = window
      if (this.#newest.get(id) === series) this.#changed.add(this.#lastRow(id, series))
      ended.push(window)
    }
    this.#forgetOld(elapsedMs)
    return ended
  }

  /** Rows that changed since the last call. */
  changes(nowMs: number, into: Map<string, Uint8Array | undefined>): void {
    for (const key of this.#gone) into.set(key, undefined)
    for (const key of this.#changed) {
      const window = this.#open.get(key)
      const series = window?.series ?? this.#newest.get(key.split('/')[3] ?? '')
      if (series) into.set(key, series.encode(window ? nowMs - window.openedMs : 0))
    }
    this.#gone.clear()
    this.#changed.clear()
  }

  /** Takes up a row; false where it is to be removed. */
  restore(key: string, value: Uint8Array, nowMs: number): boolean {
    const [, , , id = '', place = ''] = key.split('/')
    const { to } = this.#settings
    const found = Series.decode(value, nowMs, to.length > 0 ? to : undefined)
    if (!found) return false
    const { series, ageMs } = found
    const newest = this.#newest.get(id)
    if (to.includes('increase') && (!newest || newest.newest <= series.newest)) this.#newest.set(id, series)
    if (place === 'last') {
      series.count = 0
      return to.includes('increase')
    }
    this.#open.set(key, { series, id, startMs: Number(place), openedMs: nowMs - ageMs })
    return true
  }

  /** What is somebody else's from now on. */
  forget(isGone: (device: string) => boolean): void {
    for (const [key, { series }] of this.#open) {
      if (!isGone(series.head.device)) continue
      this.#open.delete(key)
      this.#changed.delete(key)
    }
    for (const [id, series] of this.#newest) {
      if (!isGone(series.head.device)) continue
      this.#newest.delete(id)
      this.#changed.delete(this.#lastRow(id, series))
    }
    for (const key of this.#gone) if (isGone(key.split('/')[1] ?? '')) this.#gone.delete(key)
  }

  #endsMs({ startMs }: OpenWindow): number {
    return startMs + this.#settings.interval + this.graceMs
  }

  #silentMs({ series }: OpenWindow): number {
    return series.heardMs + this.graceMs
  }

  /** Whatever the time of its readings: one whose clock stands still would have a window for ever. */
  #lastMs({ openedMs }: OpenWindow): number {
    return openedMs + 2 * this.#settings.interval + this.graceMs
  }

  /** A new window counts on from the newest reading, or from the window before it where that is older. */
  #follow({ series, id, startMs }: OpenWindow, point: PointCursor): void {
    const newest = this.#newest.get(id)
    const before = windowRow(series.head.device, this.rule, id, String(startMs - this.#settings.interval))
    const from = newest?.isAfter(point) === true ? this.#open.get(before)?.series : newest
    if (from && !from.isAfter(point)) series.follow(from)
  }

  #note(id: string, series: Series, point: PointCursor): void {
    const newest = this.#newest.get(id)
    if (newest === series || newest?.isAfter(point) === true) return
    // The row of one that was silent until now.
    if (newest?.count === 0) this.#gone.add(this.#lastRow(id, newest))
    this.#newest.set(id, series)
    this.#changed.delete(this.#lastRow(id, series))
  }

  #forgetOld(nowMs: number): void {
    const { interval, max_series: most } = this.#settings
    for (const [id, series] of this.#newest) {
      const isOld = nowMs - series.heardMs > windowsKept * interval || this.#newest.size > 2 * most
      if (!isOld || series.count > 0) continue
      this.#newest.delete(id)
      this.#changed.delete(this.#lastRow(id, series))
      this.#gone.add(this.#lastRow(id, series))
    }
  }

  #lastRow(id: string, { head }: Series): string {
    return windowRow(head.device, this.rule, id, 'last')
  }
}
