// What waits for one local subscriber: Records in groups that go out together, bounded in bytes. Nobody waits for room: when
// there is none the oldest goes, and is counted, so that whoever reads on is told what is missing.
import { batchLimits } from '../plugins/contract/index.ts'
import type { Class, Records, Signal } from '../plugins/contract/index.ts'
import { Fifo } from './fifo.ts'

/** Writers leave some room behind what they wrote. */
const spareBytes = 4096

/** Records of one device, class and signal; requests concatenate, so their bytes in a row are one request. */
export interface Group {
  readonly device: string
  readonly class: Class
  readonly signal: Signal
  readonly parts: Uint8Array[]
  count: number
  /** Bytes of the request, and what it keeps in memory. */
  size: number
  from: bigint
  to: bigint
}

export class Inbox {
  readonly #limit: number
  readonly #onMissed: (records: number) => void
  readonly #waiting = new Fifo<Group>()
  /** Those that still take more, by device, class and signal. */
  readonly #open = new Map<string, Group>()
  #bytes = 0
  #missed = 0

  constructor(limit: number, onMissed: (records: number) => void) {
    this.#limit = limit
    this.#onMissed = onMissed
  }

  get bytes(): number {
    return this.#bytes
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /** Takes Records in, whatever has to go for them. */
  offer(records: Records): void {
    const bytes = own(records)
    const held = bytes.length
    if (held > this.#limit) return this.miss(records.count)
    while (this.#bytes + held > this.#limit) {
      const oldest = this.take()
      if (!oldest) break
      this.miss(oldest.count)
    }
    const key = keyOf(records)
    let group = this.#open.get(key)
    if (!group) {
      const { device, class: name, signal, from, to } = records
      group = { device, class: name, signal, parts: [], count: 0, size: 0, from, to }
      this.#open.set(key, group)
      this.#waiting.push(group)
    }
    group.parts.push(bytes)
    group.count += records.count
    group.size += held
    if (records.from < group.from) group.from = records.from
    if (records.to > group.to) group.to = records.to
    this.#bytes += held
    if (group.count >= batchLimits.records || group.size >= batchLimits.bytes) this.#open.delete(key)
  }

  /** The oldest group; it is not added to any more. */
  take(): Group | undefined {
    const group = this.#waiting.shift()
    if (!group) return undefined
    const key = keyOf(group)
    if (this.#open.get(key) === group) this.#open.delete(key)
    this.#bytes -= group.size
    return group
  }

  /** Counts records that the subscriber will not see. */
  miss(records: number): void {
    this.#missed += records
    this.#onMissed(records)
  }

  /** Missed since the last call: for the one to tell the subscriber. */
  takeMissed(): number {
    const missed = this.#missed
    this.#missed = 0
    return missed
  }
}

/** A small part of a large request would keep the whole in memory, so it is copied. */
function own({ bytes }: Records): Uint8Array {
  return bytes.buffer.byteLength > 2 * bytes.length + spareBytes ? Uint8Array.from(bytes) : bytes
}

const keyOf = ({ signal, class: name, device }: Pick<Group, 'signal' | 'class' | 'device'>): string =>
  `${signal} ${name} ${device}`
