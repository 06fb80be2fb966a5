// Simulated time, the same for all devices: what is due when. `driveLive` lets it follow the machine's clock, faster where
// asked; `driveVirtual` goes from one thing that is due to the next as fast as the machine allows.
import { setImmediate as turn } from 'node:timers/promises'

export interface Timer {
  readonly dueMs: number
  /** Of two that are due together the one that was made first comes first. */
  readonly order: number
  readonly wake: () => void
  /** Where it stands in the heap; −1 where it does not. */
  at: number
}

const isBefore = (a: Timer, b: Timer): boolean =>
  a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order)

/** A binary heap, from which a timer is removed when it is cancelled: most are. */
export class Timeline {
  /** Unix time, in milliseconds, of 0. */
  readonly epochMs: number
  readonly #heap: Timer[] = []
  #order = 0
  #now = () => 0
  #onEarlier: () => void = () => undefined

  constructor(epochMs: number) {
    this.epochMs = epochMs
  }

  /** Simulated milliseconds since the epoch of the run. */
  get nowMs(): number {
    return this.#now()
  }

  get next(): Timer | undefined {
    return this.#heap[0]
  }

  /** Who lets time pass; `onEarlier` hears when something is due before all else. */
  drive(now: () => number, onEarlier: () => void): void {
    this.#now = now
    this.#onEarlier = onEarlier
  }

  add(dueMs: number, wake: () => void): Timer {
    const timer: Timer = { dueMs, order: this.#order++, wake, at: this.#heap.length }
    this.#heap.push(timer)
    this.#rise(timer)
    if (timer.at === 0) this.#onEarlier()
    return timer
  }

  remove(timer: Timer): void {
    const { at } = timer
    if (at < 0) return
    timer.at = -1
    const last = this.#heap.pop()
    if (!last || last === timer) return
    last.at = at
    this.#heap[at] = last
    this.#rise(last)
    this.#sink(last)
  }

  /** Takes out and wakes what is due soonest. */
  fire(): void {
    const [timer] = this.#heap
    if (!timer) return
    this.remove(timer)
    timer.wake()
  }

  #rise(timer: Timer): void {
    const heap = this.#heap
    while (timer.at > 0) {
      const parent = heap[(timer.at - 1) >> 1]
      if (!parent || !isBefore(timer, parent)) break
      this.#swap(timer, parent)
    }
  }

  #sink(timer: Timer): void {
    const heap = this.#heap
    for (;;) {
      const left = heap[timer.at * 2 + 1]
      const right = heap[timer.at * 2 + 2]
      const child = right && left && isBefore(right, left) ? right : left
      if (!child || isBefore(timer, child)) return
      this.#swap(child, timer)
    }
  }

  #swap(upward: Timer, downward: Timer): void {
    const { at } = upward
    upward.at = downward.at
    downward.at = at
    this.#heap[upward.at] = upward
    this.#heap[at] = downward
  }
}

/** What wakes at once before sockets get their turn. */
const mostAtOnce = 128
/** A timer of Node overflows beyond 2^31. */
const longestWaitMs = 3_600_000

export interface Pace {
  /** Simulated seconds in a second. */
  readonly speed: number
  /** How far in the past the run begins: when it has caught up with the present it goes on with it. */
  readonly behindMs: number
}

/** Time goes on, at that pace and never beyond the wall clock, until it is disposed of. */
export function driveLive(timeline: Timeline, { speed, behindMs }: Pace): Disposable {
  const startedMs = performance.now()
  const now = () => {
    const realMs = performance.now() - startedMs
    return Math.min(realMs * speed, behindMs + realMs)
  }
  let timeout: NodeJS.Timeout | undefined
  let armedMs = Infinity
  function arm(): void {
    const dueMs = timeline.next?.dueMs ?? Infinity
    if (dueMs >= armedMs) return
    clearTimeout(timeout)
    armedMs = dueMs
    const waitMs = startedMs + Math.max(dueMs / speed, dueMs - behindMs) - performance.now()
    timeout = setTimeout(fire, Math.min(Math.max(0, waitMs), longestWaitMs))
  }
  function fire(): void {
    const nowMs = now()
    for (let count = 0; count < mostAtOnce && (timeline.next?.dueMs ?? Infinity) <= nowMs; count++) {
      timeline.fire()
    }
    armedMs = Infinity
    arm()
  }
  timeline.drive(now, arm)
  arm()
  return { [Symbol.dispose]: () => clearTimeout(timeout) }
}

/**
 * Time jumps from one thing that is due to the next until `done` is settled. Each is brought to its end before the next
 * one begins, so that their order does not depend on the machine; `busy` is awaited where it gives something.
 */
export async function driveVirtual(
  timeline: Timeline,
  done: Promise<unknown>,
  busy: () => Promise<unknown> | undefined,
): Promise<void> {
  const over = new AbortController()
  const end = () => over.abort()
  done.then(end, end)
  let nowMs = 0
  timeline.drive(
    () => nowMs,
    () => undefined,
  )
  await turn()
  while (!over.signal.aborted) {
    nowMs = Math.max(nowMs, timeline.next?.dueMs ?? nowMs)
    timeline.fire()
    await turn()
    const work = busy()
    if (work) await work
  }
  await done
}
