// The parts of a collector's configuration that are not plugins: who it is, its API, its pipelines, and what stands in
// front of each exporter.
import * as z from 'zod'
import { address, classes, duration, isDeviceId, size } from '../plugins/contract/index.ts'
import { labelName } from '../plugins/protocols/change.ts'
import { limitsSettings } from './limits.ts'

/** Ids are in the names of topics of the log and in metrics. */
export const componentId = /^[a-z][a-z0-9_-]{0,63}$/

const id = z.string().regex(componentId, 'expected a name of small letters, digits, _ and -, such as bmc_1')

export const bufferSettings = z
  .strictObject({
    memory: size
      .refine((bytes) => bytes >= 1024 * 1024, 'expected at least 1MiB')
      .prefault('32MiB')
      .describe('Most bytes of batches in memory.'),
    disk: size
      .optional()
      .describe('Most bytes of batches on disk; its share of `limits` where absent, 0B for none.'),
    max_age: duration.prefault('7d').describe('Older records are dropped, and counted as expired.'),
    spill: duration
      .prefault('1s')
      .describe('What is not acknowledged by then is written to the disk; 0 writes everything at once.'),
    timeout: duration.prefault('30s').describe('An attempt that takes longer has failed.'),
    in_flight: z.int().min(1).max(1024).default(32).describe('Most batches that may be under way.'),
    max_streams: z.int().min(1).max(1_000_000).default(10_000).describe('Most pairs of device and class.'),
  })
  .prefault({})
export type BufferSettings = z.output<typeof bufferSettings>

export const pipelineSettings = z.strictObject({
  sources: z.array(z.string()).min(1, 'expected at least one source').describe('Ids of sources.'),
  processors: z.array(z.string()).default([]).describe('Ids of processors, in their order; may be left out.'),
  exporters: z
    .array(z.string())
    .min(1, 'expected at least one exporter')
    .describe('Ids of exporters: each gets all.'),
})
export type PipelineSettings = z.output<typeof pipelineSettings>

export const subscriberSettings = z.strictObject({
  pipelines: z
    .array(z.string())
    .min(1, 'expected at least one pipeline')
    .optional()
    .describe(
      'Pipelines whose exporters it reads along with; where absent, all that sources hand over, before any processor.',
    ),
  classes: z.array(z.enum(classes)).min(1).optional().describe('Classes of records; all where absent.'),
  queue: z
    .strictObject({
      memory: size
        .refine((bytes) => bytes >= 64 * 1024, 'expected at least 64KiB')
        .prefault('4MiB')
        .describe('Most bytes that wait for it; beyond that it misses the oldest, and is told how many.'),
      timeout: duration.prefault('10s').describe('An attempt that takes longer has failed.'),
    })
    .prefault({})
    .describe('What stands between the pipeline and the subscriber: the pipeline never waits for it.'),
})
export type SubscriberSettings = z.output<typeof subscriberSettings>

const component = z.looseObject({ type: z.string('expected the name of a plugin') })

/** The outline; what the components hold is for the schemas of their plugins. */
export const outline = z.strictObject({
  collector: z
    .strictObject({
      id: z
        .string()
        .refine(isDeviceId, 'expected 1 to 64 small letters, digits and -')
        .optional()
        .describe(
          'Under which the collector speaks, and the device that it runs on; found out where absent.',
        ),
      labels: z
        .record(z.string().regex(labelName, 'expected small letters, digits, _ and .'), z.string().max(256))
        .default({})
        .describe('Attributes of everything this machine says, under dpu.: site, rack, host, slot, tenant.'),
      labels_file: z
        .string()
        .default('/etc/dpulse/labels.yaml')
        .describe('YAML with further labels, which come before these; read again when it changes.'),
      trial: duration
        .refine((ms) => ms >= 1000 && ms <= 600_000, 'expected 1s to 10m')
        .prefault('50s')
        .describe('A configuration from the aggregator that does not reach it within this is rolled back.'),
    })
    .prefault({})
    .describe('Who this collector is.'),
  plugins: z
    .array(z.string())
    .max(100)
    .default([])
    .describe(
      'Modules with further plugins, relative to this file; their default export is one, or an array.',
    ),
  api: z
    .strictObject({
      listen: z
        .array(address)
        .max(16)
        .optional()
        .describe('Addresses; loopback with port 8601 where absent.'),
      enabled: z.boolean().default(true).describe('Whether to listen at all.'),
      values: z
        .strictObject({
          series: z
            .int()
            .min(0)
            .max(1_000_000)
            .default(10_000)
            .describe('Most series of /metrics/values; 0 for none.'),
          expire: duration.prefault('10m').describe('A series that says nothing for so long is left out.'),
        })
        .prefault({})
        .describe('The newest values of all metrics that pass, as Prometheus text.'),
    })
    .prefault({})
    .describe('The local HTTP API.'),
  limits: limitsSettings.describe('What the collector may use of the machine, and each sender of it.'),
  sources: z.record(id, component).default({}).describe('What brings records in, by id.'),
  processors: z.record(id, component).default({}).describe('What filters and changes records, by id.'),
  exporters: z.record(id, component).default({}).describe('What delivers records, by id.'),
  subscribers: z
    .record(id, component)
    .default({})
    .describe('What reads along on this machine, by id: the pipeline never waits for it.'),
  pipelines: z.record(id, pipelineSettings).default({}).describe('What goes through what to where, by id.'),
})
export type Outline = z.output<typeof outline>
