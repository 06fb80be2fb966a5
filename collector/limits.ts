// What a collector may use of the machine that it runs on: the `limits` of its configuration. Budget, quotas and sender
// keep to them; absent ones limit nothing.
import * as z from 'zod'
import { duration, size } from '../plugins/contract/index.ts'

const MiB = 1024 * 1024

/** `3%`, or cores: 0.5, 2. */
const cpuShare = z
  .union([z.number(), z.string()], { error: 'expected a share of a core such as 3% or 0.5' })
  .transform((value, context) => {
    const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(String(value))
    const cores = match ? Number(match[1]) / (match[2] === '%' ? 100 : 1) : Number.NaN
    if (cores >= 0.005 && cores <= 1024) return cores
    const message = 'expected a share of a core such as 3% or 0.5; at least 0.5%'
    context.issues.push({ code: 'custom', input: value, message })
    return z.NEVER
  })
  .meta({ title: 'share of a core' })

const atLeast = (least: number, text: string) =>
  size.refine((bytes) => bytes >= least, `expected at least ${text}`)

const senders = z
  .strictObject({
    records: z.number().positive().optional().describe('Records a second of each sender.'),
    bytes: atLeast(1, '1B').optional().describe('Bytes a second of each sender.'),
    burst: duration
      .refine((ms) => ms >= 100 && ms <= 3_600_000, 'expected 100ms to 1h')
      .prefault('10s')
      .describe('For how long of these rates a sender may be ahead.'),
    by: z
      .enum(['address', 'service'])
      .default('address')
      .describe(
        'Who is a sender where a socket names no process: its address, or the service that it names (the program of syslog, service.name of OTLP, the tag of Fluent, else the tag `service`). Of an MQTT broker it is always what the wildcard of the subscription stands for.',
      ),
    names: z
      .record(
        z.string().min(1).max(256),
        z.strictObject({
          records: z.number().positive().optional().describe('Records a second.'),
          bytes: atLeast(1, '1B').optional().describe('Bytes a second.'),
        }),
      )
      .default({})
      .describe('Other rates for senders by name, as `dpulse top --local` shows it.'),
  })
  .refine(
    ({ records, bytes, names }) => records !== undefined || bytes !== undefined || names !== undefined,
    {
      message: 'expected records, bytes or names',
    },
  )

export const limitsSettings = z
  .strictObject({
    memory: atLeast(64 * MiB, '64MiB')
      .optional()
      .describe('Most memory of the collector and all that it starts (PSS).'),
    cpu: cpuShare.optional().describe('Most CPU of the same, as a share of one core: 3% or 0.5.'),
    bandwidth: atLeast(1024, '1KiB').optional().describe('Most bytes a second that all exporters send.'),
    disk: atLeast(MiB, '1MiB').optional().describe('Most bytes on disk, unless --max-disk says less.'),
    senders: senders.optional().describe('What each local sender may bring in.'),
  })
  .prefault({})
export type Limits = z.output<typeof limitsSettings>
export type SenderLimits = z.output<typeof senders>
