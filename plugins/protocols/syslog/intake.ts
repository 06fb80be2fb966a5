// From messages to emitted Records, for all listeners of one kind. What one turn of the event loop brings leaves
// together, without any delay; how much may be unacknowledged is bounded: streams wait then, datagrams are dropped and
// counted by class.
import { codeOf, messageOf } from '../../contract/errors.ts'
import type { Records } from '../../contract/batch.ts'
import type { Admission, Emit, Log } from '../../contract/define.ts'
import type { Class, DropReason } from '../../contract/signal.ts'
import { SyslogParser, classOf } from './parser.ts'
import type { Origin, SyslogOptions } from './parser.ts'
import { serviceOf } from './service.ts'

export interface IntakeOptions extends SyslogOptions {
  readonly emit: Emit
  /** False for datagrams. */
  readonly canWait: boolean
  /** Most bytes of Records that may be unacknowledged. */
  readonly queue: number
  readonly log: Log
  readonly admission: Admission
  nowUnixNano(): bigint
  dropped(name: Class, reason: DropReason, count: number): void
}

/** Emits that are not answered; what a chunk brings besides, whoever looks after it only, are a few. */
const mostOutstanding = 240
/** Where others no longer find room, errors still do. */
const roomForOthers = 0.75

export class Intake {
  readonly #options: IntakeOptions
  readonly #parser: SyslogParser
  #stamped = false
  #outstanding = 0
  #bytes = 0
  #turn: PromiseWithResolvers<void> | undefined
  #emitted: Promise<void>[] = []
  readonly #waiters: (() => void)[] = []
  readonly #dropped = { overflow: { log: 0, log_error: 0 }, budget: { log: 0, log_error: 0 } }

  constructor(options: IntakeOptions) {
    this.#options = options
    this.#parser = new SyslogParser(options, (records) => this.#emit(records))
  }

  /** Takes one message; its arrival is the beginning of this turn. */
  take(bytes: Buffer, start: number, end: number, origin: Origin, valid: boolean, truncated: boolean): void {
    if (this.#isBeyond(bytes, start, end, origin)) return
    if (!this.#options.canWait && this.#load >= roomForOthers && !this.#makesRoom(bytes, start, end)) return
    if (!this.#stamped) {
      this.#stamped = true
      this.#parser.observedAt(this.#options.nowUnixNano())
    }
    this.#parser.parse(bytes, start, end, origin, valid, truncated)
  }

  /** Resolves when all that was taken up to now is safe; never rejects. */
  flushed(): Promise<void> {
    if (this.#turn === undefined) {
      this.#turn = Promise.withResolvers()
      setImmediate(() => this.flush())
    }
    return this.#turn.promise
  }

  /** Emits what is held now. Datagrams stay, up to a batch, while too much is unacknowledged already. */
  flush(): void {
    this.#stamped = false
    this.#report()
    if (this.#options.canWait || this.#load < 1) this.#parser.flush()
    const turn = this.#turn
    const emitted = this.#emitted
    this.#turn = undefined
    this.#emitted = []
    if (turn !== undefined) void Promise.all(emitted).then(() => turn.resolve())
  }

  get hasRoom(): boolean {
    return this.#load < 1
  }

  /** Resolves when something has been acknowledged, or at once where there is room. */
  room(): Promise<void> {
    return this.hasRoom ? Promise.resolve() : new Promise((resolve) => void this.#waiters.push(resolve))
  }

  /** Emits what is left and waits until all is acknowledged. */
  async end(): Promise<void> {
    this.#parser.flush()
    this.flush()
    while (this.#outstanding > 0) {
      await new Promise<void>((resolve) => void this.#waiters.push(resolve))
    }
  }

  /** 1 and more where nothing else may leave. */
  get #load(): number {
    return Math.max(
      this.#outstanding / mostOutstanding,
      this.#bytes / this.#options.admission.queue(this.#options.queue),
    )
  }

  // Before anything is done with it: the budget is used up, or the quota of its sender is.
  #isBeyond(bytes: Buffer, start: number, end: number, { sender, isShed, local }: Origin): boolean {
    const { admission, canWait } = this.#options
    const hasQuota = admission.hasQuota()
    const isShedHere = !canWait && admission.shed('log') > 0
    if (!isShedHere && !hasQuota) return false
    // A connection waits as a whole; lines of one program among those of others on it cannot.
    const byService = hasQuota && admission.senderBy() === 'service'
    if (canWait && !byService) return false
    const name = classOf(bytes, start, end)
    if (name === undefined) return false
    const part = isShedHere && !(name === 'log' && isShed?.() === true) ? admission.shed(name) : 0
    const service = byService ? serviceOf(bytes, start, end, local) : undefined
    const account = service === undefined ? sender : admission.sender(service)
    const isBeyond = (part > 0 && Math.random() < part) || account?.admits(name, 1, end - start) === false
    if (isBeyond) this.#dropped.budget[name === 'log_error' ? name : 'log']++
    return isBeyond
  }

  // A message that cannot leave may still join a batch that waits; else it is lost, and counted.
  #makesRoom(bytes: Buffer, start: number, end: number): boolean {
    const name = classOf(bytes, start, end)
    if (name === undefined) return false
    if (name === 'log_error' && this.#load < 1) return true
    if (this.#parser.holdsRoom(name)) return true
    this.#dropped.overflow[name === 'log_error' ? name : 'log']++
    return false
  }

  #emit(records: Records): void {
    const size = records.bytes.length
    this.#outstanding++
    this.#bytes += size
    const { emit, canWait, log } = this.#options
    const done = emit(records, { wait: canWait })
      .catch((error: unknown) => {
        // The records of a sender that gets no answer, as the program stops.
        if (codeOf(error) !== 'STOPPING')
          log.error('records were not taken', { count: records.count, reason: messageOf(error) })
      })
      .then(() => this.#settled(size))
    if (this.#options.canWait) this.#emitted.push(done)
  }

  #settled(size: number): void {
    this.#outstanding--
    this.#bytes -= size
    if (!this.#options.canWait && !this.#parser.isEmpty) this.flush()
    for (const wake of this.#waiters.splice(0)) wake()
  }

  #report(): void {
    for (const reason of ['overflow', 'budget'] as const) {
      const dropped = this.#dropped[reason]
      for (const name of ['log', 'log_error'] as const) {
        if (dropped[name] === 0) continue
        this.#options.dropped(name, reason, dropped[name])
        dropped[name] = 0
      }
    }
  }
}
