// Keeps the collector within its limits of CPU and memory: what can wait waits before it enters, what cannot is shed,
// the least precious first. Work is let in by an account of CPU time that is filled at the configured rate and charged
// with what the process group really used, so nothing depends on what a record is thought to cost.
//
//   account   full ┤ all enter
//                0 ┤ `log` waits; the emptier, the more precious are those that wait, `event` last
//            empty ┤ what cannot wait is shed, `log` first, as much as keeps the account from sinking further
import process from 'node:process'
import { classes, rank } from '../plugins/contract/index.ts'
import type { Admission, Class, Clock, Log as Logger } from '../plugins/contract/index.ts'
import { Bandwidth } from './bandwidth.ts'
import { cpuSeconds, endedCpuSeconds, groupOf } from './footprint.ts'
import { Heap } from './heap.ts'
import type { Limits } from './limits.ts'
import { Memory } from './memory.ts'
import { Quotas } from './quota.ts'
import { Shedding } from './shedding.ts'

/** The account holds what so many seconds give. */
const burstSeconds = 2
/** However poor the machine, one collection of the heap or one start must not cost half a minute of silence. */
const deepestSeconds = 0.25
const sampleMs = 10
const groupMs = 2000
const shedEveryMs = 250
/** What is let in between two samples is charged ahead at this rate; the next sample sets it right. */
const bytesPerCpuSecond = 64e6
/** Who has waited so long enters, one at a time: neither a sender nor a class may starve. */
const longestWaitMs = 500
/** However little comes in. */
const memoryEveryMs = 100

interface Waiter {
  readonly bytes: number
  readonly sinceMs: number
  readonly enter: () => void
}

export interface BudgetOptions {
  clock: Clock
  logger: Logger
  /** Who asks V8 to collect; one for an ordinary collector where absent. */
  heap?: Heap
  memory?: Memory
  /** CPU seconds of this process with all its threads. */
  ownCpuSeconds?: () => number
}

const ownCpu = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

export class Budget {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #ownCpuSeconds: () => number
  readonly quotas: Quotas
  readonly bandwidth: Bandwidth
  readonly heap: Heap
  readonly #memory: Memory
  readonly admission: Admission
  readonly #shedding = new Shedding()
  readonly #waiters: Waiter[][] = classes.map(() => [])
  #waiting = 0
  #limits: Limits = {}
  #exporters = 1
  #timers = new AbortController()
  #wake: { dueMs: number; armed: AbortController } | undefined
  #isStopped = false
  /** Seconds of CPU. */
  #credit = 0
  #ahead = 0
  #sampledMs = 0
  #sampledCpu = 0
  #groupMs = -Infinity
  #groupCpu = 0
  #lastLetInMs = 0
  /** Of the time since the last look at the shedding. */
  #load = { cpu: 0, ms: 0 }
  /** Seconds that emits have waited for the budget, summed. */
  slowedSeconds = 0

