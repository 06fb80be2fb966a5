// The configuration of an aggregator: one YAML file, every key optional and described. Options of the command line
// choose broker, journal and store without a file.
import { readFile } from 'node:fs/promises'
import * as z from 'zod'
import { systemClock } from '../collector/clock.ts'
import { Problems, textOf } from '../collector/problems.ts'
import type { Problem } from '../collector/problems.ts'
import { absentReferences } from '../collector/references.ts'
import { PermanentError } from '../plugins/contract/errors.ts'
import { classes } from '../plugins/contract/signal.ts'
import type { Class } from '../plugins/contract/signal.ts'
import { isPasswordHash } from '../plugins/contract/password.ts'
import { address, duration, secret, size, tls } from '../plugins/contract/settings.ts'
import { isBrokerUrl } from '../plugins/protocols/mqtt-url.ts'
import { judge } from './config-rules.ts'
import { checkFilter, filterSettings } from '../plugins/protocols/filter/index.ts'

const listen = z.array(address)

/** Raw retention by class: what billing and post-mortems read longer than what only dashboards show. */
const retentionDefaults: Readonly<Record<Class, string>> = {
  event: '90d',
  usage: '400d',
  error: '30d',
  log_error: '30d',
  capability: '90d',
  environment: '7d',
  resource: '7d',
  log: '7d',
}

/** Resource attributes that tell devices apart and seldom change: each value of a tag is a series more. */
const resourceTags = [
  'host.name',
  'service.name',
  'dpu.site',
  'dpu.rack',
  'dpu.host',
  'dpu.slot',
  'dpu.tenant',
] as const

const retention = z.strictObject(
  Object.fromEntries(
    classes.map((name) => [
      name,
      duration.prefault(retentionDefaults[name]).describe(`How long records of class ${name} are kept.`),
    ]),
  ) as Record<Class, z.ZodPrefault<typeof duration>>,
)

const collectorId = z.string().regex(/^[a-z0-9-]{1,64}$/, 'expected 1 to 64 characters of a-z, 0-9 and -')

const user = z.strictObject({
  password: z
    .string()
    .refine(isPasswordHash, {
      error: 'expected $scrypt$…, as `dpulse password` prints it; never the password',
    })
    .describe('scrypt hash of the password.'),
  collector: collectorId
    .optional()
    .describe('The collector that it is: it speaks and reads for no other. Absent: for all.'),
})

const kafka = z.strictObject({
  brokers: z
    .array(z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[^:[\]/\s,]+):\d{1,5}$/, 'expected host:port'))
    .min(1)
    .optional()
    .describe(
      'Addresses of brokers; the rest of the cluster is found through them. Chooses Kafka without `--journal`.',
    ),
  group: z
    .string()
    .regex(/^[a-zA-Z0-9._-]{1,100}$/, 'expected 1 to 100 characters of a-z, A-Z, 0-9, . _ and -')
    .default('dpulse')
    .describe('Consumer group of the aggregators of one fleet.'),
  prefix: z
    .string()
    .regex(/^[a-zA-Z0-9._-]{0,100}$/, 'expected at most 100 characters of a-z, A-Z, 0-9, . _ and -')
    .default('')
    .describe('Before the name of every topic, where several fleets share a cluster.'),
  partitions: z
    .int()
    .min(1)
    .max(1000)
    .default(12)
    .describe('Of each topic when it is made; as many aggregators can share the work.'),
  replication: z
    .int()
    .min(1)
    .max(7)
    .optional()
    .describe('Copies of each partition when a topic is made; otherwise one per broker, at most 3.'),
  retention: duration
    .prefault('7d')
    .describe(
      'How long batches stay in Kafka: longer than any outage of the store, and what others may read.',
    ),
  senders: z.int().min(1).max(64).default(4).describe('Requests that are under way to Kafka at once.'),
  create: z.boolean().default(true).describe('Make topics that are missing.'),
  session: duration
    .prefault('6s')
    .describe(
      'After this a silent aggregator loses its partitions; brokers allow no less than 6s unless told to.',
    ),
  tls: tls.optional().describe('TLS to the brokers.'),
  sasl: z
    .strictObject({
      mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']).describe('How to log in.'),
      username: z.string().describe('Login name.'),
      password: secret.describe('Password of the login.'),
    })
    .optional()
    .describe('Login at the brokers.'),
})

