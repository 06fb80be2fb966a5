// Source of what the kernel says, from its ring buffer: each record once in a boot, gaps counted, and the lines that
// matter as events (protocols/kernel/events.ts).
import * as z from 'zod'
import { PermanentError, defineSource, duration } from '../contract/index.ts'
import type { Context, Emit } from '../contract/index.ts'
import { loadCursor } from '../protocols/cursors.ts'
import { kernelEventOf } from '../protocols/kernel/events.ts'
import {
  KernelRing,
  bootId,
  kernelRingProblem,
  parseKernelRecord,
  uptimeMicroseconds,
} from '../protocols/kernel/kmsg.ts'
import type { KernelRecord } from '../protocols/kernel/kmsg.ts'
import { severityOfLevel, textOfLevel } from '../protocols/kernel/severity.ts'
import { LogBatches } from '../protocols/lines/batches.ts'

const config = z.strictObject({
  from: z
    .enum(['boot', 'now'])
    .default('boot')
    .describe('Where the first start begins: with all that the ring still holds, or with what comes.'),
  events: z
    .boolean()
    .default(true)
    .describe('Make events of lines about errors, links, temperature and memory.'),
  programs: z
    .boolean()
    .default(false)
    .describe('Take lines too that programs wrote to the ring, such as those of an early boot.'),
  interval: duration
    .refine((ms) => ms >= 10, 'expected at least 10ms')
    .prefault('500ms')
    .describe('Time between looks at the ring.'),
  path: z
    .string()
    .startsWith('/')
    .default('/dev/kmsg')
    .describe('The device of the ring, or a capture of it.'),
})
type Config = z.output<typeof config>

/** What the checkpoint holds: the last record that is safe, and the boot in which it was numbered. */
const cursor = z.strictObject({ boot: z.string(), sequence: z.number() })

/** Records of one round; the ring holds some thousands. */
const mostRecords = 2000
const kernelFacility = 0

/** Turns records into Records, and knows which were there before. */
export class KernelReader {
  readonly #config: Config
  readonly #context: Context
  readonly #batches: LogBatches
  #last: number
  #bootUnixMicro: number | undefined

  constructor(settings: Config, context: Context, last: number) {
    this.#config = settings
    this.#context = context
    this.#last = last
    this.#batches = new LogBatches({
      scope: { name: 'kmsg' },
      device: context.device,
      resource: context.resource({ 'service.name': 'kernel' }),
    })
  }

  /** Number of the last record that was taken; −1 for none. */
  get last(): number {
    return this.#last
  }

  /** The arrival of what follows, and how long the machine had been up then. */
  arrival(nowUnixNano: bigint, uptime: number | undefined): void {
    this.#batches.observedAt(nowUnixNano)
    this.#bootUnixMicro = uptime === undefined ? undefined : Number(nowUnixNano / 1000n) - uptime
  }

  take(raw: string): void {
    const record = parseKernelRecord(raw)
    if (record.sequence !== undefined && !this.#isNew(record.sequence)) return
    if (record.text === '') return
    if (record.facility !== kernelFacility && !this.#config.programs) return
    this.#write(record)
  }

  emit(emit: Emit): Promise<void> {
    return this.#batches.emit(emit)
  }

  /** Passes over everything up to now. */
  skip(raw: string): void {
    this.#last = Math.max(this.#last, parseKernelRecord(raw).sequence ?? -1)
  }

  #isNew(sequence: number): boolean {
    if (sequence <= this.#last) return false
    const missing = this.#last < 0 ? 0 : sequence - this.#last - 1
    this.#last = sequence
    if (missing > 0) {
      this.#context.dropped('log', 'overflow', missing)
      this.#context.log.warn('the ring of the kernel was overwritten before it was read', {
        records: missing,
      })
    }
    return true
  }

  #write({ facility, level, microseconds, text, fields }: KernelRecord): void {
    const event = this.#config.events && facility === kernelFacility ? kernelEventOf(text) : undefined
    const micro =
      this.#bootUnixMicro === undefined || microseconds === undefined
        ? undefined
        : this.#bootUnixMicro + microseconds
    const seconds = micro === undefined ? undefined : Math.floor(micro / 1e6)
    const nanos = micro === undefined ? undefined : Math.floor(micro - (seconds ?? 0) * 1e6) * 1000
    const record = this.#batches.begin(event?.severity ?? severityOfLevel(level), event?.name, seconds, nanos)
    record.severityText(textOfLevel(level))
    record.body(text)
    record.attribute('syslog.facility', facility)
    if (fields.SUBSYSTEM !== undefined) record.attribute('dpu.kernel.subsystem', fields.SUBSYSTEM)
    if (fields.DEVICE !== undefined) record.attribute('dpu.kernel.device', fields.DEVICE)
    for (const [key, value] of Object.entries(event?.attributes ?? {})) record.attribute(key, value)
    this.#batches.end()
  }
}

async function run(settings: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { checkpoint, clock } = context
  const problem = kernelRingProblem(settings.path)
  if (problem !== undefined) throw new PermanentError('PERMISSION_DENIED', problem)
  const boot = bootId()
  const saved = await loadCursor(context, cursor)
  const last = saved?.boot === boot ? saved.sequence : -1
  const reader = new KernelReader(settings, context, last)
  using ring = new KernelRing(settings.path)
  if (saved === undefined && settings.from === 'now') for (const raw of readAll(ring)) reader.skip(raw)
  context.ready(settings.path)
  let safe = reader.last
  await clock.every(settings.interval, signal, async () => {
    for (let isMore = true; isMore && !signal.aborted;) {
      const records = ring.read(mostRecords)
      isMore = records.length >= mostRecords
      reader.arrival(clock.nowUnixNano(), uptimeMicroseconds())
      for (const raw of records) reader.take(raw)
      await reader.emit(emit)
      if (reader.last === safe) continue
      safe = reader.last
      await checkpoint.save({ boot, sequence: safe })
    }
  })
}

function* readAll(ring: KernelRing): Generator<string> {
  for (;;) {
    const records = ring.read(mostRecords)
    yield* records
    if (records.length < mostRecords) return
  }
}

export default defineSource({
  name: 'kmsg',
  summary: 'Messages of the kernel from its ring buffer, with those about faults, links and heat as events.',
  config,
  signals: ['logs'],
  // The ring goes on whether it is read or not.
  canWait: false,
  create: (settings, context) => ({ run: (emit, signal) => run(settings, context, emit, signal) }),
  async detect() {
    const problem = kernelRingProblem(config.parse({}).path)
    return problem === undefined ? { config: {} } : { leftOut: problem }
  },
})