  constructor({ clock, logger, heap, memory, ownCpuSeconds }: BudgetOptions) {
    this.#clock = clock
    this.#logger = logger
    this.#ownCpuSeconds = ownCpuSeconds ?? ownCpu
    this.quotas = new Quotas(clock)
    this.bandwidth = new Bandwidth(clock)
    this.heap = heap ?? new Heap(clock)
    this.#memory = memory ?? new Memory({ clock, heap: this.heap })
    this.admission = {
      shed: (name) => this.#shedding.part(name),
      onShed: (listener) => this.#shedding.onChange(listener),
      queue: (bytes) => Math.min(bytes, (this.#limits.memory ?? Infinity) / 32),
      sender: (name) => this.quotas.sender(name),
      hasQuota: () => this.quotas.isSet,
      senderBy: () => this.quotas.by,
    }
  }

  /** The limits in force from now on. */
  configure(limits: Limits, exporters: number): void {
    this.#exporters = Math.max(1, exporters)
    if (this.#isStopped || JSON.stringify(limits) === JSON.stringify(this.#limits)) return
    this.#limits = limits
    this.quotas.configure(limits.senders)
    this.bandwidth.configure(limits.bandwidth)
    this.heap.configure(limits.memory, limits.cpu)
    this.#timers.abort()
    this.#timers = new AbortController()
    const { signal } = this.#timers
    this.#credit = (limits.cpu ?? 0) * burstSeconds
    this.#sampledMs = this.#clock.elapsedMs()
    this.#sampledCpu = this.#cpu(this.#sampledMs)
    this.#shedding.reset()
    this.#memory.configure(limits.memory, limits.cpu)
    if (limits.cpu !== undefined || limits.memory !== undefined)
      void this.#clock.every(shedEveryMs, signal, () => this.#look())
    if (limits.memory !== undefined) void this.#clock.every(memoryEveryMs, signal, () => this.#weigh())
    this.#admit()
  }

  /** Bytes of batches that an exporter may hold in memory, of the `configured`. */
  bufferBytes(configured: number): number {
    const { memory } = this.#limits
    if (memory === undefined) return configured
    // The program itself takes most of a small limit; what is short goes to the disk earlier.
    const part = Math.max(memory / 16, memory / 2 - 64 * 1024 * 1024) / this.#exporters
    return Math.min(configured, Math.max(1024 * 1024, part * (1 - this.#memory.short / 2)))
  }

  /** Records of so many bytes come in that can wait: undefined where they may at once, else what resolves when they may. */
  enter(name: Class, bytes: number): Promise<void> | undefined {
    this.heap.allocated(bytes)
    if (this.#isStopped) return undefined
    this.#memory.look()
    if (this.#limits.cpu === undefined && this.#memory.short === 0) {
      this.#memory.letIn(bytes)
      return undefined
    }
    const nowMs = this.#clock.elapsedMs()
    this.#sample(nowMs)
    if ((this.#waiters[rank[name]]?.length ?? 0) === 0 && this.#mayEnter(name, nowMs, nowMs)) {
      this.#letIn(bytes, nowMs)
      return undefined
    }
    return new Promise((resolve) => {
      this.#waiters[rank[name]]?.push({ bytes, sinceMs: nowMs, enter: resolve })
      this.#waiting++
      this.#arm(nowMs)
    })
  }

  /** Of records that cannot wait: whether these, of so many bytes, are to be dropped. */
  sheds(name: Class, bytes: number): boolean {
    this.heap.allocated(bytes)
    const part = this.#shedding.part(name)
    if (part > 0 && Math.random() < part) return true
    this.#memory.letIn(bytes)
    this.#shedding.shortOf(this.#memory.short)
    return false
  }

  get waiting(): number {
    return this.#waiting
  }

  /** What is used of what is set, 1 for all of it. */
  used(): { name: 'memory' | 'cpu' | 'bandwidth'; share: number }[] {
    const { memory, cpu, bandwidth } = this.#limits
    const list: { name: 'memory' | 'cpu' | 'bandwidth'; share: number }[] = []
    if (memory !== undefined) list.push({ name: 'memory', share: this.#memory.used / memory })
    if (cpu !== undefined) list.push({ name: 'cpu', share: 1 - this.#credit / (cpu * burstSeconds) })
    if (bandwidth !== undefined) list.push({ name: 'bandwidth', share: this.bandwidth.used })
    return list
  }

  /** Nobody waits any more: what is under way is to be brought to an end. */
  stop(): void {
    this.#isStopped = true
    this.#timers.abort()
    this.#wake?.armed.abort()
    this.#shedding.reset()
    this.bandwidth.configure(undefined)
    for (const queue of this.#waiters) for (const { enter } of queue.splice(0)) enter()
    this.#waiting = 0
  }

  #mayEnter(name: Class, sinceMs: number, nowMs: number): boolean {
    // Waiting longer, the last resort is to go in turn: slowly, and whatever the account says.
    if (nowMs - sinceMs >= longestWaitMs && nowMs - this.#lastLetInMs >= longestWaitMs / 10) return true
    const worth = (classes.length - 1 - rank[name]) / (classes.length - 1)
    if (this.#memory.short > worth) return false
    const { cpu } = this.#limits
    if (cpu === undefined) return true
    return this.#credit - this.#ahead > -cpu * burstSeconds * worth
  }

  #letIn(bytes: number, nowMs: number): void {
    this.#ahead += bytes / bytesPerCpuSecond
    this.#memory.letIn(bytes)
    this.#lastLetInMs = nowMs
  }

  #admit(): void {
    const nowMs = this.#clock.elapsedMs()
    this.#sample(nowMs)
    this.#memory.look()
    for (const name of classes) {
      const queue = this.#waiters[rank[name]] ?? []
      let entered = 0
      for (const { bytes, sinceMs, enter } of queue) {
        if (!this.#mayEnter(name, sinceMs, nowMs)) break
        entered++
        this.#letIn(bytes, nowMs)
        this.slowedSeconds += (nowMs - sinceMs) / 1000
        enter()
      }
      if (entered > 0) queue.splice(0, entered)
      this.#waiting -= entered
    }
    if (this.#waiting > 0) this.#arm(nowMs)
  }

  #arm(nowMs: number): void {
    const cpu = this.#limits.cpu ?? 1
    // When the account allows `log`; memory, and those who have waited too long, are looked at all the while.
    const owedMs = ((this.#ahead - this.#credit) / cpu) * 1000
    const dueMs = nowMs + Math.min(longestWaitMs / 10, Math.max(sampleMs, owedMs))
    if (this.#wake && this.#wake.dueMs <= dueMs) return
    this.#wake?.armed.abort()
    const armed = new AbortController()
    this.#wake = { dueMs, armed }
    this.#clock.delay(dueMs - nowMs, armed.signal).then(
      () => {
        this.#wake = undefined
        this.#admit()
      },
      () => undefined, // cancelled
    )
  }

  /** Charges what was used since the last time. */
  #sample(nowMs: number): void {
    const { cpu } = this.#limits
    const ms = nowMs - this.#sampledMs
    if (cpu === undefined || ms < sampleMs) return
    const total = this.#cpu(nowMs)
    const used = Math.max(0, total - this.#sampledCpu)
    this.#sampledMs = nowMs
    this.#sampledCpu = total
    this.#load.cpu += used
    this.#load.ms += ms
    const full = cpu * burstSeconds
    const deepest = -Math.max(full, deepestSeconds)
    this.#credit = Math.max(deepest, Math.min(full, this.#credit + (cpu * ms) / 1000 - used))
    this.#ahead = 0
  }

  #cpu(nowMs: number): number {
    this.#lookAround(nowMs)
    return this.#ownCpuSeconds() + this.#groupCpu
  }

  /** What we started, and what that uses. */
  #lookAround(nowMs: number): void {
    if (nowMs - this.#groupMs < groupMs) return
    this.#groupMs = nowMs
    const others = groupOf(process.pid).slice(1)
    const below = others.reduce((sum, pid) => sum + cpuSeconds(pid), endedCpuSeconds(process.pid))
    this.#groupCpu = Math.max(this.#groupCpu, below) // one that ended unseen is counted a moment later
    this.#memory.others = others
  }

  /** How much of what cannot wait is shed. */
  #look(): void {
    const nowMs = this.#clock.elapsedMs()
    this.#sample(nowMs)
    const { cpu } = this.#limits
    const full = (cpu ?? 1) * burstSeconds
    const load = cpu === undefined || this.#load.ms === 0 ? 0 : (this.#load.cpu * 1000) / this.#load.ms / cpu
    this.#load = { cpu: 0, ms: 0 }
    const account = cpu === undefined ? 1 : this.#credit / full
    const before = this.#shedding.level
    this.#shedding.adjust(load, account)
    if (before === 0 && this.#shedding.level > 0)
      this.#logger.warn('the budget is used up: records that cannot wait are dropped', {
        used: Object.fromEntries(this.used().map(({ name, share }) => [name, Math.round(share * 100) / 100])),
      })
    if (this.#waiting > 0) this.#admit()
  }

  #weigh(): void {
    this.#lookAround(this.#clock.elapsedMs())
    this.#memory.look()
    this.#shedding.shortOf(this.#memory.short)
  }
}
