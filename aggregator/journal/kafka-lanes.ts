// What was fetched and not yet taken, by topic and partition: bounded, so that a consumer knows what to pause. Taken in
// turns, so that no partition stands before another.
import type { JournalDamage, JournalEntry, Position, ReadLimit, SignalTopic } from './journal.ts'
import { positionKey } from './journal.ts'

export interface Lane {
  readonly topic: SignalTopic
  readonly partition: number
  readonly key: string
  /** Fetched, waiting to be taken. */
  queue: JournalEntry[]
  /** First of `queue` that waits. */
  head: number
  bytes: number
  /** Offset of the next that is taken. */
  next: number
  /** Offset of the next that is fetched. */
  fetch: number
  isPaused: boolean
}

/** Of one lane, and of all: more is not fetched before some was taken. */
const laneBytes = 8 * 1024 * 1024
const allBytes = 64 * 1024 * 1024

export class Lanes {
  readonly #lanes = new Map<string, Lane>()
  #order: Lane[] = []
  #turn = 0
  #bytes = 0

  get(topic: string, partition: number): Lane | undefined {
    return this.#lanes.get(`${topic}/${partition}`)
  }

  all(): readonly Lane[] {
    return this.#order
  }

  open(topic: SignalTopic, partition: number, offset: number): Lane {
    const key = positionKey(topic, partition)
    const lane: Lane = {
      topic,
      partition,
      key,
      queue: [],
      head: 0,
      bytes: 0,
      next: offset,
      fetch: offset,
      isPaused: false,
    }
    this.#lanes.set(key, lane)
    this.#order = [...this.#lanes.values()]
    return lane
  }

  close(partition: number): void {
    for (const lane of this.#order) {
      if (lane.partition !== partition) continue
      this.#bytes -= lane.bytes
      this.#lanes.delete(lane.key)
    }
    this.#order = [...this.#lanes.values()]
  }

  add(lane: Lane, entry: JournalEntry): void {
    lane.queue.push(entry)
    lane.bytes += entry.value.length
    lane.fetch = entry.offset + 1
    this.#bytes += entry.value.length
  }

  /** Forgets what was fetched: reading goes on at the offset. */
  move(lane: Lane, offset: number): void {
    this.#bytes -= lane.bytes
    Object.assign(lane, { queue: [], head: 0, bytes: 0, next: offset, fetch: offset })
  }

  isFull(lane: Lane): boolean {
    return lane.bytes >= laneBytes || (this.#bytes >= allBytes && lane.bytes > 0)
  }

  /** There is room again for a good deal. */
  hasRoom(lane: Lane): boolean {
    return lane.bytes <= laneBytes / 4 && (this.#bytes <= allBytes / 2 || lane.bytes === 0)
  }

  /** In turns, a few of each, until a limit is reached; at least one where there is any. */
  take(limit: ReadLimit, next: Record<string, number>): JournalEntry[] {
    const taken: JournalEntry[] = []
    const count = this.#order.length
    const share = Math.max(1, Math.floor(limit.bytes / Math.max(1, count)))
    let bytes = 0
    for (let idle = 0; idle < count && taken.length < limit.entries;) {
      const lane = this.#order[this.#turn++ % count]
      if (!lane) break
      let own = 0
      while (lane.head < lane.queue.length && own < share && taken.length < limit.entries) {
        const entry = lane.queue[lane.head]
        if (!entry || (taken.length > 0 && bytes + entry.value.length > limit.bytes)) return this.#done(taken)
        lane.head++
        own += entry.value.length
        bytes += entry.value.length
        lane.bytes -= entry.value.length
        lane.next = entry.offset + 1
        next[lane.key] = lane.next
        taken.push(entry)
      }
      idle = own > 0 ? 0 : idle + 1
      if (lane.head === lane.queue.length) {
        lane.queue = []
        lane.head = 0
      }
    }
    return this.#done(taken)
  }

  #done(taken: JournalEntry[]): JournalEntry[] {
    this.#bytes = this.#order.reduce((sum, lane) => sum + lane.bytes, 0)
    return taken
  }
}

/** What lies between where we stand and the oldest that is there, or beyond the newest that is there. */
export function damageOf(lane: Lane, low: number, high: number): JournalDamage | undefined {
  const { topic, partition, next } = lane
  if (next < low) return { topic, partition, from: next, to: low }
  if (next > high) return { topic, partition, from: high, to: next }
  return undefined
}

/** Where a lane begins: as saved, or with the oldest that is there. */
export const startOf = (saved: Position, topic: SignalTopic, partition: number, low: number): number =>
  saved[positionKey(topic, partition)] ?? low
