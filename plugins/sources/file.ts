// Source of lines that programs write to files, through every way in which those are rotated. The following is in
// protocols/tail; here are the configuration and what a line becomes.
import { basename } from 'node:path'
import * as z from 'zod'
import { defineSource, duration, size } from '../contract/index.ts'
import type { Context, Emit } from '../contract/index.ts'
import { patternProblem } from '../protocols/filter/pattern.ts'
import { loadCursor } from '../protocols/cursors.ts'
import { kernelEventOf, kernelTextOf } from '../protocols/kernel/events.ts'
import type { KernelEvent } from '../protocols/kernel/events.ts'
import { LogBatches, mostOutstanding } from '../protocols/lines/batches.ts'
import { longestLine, writeBody } from '../protocols/lines/body.ts'
import { readingLength, severityOf, timeOf } from '../protocols/lines/reading.ts'
import { encodeAttribute } from '../protocols/syslog/index.ts'
import { Tail } from '../protocols/tail/tail.ts'

const path = z.string().startsWith('/', 'expected an absolute path or pattern').max(512)
const paths = z.union([path, z.array(path).min(1).max(100)]).transform((value) => [value].flat())
const pattern = z
  .string()
  .min(1)
  .max(2000)
  .superRefine((source, context) => {
    const problem = patternProblem(source)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  })

const multiline = z
  .strictObject({
    start: pattern.optional().describe('A line that matches begins a record.'),
    continuation: pattern
      .optional()
      .describe('A line that matches belongs to the record before it, such as one that begins with a blank.'),
    most_lines: z
      .int()
      .min(2)
      .max(10_000)
      .default(500)
      .describe('A record of more lines is cut into several.'),
  })
  .refine(({ start, continuation }) => (start === undefined) !== (continuation === undefined), {
    message: 'expected either start or continuation',
  })

const config = z.strictObject({
  paths: paths.describe('Files to follow, with patterns (*, ?, [a-z], {a,b}, **).'),
  exclude: z.array(path).max(100).default([]).describe('Patterns of files to leave out.'),
  from: z
    .enum(['beginning', 'end'])
    .default('end')
    .describe(
      'Where files begin that are there at the first start; those that come later are read from the beginning.',
    ),
  multiline: multiline
    .optional()
    .describe('Joins lines into records, such as stack traces; regular expressions of RE2.'),
  severity: z.boolean().default(true).describe('Find out severities from words such as ERROR or level=warn.'),
  time: z.boolean().default(true).describe('Take the time of a record from the beginning of its first line.'),
  kernel_events: z
    .boolean()
    .default(false)
    .describe(
      'Make events of lines of the kernel about errors, links and heat, as kmsg and journald do: for files of other machines, such as a console log.',
    ),
  attributes: z
    .record(z.string().min(1).max(100), z.string().max(1000))
    .default({})
    .describe('Attributes that each record gets.'),
  interval: duration
    .refine((ms) => ms >= 50, 'expected at least 50ms')
    .prefault('1s')
    .describe('Time between looks at the files.'),
  search: duration.prefault('10s').describe('Time between searches for new files.'),
  wait: duration
    .prefault('5s')
    .describe('How long a record of several lines waits for more, and a renamed file for its last writers.'),
  max_length: size
    .refine((bytes) => bytes >= 80 && bytes <= longestLine, `expected 80 to ${longestLine} bytes`)
    .prefault('256KiB')
    .describe('Longer records are cut and marked dpulse.truncated; at most 256KiB.'),
  max_files: z
    .int()
    .min(1)
    .max(1000)
    .default(256)
    .describe('Most files to follow at once, the first by name.'),
})
type Config = z.output<typeof config>

/** What the checkpoint holds. A position in a file counts only while the file still begins as it did. */
const cursor = z.strictObject({
  files: z.array(
    z.strictObject({
      path: z.string(),
      dev: z.number(),
      ino: z.number(),
      head: z.strictObject({ size: z.number(), hash: z.string() }),
      mtimeMs: z.number(),
      offset: z.number(),
    }),
  ),
})

