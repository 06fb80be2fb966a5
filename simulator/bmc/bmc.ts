// The service of one device: what a BMC holds beside the device's state. Made at the first request, and moved on by whoever
// asks and by one clock for all: there is no timer for a device.
import type { BmcEntry, Device } from '../model.ts'
import { bmcLog } from '../physics/lines.ts'
import { Access } from './access.ts'
import { Events } from './events.ts'
import { flavourOf } from './flavours.ts'
import type { Flavour } from './flavours.ts'
import { entryPath, entryArguments } from './entries.ts'
import type { BootOverride } from './power.ts'
import { Tasks, taskPath } from './tasks.ts'
import type { Task } from './tasks.ts'
import { Updates } from './updates.ts'

export interface BmcOptions {
  readonly user: string
  readonly password: string
}

/** A line of the BMC's own journal. */
export interface JournalLine {
  readonly id: number
  readonly text: string
  readonly atMs: number
}

const mostJournal = 300
/** Simulated time that a BMC takes to restart. */
const restartMs = 60_000
/** The last that RFC 3339 can write. */
const longestDateMs = 253_402_300_799_000

export class Bmc {
  readonly device: Device
  flavour: Flavour
  readonly access: Access
  readonly tasks: Tasks
  readonly events = new Events()
  readonly updates: Updates
  readonly boot: BootOverride = { target: 'None', mode: 'UEFI', enabled: 'Disabled', uri: '' }
  /** Settings that a client makes and reads back. */
  readonly settings = { isSecureBoot: false, isRshim: false, mode: 'DpuMode' }
  journalLines: JournalLine[] = []
  startedMs: number
  /** Until then nothing answers. */
  #backMs: number | undefined
  #journalNext = 1
  #power: { readonly atMs: number; readonly run: () => void } | undefined
  #told: number

  constructor(device: Device, options: BmcOptions) {
    this.device = device
    this.flavour = flavourOf(device)
    const nowMs = () => this.nowMs
    this.access = new Access(options.user, options.password, nowMs)
    this.tasks = new Tasks(nowMs, (task) => this.#tellOf(task))
    this.updates = new Updates(this)
    this.startedMs = 0
    this.#told = device.state.bmc.nextEntry
    this.journal('systemd: Started bmcweb.')
  }

  /** Simulated time. */
  get nowMs(): number {
    return this.device.state.elapsedMs
  }

  /** Something moves without being asked. */
  get isActive(): boolean {
    return (
      this.tasks.isActive ||
      this.events.isActive ||
      this.updates.isActive ||
      this.#power !== undefined ||
      this.#backMs !== undefined
    )
  }

  /** It restarts, and answers nobody. */
  get isAway(): boolean {
    return this.#backMs !== undefined
  }

  /** Simulated time as a date and time. */
  timeAt(ms: number): string {
    const at = Math.min(Math.max(0, this.device.epochMs + ms), longestDateMs)
    return new Date(at).toISOString().replace(/\.\d+Z$/, '+00:00')
  }

  /** An entry of the log that clients read. */
  log(severity: BmcEntry['severity'], messageId: string, message: string): void {
    bmcLog(this.device, severity, messageId, message)
  }

  journal(text: string): void {
    this.journalLines.push({ id: this.#journalNext++, text, atMs: this.nowMs })
    if (this.journalLines.length > mostJournal) this.journalLines = this.journalLines.slice(-mostJournal)
  }

  /** What the power does after a while; another takes its place. */
  nextPower(milliseconds: number, run: () => void): void {
    this.#power = { atMs: this.nowMs + milliseconds, run }
  }

  forgetNextPower(): void {
    this.#power = undefined
  }

  /** Does what is due by now. */
  advance(): void {
    if (this.#backMs !== undefined && this.nowMs >= this.#backMs) {
      this.#backMs = undefined
      this.startedMs = this.nowMs
      this.flavour = flavourOf(this.device)
      this.journal('systemd: Started bmcweb.')
    }
    const power = this.#power
    if (power && this.nowMs >= power.atMs) {
      this.#power = undefined
      power.run()
    }
    this.tasks.advance()
    this.updates.advance()
    this.#tellOfEntries()
    this.events.advance()
  }

  /** Restarts the BMC itself: tasks and streams are gone, sessions and subscriptions are kept. */
  restart(): void {
    this.#backMs = this.nowMs + restartMs
    this.tasks.clear()
    this.events.restart()
    this.updates.bmcRestarted()
  }

  close(): void {
    this.events.close()
  }

  /** Entries that others wrote into the log become events here. */
  #tellOfEntries(): void {
    const { bmc } = this.device.state
    if (bmc.nextEntry === this.#told) return
    const fresh = bmc.log.filter(({ id }) => id >= this.#told)
    this.#told = bmc.nextEntry
    for (const entry of fresh) {
      this.events.add({
        messageId: entry.messageId,
        message: entry.message,
        args: entryArguments(entry),
        severity: entry.severity,
        timestamp: this.timeAt(entry.atMs),
        origin: undefined,
        entry: entryPath(this.flavour, entry),
      })
    }
  }

  #tellOf(task: Task): void {
    const isBad = task.outcome === 'Critical'
    const [name, text] = !task.isDone
      ? ['TaskStarted', 'has started']
      : isBad
        ? ['TaskAborted', 'has aborted']
        : ['TaskCompletedOK', 'has completed']
    this.events.add({
      messageId: `TaskEvent.1.0.${name}`,
      message: `The task with Id '${task.id}' ${text}.`,
      args: [task.id],
      severity: task.isDone && isBad ? 'Critical' : 'OK',
      timestamp: this.timeAt(this.nowMs),
      origin: taskPath(task),
      entry: undefined,
    })
  }
}
