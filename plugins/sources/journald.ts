// Source of the journal of systemd, through `journalctl` as a helper that stays: its cursor is our checkpoint, and the
// pipe to it is the backpressure.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import * as z from 'zod'
import { PermanentError, RetryableError, defineSource, duration, messageOf, size } from '../contract/index.ts'
import type { Context, Detected, Emit } from '../contract/index.ts'
import { loadCursor } from '../protocols/cursors.ts'
import { entryFields, parseEntry } from '../protocols/journal/entry.ts'
import type { JournalEntry } from '../protocols/journal/entry.ts'
import { dpulseParent, isOwn, machineId } from '../protocols/journal/own.ts'
import { kernelEventOf } from '../protocols/kernel/events.ts'
import { bootId, kernelRingProblem } from '../protocols/kernel/kmsg.ts'
import { severityOfLevel, textOfLevel } from '../protocols/kernel/severity.ts'
import { LogBatches, mostOutstanding } from '../protocols/lines/batches.ts'
import { longestLine, writeBody } from '../protocols/lines/body.ts'
import { GroupedEmission } from '../protocols/lines/group.ts'
import { LineSplitter } from '../protocols/lines/splitter.ts'
import { ask, isInstalled } from '../protocols/programs.ts'

const config = z.strictObject({
  from: z
    .enum(['beginning', 'boot', 'now'])
    .default('now')
    .describe(
      'Where the first start begins: with all that the journal holds, with this boot, or with what comes.',
    ),
  directory: z
    .string()
    .startsWith('/')
    .optional()
    .describe("Folder of journal files, instead of this machine's own."),
  units: z.array(z.string().min(1).max(200)).max(50).default([]).describe('Only entries of these units.'),
  kernel: z
    .boolean()
    .default(true)
    .describe('Take lines of the kernel; leave it to one of kmsg and journald.'),
  events: z
    .boolean()
    .default(true)
    .describe('Make events of lines of the kernel about errors, links and heat.'),
  fields: z
    .array(z.string().regex(/^[A-Z_][A-Z0-9_]{0,63}$/, 'expected the name of a field of the journal'))
    .max(30)
    .default([])
    .describe('More fields of entries to keep, as dpu.journal.NAME.'),
  max_length: size
    .refine((bytes) => bytes >= 80 && bytes <= longestLine, `expected 80 to ${longestLine} bytes`)
    .prefault('64KiB')
    .describe('Longer messages are cut and marked dpulse.truncated; at most 256KiB.'),
  retry: duration.prefault('5s').describe('Time before the helper is started again when it ended.'),
  program: z.string().min(1).default('journalctl').describe('The helper.'),
})
type Config = z.output<typeof config>

/** What the checkpoint holds: the cursor of the last entry that is safe. */
const checkpoint = z.strictObject({ cursor: z.string() })

/** Longest line of the helper; an entry with more is not worth its memory. */
const longestEntry = 4 * 1024 * 1024
const kernelTransport = 'kernel'

/** Attributes by the field of the journal. */
const attributes: Readonly<Record<string, string>> = {
  SYSLOG_IDENTIFIER: 'syslog.appname',
  _SYSTEMD_UNIT: 'systemd.unit.name',
  _COMM: 'process.executable.name',
  _TRANSPORT: 'dpu.journal.transport',
  MESSAGE_ID: 'dpu.journal.message_id',
  CONTAINER_ID_FULL: 'container.id',
  CONTAINER_NAME: 'container.name',
  _KERNEL_SUBSYSTEM: 'dpu.kernel.subsystem',
  _KERNEL_DEVICE: 'dpu.kernel.device',
}

class Journal {
  readonly #config: Config
  readonly #context: Context
  readonly #batches: LogBatches
  readonly #group: GroupedEmission
  readonly #isOwn = isOwn(dpulseParent())
  readonly #machine: string | undefined
  #cursor: string | undefined
  #malformed = 0

