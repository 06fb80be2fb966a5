// What each local sender may bring in: an account of records and one of bytes for every sender, filled at its rates.
// A sender that can wait is slowed by as long as it is behind; what cannot wait and is beyond is dropped and counted.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Class, Clock, SenderQuota } from '../plugins/contract/index.ts'
import type { SenderLimits } from './limits.ts'

/** Names can be made up: those beyond share one account, so that who invents them gains nothing. */
const mostSenders = 256
const others = 'others'

export interface SenderCounts {
  readonly sender: string
  readonly records: number
  readonly bytes: number
  readonly dropped: number
  /** How long it was held back, summed. */
  readonly slowedSeconds: number
}

class Sender implements SenderQuota {
  readonly name: string
  readonly #quotas: Quotas
  #recordRate = Infinity
  #byteRate = Infinity
  #records = 0
  #bytes = 0
  #burst = 1
  #filledMs: number
  usedMs: number
  records = 0
  bytes = 0
  dropped = 0
  slowedMs = 0

  constructor(name: string, quotas: Quotas) {
    this.name = name
    this.#quotas = quotas
    this.#filledMs = this.usedMs = quotas.nowMs()
  }

  configure(records: number, bytes: number, burstSeconds: number): void {
    this.#recordRate = records
    this.#byteRate = bytes
    this.#burst = burstSeconds
    this.#records = records * burstSeconds
    this.#bytes = bytes * burstSeconds
  }

  admits(name: Class, records: number, bytes: number): boolean {
    if (!this.#quotas.isSet) return true
    this.#fill()
    // The precious may go into debt by as much as a burst.
    const debt = (this.#burst * (classes.length - 1 - rank[name])) / (classes.length - 1)
    if (this.#records < 1 - this.#recordRate * debt || this.#bytes < 1 - this.#byteRate * debt) {
      this.dropped += records
      return false
    }
    this.#charge(records, bytes)
    return true
  }

  charge(records: number, bytes: number): void {
    if (!this.#quotas.isSet) return
    this.#fill()
    this.#charge(records, bytes)
  }

  slowed(ms: number): void {
    this.slowedMs += ms
  }

  get owedMs(): number {
    if (!this.#quotas.isSet) return 0
    this.#fill()
    const records = this.#records < 0 ? -this.#records / this.#recordRate : 0
    const bytes = this.#bytes < 0 ? -this.#bytes / this.#byteRate : 0
    return Math.max(records, bytes) * 1000
  }

  #charge(records: number, bytes: number): void {
    this.#records -= records
    this.#bytes -= bytes
    this.records += records
    this.bytes += bytes
  }

  #fill(): void {
    const nowMs = this.#quotas.nowMs()
    this.usedMs = nowMs
    const seconds = (nowMs - this.#filledMs) / 1000
    if (seconds <= 0) return
    this.#filledMs = nowMs
    if (this.#recordRate < Infinity)
      this.#records = Math.min(this.#recordRate * this.#burst, this.#records + seconds * this.#recordRate)
    if (this.#byteRate < Infinity)
      this.#bytes = Math.min(this.#byteRate * this.#burst, this.#bytes + seconds * this.#byteRate)
  }
}

export class Quotas {
  readonly #clock: Clock
  readonly #senders = new Map<string, Sender>()
  #limits: SenderLimits | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get isSet(): boolean {
    return this.#limits !== undefined
  }

  get by(): 'address' | 'service' {
    return this.#limits?.by ?? 'address'
  }

  nowMs(): number {
    return this.#clock.elapsedMs()
  }

  configure(limits: SenderLimits | undefined): void {
    if (JSON.stringify(limits) === JSON.stringify(this.#limits)) return
    this.#limits = limits
    // Sources hold these: the same ones get the new rates.
    for (const sender of this.#senders.values()) this.#set(sender)
  }

  /** The account of a sender; the same one as long as it is remembered. */
  sender(name: string): SenderQuota {
    const known = this.#senders.get(name)
    if (known) return known
    if (name !== others && this.#senders.size >= mostSenders && !this.#forgetOne()) return this.sender(others)
    const sender = new Sender(name, this)
    this.#set(sender)
    this.#senders.set(name, sender)
    return sender
  }

  counts(): SenderCounts[] {
    if (!this.isSet) return []
    return [...this.#senders.values()]
      .filter(({ records, dropped }) => records > 0 || dropped > 0)
      .map(({ name, records, bytes, dropped, slowedMs }) => ({
        sender: name,
        records,
        bytes,
        dropped,
        slowedSeconds: slowedMs / 1000,
      }))
      .sort((one, other) => other.dropped - one.dropped || other.records - one.records)
  }

  #set(sender: Sender): void {
    const limits = this.#limits
    if (!limits) return
    const { records = limits.records, bytes = limits.bytes } = limits.names[sender.name] ?? {}
    sender.configure(records ?? Infinity, bytes ?? Infinity, limits.burst / 1000)
  }

  /** Room for another: the first that has been silent for longer than a burst, and so has nothing to lose. */
  #forgetOne(): boolean {
    const before = this.nowMs() - 2 * (this.#limits?.burst ?? 10_000)
    for (const [name, sender] of this.#senders) {
      if (name === others || sender.usedMs > before || sender.dropped > 0) continue
      this.#senders.delete(name)
      return true
    }
    return false
  }
}
