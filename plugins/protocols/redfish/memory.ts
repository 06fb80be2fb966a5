// What the source must still know after it was killed: which entries of which log are safe, which states were told. Kept as
// its checkpoint, which is written only when what it tells of has been acknowledged.
import * as z from 'zod'
import { messageOf } from '../../contract/errors.ts'
import type { Checkpoint, Log } from '../../contract/define.ts'

const key = z.string().max(64)
const logCursor = z.object({
  /** Keys of entries that are safe and were still in the log, oldest first. */
  seen: z.array(key).max(100_000),
  /** The newest entry, where the service tells it beside the log. */
  newest: z.string().max(256).optional(),
})
export type LogCursor = z.output<typeof logCursor>

const shape = z.object({
  devices: z.record(z.string().max(1024), z.string().max(64)).default({}),
  states: z.record(z.string().max(1024), z.string().max(256)).default({}),
  logs: z.record(z.string().max(1024), logCursor).default({}),
  /** The newest time in each metric report, Unix ns. */
  reports: z.record(z.string().max(1024), z.string().regex(/^\d{1,20}$/)).default({}),
  /** What came as an event and may still come as an entry of a log. */
  events: z.array(key).default([]),
  /** Of the stream of events: where to go on. */
  lastEventId: z.string().max(256).optional(),
})
type Shape = z.output<typeof shape>

const mostEvents = 1000
/** A checkpoint may have 1 MiB: keys take 12 bytes, a state about 100. */
const mostKeys = 40_000
const mostStates = 2000
const mostReports = 500

export class Memory {
  readonly #checkpoint: Checkpoint
  readonly #held: Shape
  #saving: Promise<void> = Promise.resolve()

  private constructor(checkpoint: Checkpoint, held: Shape) {
    this.#checkpoint = checkpoint
    this.#held = held
  }

  /** What an earlier run left; anew where it cannot be read: entries come twice then, and none is lost. */
  static async load(checkpoint: Checkpoint, log: Log): Promise<Memory> {
    try {
      return new Memory(checkpoint, shape.parse((await checkpoint.load()) ?? {}))
    } catch (error) {
      log.warn('the checkpoint cannot be read; logs are read from their beginning', {
        reason: messageOf(error),
      })
      return new Memory(checkpoint, shape.parse({}))
    }
  }

  get devices(): Record<string, string> {
    return this.#held.devices
  }

  get lastEventId(): string | undefined {
    return this.#held.lastEventId
  }
  set lastEventId(id: string | undefined) {
    this.#held.lastEventId = id?.slice(0, 256)
  }

  log(path: string): LogCursor {
    return this.#held.logs[path] ?? { seen: [] }
  }

  /** Each log keeps its share of the room; of a longer one the newest are known. */
  setLog(path: string, cursor: LogCursor): void {
    this.#held.logs[path] = cursor
    const share = Math.floor(mostKeys / Object.keys(this.#held.logs).length)
    for (const [at, one] of Object.entries(this.#held.logs)) {
      if (one.seen.length > share) this.#held.logs[at] = { ...one, seen: one.seen.slice(-share) }
    }
  }

  state(of: string): string | undefined {
    return this.#held.states[of]
  }
  /** False where there is no room for it, or it is known. */
  setState(of: string, value: string): boolean {
    const { states } = this.#held
    if (states[of] === value || (states[of] === undefined && Object.keys(states).length >= mostStates))
      return false
    states[of] = value
    return true
  }

  report(path: string): bigint {
    return BigInt(this.#held.reports[path] ?? 0)
  }
  setReport(path: string, through: bigint): void {
    const { reports } = this.#held
    if (reports[path] === undefined && Object.keys(reports).length >= mostReports) return
    this.#held.reports[path] = String(through)
  }

  /** Whether it was told as an event; of two entries that are alike the event stands for one. */
  takeEvent(match: string): boolean {
    const at = this.#held.events.indexOf(match)
    if (at >= 0) this.#held.events.splice(at, 1)
    return at >= 0
  }
  /** Whether it was told as an event, and no log has told it since. */
  isEvent(match: string): boolean {
    return this.#held.events.includes(match)
  }
  addEvents(matches: readonly string[]): void {
    this.#held.events = [...this.#held.events, ...matches].slice(-mostEvents)
  }

  /** One write after the other; what is asked for meanwhile goes with the next. */
  save(): Promise<void> {
    const next = this.#saving.then(() => this.#checkpoint.save(this.#held))
    this.#saving = next.catch(() => undefined)
    return next
  }
}