  constructor(settings: Config, context: Context, emit: Emit, cursor: string | undefined) {
    this.#config = settings
    this.#context = context
    this.#cursor = cursor
    this.#machine = settings.directory === undefined ? machineId() : undefined
    this.#batches = new LogBatches({
      scope: { name: 'journald' },
      device: context.device,
      resource: context.resource({ 'service.name': 'journald' }),
    })
    this.#group = new GroupedEmission(this.#batches, emit, () => {
      const reached = this.#cursor
      return async () => {
        if (reached !== undefined) await context.checkpoint.save({ cursor: reached })
      }
    })
  }

  /** Until the helper ends. */
  async follow(signal: AbortSignal): Promise<void> {
    const { program } = this.#config
    const child = spawn(program, this.#parameters(), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' },
    })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000)
    })
    const ended = once(child, 'close') as Promise<[number | null]>
    ended.catch(() => undefined) // told by whoever awaits it
    const stop = () => void child.kill('SIGTERM')
    signal.addEventListener('abort', stop, { once: true })
    const lines = new LineSplitter({
      longest: longestEntry,
      position: 0,
      take: (bytes, start, end, wasCut) => this.#line(wasCut ? '' : bytes.toString('utf8', start, end)),
    })
    let flushed = Promise.resolve()
    try {
      if (signal.aborted) stop()
      for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
        lines.push(chunk)
        this.#report()
        flushed = this.#group.flushed()
        flushed.catch(() => undefined) // awaited below, or when there is much
        if (this.#batches.waiting >= mostOutstanding / 2) await flushed
      }
      await flushed
      const [code] = await ended
      if (!signal.aborted)
        throw new RetryableError('PEER_REFUSED', `${program} ended with ${code}: ${said.trim()}`)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT')
        throw new PermanentError('LIBRARY_MISSING', `the program ${program} is not installed`, { cause })
      throw cause
    } finally {
      signal.removeEventListener('abort', stop)
      stop()
      await ended.catch(() => undefined)
    }
  }

  #parameters(): string[] {
    const { directory, units, fields, from } = this.#config
    const wanted = [...new Set<string>([...entryFields, ...fields])].join(',')
    // Without --merge following leaves out the boots before this one, and with them the end of the last.
    const parameters = ['--follow', '--merge', '--output=json', '--all', '--no-pager', '--quiet']
    parameters.push(`--output-fields=${wanted}`)
    if (directory !== undefined) parameters.push(`--directory=${directory}`)
    for (const unit of units) parameters.push(`--unit=${unit}`)
    // Following begins with the last ten lines unless told otherwise.
    if (this.#cursor !== undefined) return [...parameters, `--after-cursor=${this.#cursor}`, '--lines=all']
    parameters.push(from === 'now' ? '--lines=0' : '--lines=all')
    // --boot and --merge exclude each other.
    return from === 'boot' ? [...parameters, `_BOOT_ID=${bootId().replaceAll('-', '')}`] : parameters
  }

  #line(line: string): void {
    const entry = parseEntry(line)
    if (entry === undefined) {
      this.#malformed++
      return
    }
    this.#cursor = entry.cursor
    const { field, transport, message } = entry
    if (message.length === 0 || (transport === kernelTransport && !this.#config.kernel)) return
    // Merged journals hold what other machines sent to this one, too.
    if (this.#machine !== undefined && (field('_MACHINE_ID') ?? this.#machine) !== this.#machine) return
    if (this.#isOwn(field('_PID'), field('_SYSTEMD_UNIT'))) return
    this.#write(entry)
  }

  #write({ field, transport, level, micro, message }: JournalEntry): void {
    if (this.#batches.count === 0) this.#batches.observedAt(this.#context.clock.nowUnixNano())
    const isKernel = transport === kernelTransport
    const event = isKernel && this.#config.events ? kernelEventOf(message.toString()) : undefined
    const severity = event?.severity ?? (level === undefined ? 0 : severityOfLevel(level))
    const record = this.#batches.begin(
      severity,
      event?.name,
      Number(micro / 1_000_000n),
      Number(micro % 1_000_000n) * 1000,
    )
    if (level !== undefined) record.severityText(textOfLevel(level))
    const last = Math.min(message.length, this.#config.max_length)
    writeBody(record, message, 0, last, last < message.length)
    for (const [name, key] of Object.entries(attributes)) {
      const value = field(name)
      if (value !== undefined) record.attribute(key, value)
    }
    const facility = Number(field('SYSLOG_FACILITY') ?? NaN)
    if (Number.isInteger(facility)) record.attribute('syslog.facility', facility)
    const pid = Number(field('_PID') ?? field('SYSLOG_PID') ?? NaN)
    if (Number.isInteger(pid)) record.attribute('process.pid', pid)
    for (const name of this.#config.fields) {
      const value = field(name)
      if (value !== undefined) record.attribute(`dpu.journal.${name.toLowerCase()}`, value.slice(0, 4096))
    }
    for (const [key, value] of Object.entries(event?.attributes ?? {})) record.attribute(key, value)
    this.#batches.end()
  }

  #report(): void {
    if (this.#malformed === 0) return
    this.#context.dropped('log', 'invalid', this.#malformed)
    this.#context.log.warn('entries of the journal cannot be read', { entries: this.#malformed })
    this.#malformed = 0
  }
}

async function run(settings: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { clock, log } = context
  const saved = await loadCursor(context, checkpoint)
  if (!isInstalled(settings.program))
    throw new PermanentError('LIBRARY_MISSING', `the program ${settings.program} is not installed`)
  const journal = new Journal(settings, context, emit, saved?.cursor)
  context.ready()
  while (!signal.aborted) {
    try {
      await journal.follow(signal)
    } catch (error) {
      if (signal.aborted || error instanceof PermanentError) throw error
      log.warn('the journal cannot be followed', { error })
      await clock.delay(settings.retry, signal).catch(() => undefined)
    }
  }
}

/** Whether this user may read the journal of this machine. Lines of the kernel are left to kmsg where that can be read. */
export async function detectJournal(
  program: string,
  directory?: string,
): Promise<Detected<z.input<typeof config>>> {
  if (!isInstalled(program)) return { leftOut: `the program ${program} is not installed` }
  const where = directory === undefined ? [] : [`--directory=${directory}`]
  try {
    const signal = AbortSignal.timeout(4000)
    const parameters = [
      ...where,
      '--lines=1',
      '--output=json',
      '--output-fields=_TRANSPORT',
      '--no-pager',
      '--quiet',
    ]
    const last = await ask(program, parameters, { timeoutMs: 3000, mostBytes: 1024 * 1024, signal })
    if (parseEntry(last.trim()) === undefined)
      return {
        leftOut: 'the journal is empty, or may not be read: it takes root, or membership in systemd-journal',
      }
    const kernel = kernelRingProblem('/dev/kmsg') !== undefined
    return { config: { kernel, ...(directory === undefined ? {} : { directory }) } }
  } catch (error) {
    return { leftOut: messageOf(error) }
  }
}

export default defineSource({
  name: 'journald',
  summary: "Entries of systemd's journal, from where it was left, with lines of the kernel as events.",
  config,
  signals: ['logs'],
  create: (settings, context) => ({ run: (emit, signal) => run(settings, context, emit, signal) }),
  detect: () => detectJournal('journalctl'),
})