/** Bytes of a line in which an event of the kernel is looked for. */
const kernelLength = 2048
/** Files whose names and attributes are kept encoded. */
const mostKnown = 2000

class Lines {
  readonly #config: Config
  readonly #context: Context
  readonly #batches: LogBatches
  readonly #known = new Map<string, Uint8Array>()

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#batches = new LogBatches({
      scope: { name: 'file' },
      device: context.device,
      resource: context.resource({ 'service.name': 'file' }),
    })
  }

  get isFull(): boolean {
    return this.#batches.waiting >= mostOutstanding / 2
  }

  take(from: string, bytes: Buffer, start: number, end: number, wasCut: boolean): void {
    if (this.#batches.count === 0) this.#batches.observedAt(this.#context.clock.nowUnixNano())
    const line = bytes.toString('latin1', start, Math.min(end, start + readingLength))
    const severity = this.#config.severity ? severityOf(line) : undefined
    const time = this.#config.time ? timeOf(line) : undefined
    const event = this.#config.kernel_events ? this.#kernelEvent(bytes, start, end) : undefined
    const number = event?.severity ?? severity?.number ?? 0
    const record = this.#batches.begin(number, event?.name, time?.seconds, time?.nanos)
    if (severity) record.severityText(severity.text)
    writeBody(record, bytes, start, end, wasCut)
    record.field(this.#attributesOf(from))
    for (const [key, value] of Object.entries(event?.attributes ?? {})) record.attribute(key, value)
    this.#batches.end()
  }

  #kernelEvent(bytes: Buffer, start: number, end: number): KernelEvent | undefined {
    const text = kernelTextOf(bytes.toString('utf8', start, Math.min(end, start + kernelLength)))
    return text === undefined ? undefined : kernelEventOf(text)
  }

  emit(emit: Emit): Promise<void> {
    return this.#batches.emit(emit)
  }

  #attributesOf(from: string): Uint8Array {
    const known = this.#known.get(from)
    if (known) return known
    const attributes = { 'log.file.name': basename(from), 'log.file.path': from, ...this.#config.attributes }
    const encoded = Buffer.concat(
      Object.entries(attributes).map(([key, value]) => encodeAttribute(key, value)),
    )
    if (this.#known.size >= mostKnown) this.#known.clear()
    this.#known.set(from, encoded)
    return encoded
  }
}

async function run(settings: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { clock, checkpoint, log } = context
  const lines = new Lines(settings, context)
  const tail = new Tail({
    include: settings.paths,
    exclude: settings.exclude,
    most: settings.max_files,
    from: settings.from,
    waitMs: settings.wait,
    longest: settings.max_length,
    multiline: settings.multiline,
    log,
    elapsedMs: () => clock.elapsedMs(),
    take: lines.take.bind(lines),
    isFull: () => lines.isFull,
    emit: () => lines.emit(emit),
    save: (files) => checkpoint.save({ files }),
  })
  try {
    const saved = await loadCursor(context, cursor)
    await tail.begin(saved?.files, signal)
    context.ready()
    let searchedMs = clock.elapsedMs()
    await clock.every(settings.interval, signal, async () => {
      if (clock.elapsedMs() - searchedMs >= settings.search) {
        searchedMs = clock.elapsedMs()
        await tail.search(signal)
      }
      while ((await tail.round(signal)) && !signal.aborted);
    })
  } finally {
    await tail.close()
  }
}

export default defineSource({
  name: 'file',
  summary: 'Lines of files, followed through renaming, truncation, copying and compression.',
  config,
  signals: ['logs'],
  create: (settings, context) => ({ run: (emit, signal) => run(settings, context, emit, signal) }),
  // Most of what lies under /var/log is in the journal too, or is syslog's.
  detect: async () => ({ leftOut: 'only a configuration says which files to follow' }),
})