export const aggregatorConfig = z.strictObject({
  aggregator: z
    .strictObject({
      id: collectorId
        .optional()
        .describe('Device to which records without host.id belong; otherwise found out from this machine.'),
    })
    .prefault({})
    .describe('Who this aggregator is.'),
  mqtt: z
    .strictObject({
      listen: listen.optional().describe('Addresses of the embedded broker; otherwise loopback, port 1883.'),
      tls: tls
        .extend({ listen: listen.min(1).describe('Addresses that speak TLS, usually port 8883.') })
        .optional()
        .describe(
          'The embedded broker with TLS. With `ca` the common name of a client is the collector that it is.',
        ),
      external: z
        .strictObject({
          urls: z
            .array(
              z.string().refine(isBrokerUrl, { error: 'expected mqtt://host:port or mqtts://host:port' }),
            )
            .min(1)
            .describe('Brokers, tried in turn.'),
          username: z.string().optional().describe('Login name.'),
          password: secret.optional().describe('Password of the login.'),
          tls: tls.optional().describe('Certificates for mqtts.'),
          protocol_version: z
            .union([z.literal(4), z.literal(5), z.literal('auto')])
            .default('auto')
            .describe('4 is MQTT 3.1.1; `auto` is 5 where the broker speaks it.'),
        })
        .optional()
        .describe('An external broker instead of the embedded one.'),
      login: z
        .strictObject({
          users: z
            .record(z.string().min(1).max(256), user)
            .refine((users) => Object.keys(users).length > 0, { error: 'expected at least one user' })
            .describe('By name.'),
          loopback: z.boolean().default(false).describe('Clients of this machine need no login.'),
        })
        .optional()
        .describe('Who may use the embedded broker; everybody who reaches it where this is absent.'),
      root: z
        .string()
        .regex(/^[^+#\s]{1,100}$/, 'expected a topic without + and #')
        .default('dpulse')
        .describe('First level of every topic.'),
      max_connections: z.int().min(1).default(20_000).describe('Clients of the embedded broker at once.'),
    })
    .prefault({})
    .describe('Where collectors speak MQTT.'),
  otlp: z
    .strictObject({
      grpc: listen.optional().describe('Addresses for OTLP/gRPC; otherwise loopback, port 4327.'),
      http: listen.optional().describe('Addresses for OTLP/HTTP; otherwise loopback, port 4328.'),
      max_request: size.prefault('16MiB').describe('Largest request, decompressed.'),
      tls: tls.optional().describe('TLS for both, with cert and key.'),
    })
    .prefault({})
    .describe('Where OTLP comes in.'),
  api: z
    .strictObject({
      listen: listen.optional().describe('Addresses of console and HTTP API; otherwise loopback, port 8600.'),
      allowed_hosts: z.array(z.string()).default([]).describe('Names by which the API may be asked.'),
    })
    .prefault({})
    .describe('Console and HTTP API.'),
  journal: z
    .strictObject({
      kafka: kafka.prefault({}).describe('Kafka, where `--journal kafka://…` chooses it.'),
    })
    .prefault({})
    .describe('What lies between ingest and store.'),
  store: z
    .strictObject({
      retention: retention.prefault({}).describe('How long raw records are kept, by class.'),
      segment_rows: z
        .strictObject({
          logs: z.int().min(1000).default(4_000_000).describe('Log records.'),
          metrics: z.int().min(1000).default(4_000_000).describe('Data points.'),
        })
        .prefault({})
        .describe('Rows after which a table of recent rows is sealed as a Parquet file.'),
      memory: size.prefault('512MiB').describe('What DuckDB may take for its buffers.'),
      influxdb: z
        .strictObject({
          url: z
            .url({ protocol: /^https?$/, error: 'expected http://host:port or https://host:port' })
            .optional()
            .describe('InfluxDB instead of the embedded store; `--store` comes before it.'),
          org: z.string().min(1).default('dpulse').describe('Organisation; `--store` comes before it.'),
          bucket: z
            .string()
            .regex(
              /^[^_"/][^"/]*$/,
              'expected a name without quotes and slashes that begins with no underscore',
            )
            .default('dpulse')
            .describe('Bucket of raw records, and first part of the names of the others.'),
          token: secret.optional().describe('API token; otherwise the environment variable INFLUX_TOKEN.'),
          downsampled: duration
            .prefault('90d')
            .describe('How long five-minute values are kept; 0 makes no tasks.'),
          max_series: z
            .int()
            .min(1)
            .default(1_000_000)
            .describe('Distinct series; points of others are rejected.'),
          max_services: z
            .int()
            .min(1)
            .default(10_000)
            .describe('Distinct services of logs that are tags; records of others are stored without.'),
          tags: z
            .array(z.string())
            .default([...resourceTags])
            .describe('Resource attributes that become tags of metrics, beside `host.id`.'),
        })
        .prefault({})
        .describe('The store on InfluxDB 2.'),
    })
    .prefault({})
    .describe('Queryable history.'),
  filter: filterSettings
    .optional()
    .describe(
      'Rules over what is stored, as in the filter of a collector. Windows go by the time of readings.',
    ),
  metrics: z
    .strictObject({
      interval: duration.prefault('15s').describe('Between exports of the own metrics.'),
      endpoint: z
        .url()
        .optional()
        .describe('OTLP/gRPC address that takes them; otherwise this aggregator itself.'),
    })
    .prefault({})
    .describe('The aggregator about itself.'),
  max_disk: size
    .optional()
    .describe('Most bytes of journal and store together; `--max-disk` comes before it.'),
})

export type AggregatorConfig = z.output<typeof aggregatorConfig>

interface Parsed {
  config: AggregatorConfig | undefined
  problems: Problem[]
}

function parsed(text: string, look?: (config: AggregatorConfig, found: Problems) => void): Parsed {
  const found = new Problems(text)
  const plain = found.plain()
  const result = plain === undefined ? undefined : aggregatorConfig.safeParse(plain)
  if (result?.error) found.issues(result.error, [])
  if (result?.data) {
    judge(result.data, found)
    look?.(result.data, found)
  }
  found.sort()
  const isFine = !found.problems.some(({ severity }) => severity === 'error')
  return { config: isFine ? result?.data : undefined, problems: found.problems }
}

/** Every problem of a configuration, with its path and line; files and variables that are absent here are warnings. */
export const problemsOf = (text: string): Problem[] => parsed(text, look).problems

/** What only `dpulse check` looks at: what the examples of the filter show, and what the configuration refers to. */
function look(config: AggregatorConfig, found: Problems): void {
  for (const { path, message } of absentReferences(config)) found.problem(path, message, 'warning')
  if (!config.filter) return
  for (const { path, message, severity } of checkFilter(config.filter, {
    device: 'check',
    clock: systemClock,
  })) {
    found.problem(['filter', ...path], message, severity)
  }
}

/** What `dpulse check` asks of an aggregator's configuration. */
export const checker = { check: async (text: string): Promise<Problem[]> => problemsOf(text) }

/** The defaults without a file. @throws PermanentError CONFIG_INVALID that lists every problem. */
export async function loadConfig(file: string | undefined): Promise<AggregatorConfig> {
  if (file === undefined) return aggregatorConfig.parse({})
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    throw new PermanentError('CONFIG_INVALID', `the configuration ${file} cannot be read`, { cause })
  }
  const { config, problems } = parsed(text)
  if (config) return config
  const lines = problems.map((problem) => `\n  ${textOf(problem)}`).join('')
  throw new PermanentError('CONFIG_INVALID', `${file} has problems:${lines}`)
}
