// What the commands need of the answers of the HTTP API. Loose: fields that a newer aggregator adds are passed through
// to `-o json` untouched.
import * as z from 'zod'

const attributes = z.record(z.string(), z.unknown())
const count = z.number()

export const LogRecord = z.looseObject({
  id: z.string(),
  time: z.string(),
  device: z.string(),
  severityNumber: z.number(),
  severityText: z.string(),
  body: z.unknown(),
  attributes,
  resource: attributes,
  eventName: z.string(),
})
export type LogRecord = z.output<typeof LogRecord>

export const LogPage = z.looseObject({ records: z.array(LogRecord), next: z.string().optional() })

export const Metrics = z.array(
  z.looseObject({
    name: z.string(),
    unit: z.string(),
    kind: z.string(),
    attributes: z.array(z.string()),
    series: count,
  }),
)

export const SeriesList = z.array(
  z.looseObject({
    metric: z.string(),
    unit: z.string(),
    kind: z.string(),
    device: z.string(),
    attributes,
    points: z.array(z.tuple([z.string(), z.union([z.number(), z.string()])])),
  }),
)

const account = {
  produced: count,
  stored: count,
  inFlight: count,
  dropped: z.record(z.string(), count),
  unknown: count,
}

export const Ledger = z.looseObject({
  ...account,
  balanced: z.boolean(),
  streams: z.array(
    z.looseObject({
      collector: z.string(),
      device: z.string(),
      session: z.string(),
      class: z.string(),
      ...account,
      lastSeq: count,
      missing: z.array(z.tuple([count, count])),
      balanced: z.boolean().optional(),
    }),
  ),
})
export type Ledger = z.output<typeof Ledger>

export const Devices = z.array(
  z.looseObject({
    device: z.string(),
    name: z.string(),
    labels: z.record(z.string(), z.string()),
    state: z.string(),
    lastSeen: z.string(),
    collector: z.string().optional(),
    version: z.string().optional(),
    conflicts: z.array(z.looseObject({ collectors: z.array(z.string()), detail: z.string() })).optional(),
  }),
)
export type Devices = z.output<typeof Devices>

/** What only a collector tells of itself, at its own /api/top. */
export const Inside = z.looseObject({
  components: z.array(
    z.looseObject({
      id: z.string(),
      kind: z.string(),
      type: z.string(),
      in: count,
      out: count,
      missed: count.optional(),
      dropped: z.record(z.string(), count),
      failures: z.record(z.string(), count),
      restarts: count,
    }),
  ),
  buffers: z.array(
    z.looseObject({ id: z.string(), memoryBytes: count, diskBytes: count, inFlight: count, waiting: count }),
  ),
  /** Of each limit that is set, what is used of it: 1 is all. */
  limits: z.array(z.looseObject({ name: z.string(), share: z.number() })).default([]),
  /** Where senders have quotas; those that lost the most first. */
  senders: z
    .array(
      z.looseObject({
        sender: z.string(),
        records: count,
        bytes: count,
        dropped: count,
        slowedSeconds: z.number(),
      }),
    )
    .default([]),
})
export type Inside = z.output<typeof Inside>

export const Health = z.looseObject({
  ready: z.boolean(),
  parts: z.array(z.looseObject({ name: z.string(), ready: z.boolean(), detail: z.string() })),
})
export type Health = z.output<typeof Health>

const reportedVerbosity = z.looseObject({
  source: z.string(),
  severity: z.string(),
  state: z.string(),
  reason: z.string(),
  until: z.string(),
})

const deviceChange = {
  device: z.string(),
  online: z.boolean(),
  state: z.string(),
  detail: z.string(),
  desired: z
    .looseObject({
      revision: count,
      configuration: z
        .looseObject({ hash: z.string().nullable(), by: z.string(), time: z.string() })
        .optional(),
      labels: z.record(z.string(), z.string().nullable()),
    })
    .nullable(),
  reported: z
    .looseObject({
      revision: count,
      configuration: z.looseObject({ hash: z.string(), origin: z.string(), since: z.string() }),
      base: z.looseObject({ hash: z.string() }),
      outcome: z
        .looseObject({
          problems: z.array(z.looseObject({ path: z.string(), message: z.string(), severity: z.string() })),
        })
        .nullable(),
      verbosity: z.array(reportedVerbosity),
    })
    .nullable(),
}

/** Wish and fact of a device. */
export const DeviceChange = z.looseObject(deviceChange)
export type DeviceChange = z.output<typeof DeviceChange>
export const DeviceChanges = z.array(DeviceChange)
export const DeviceChangeText = z.looseObject({ ...deviceChange, text: z.string().nullable() })

const problem = z.looseObject({
  path: z.string(),
  message: z.string(),
  severity: z.enum(['error', 'warning']),
  line: count.optional(),
  column: count.optional(),
})
export const Applied = z.looseObject({
  hash: z.string(),
  warnings: z.array(problem),
  devices: z.array(z.string()),
  online: z.array(z.string()),
  rollout: z.string().optional(),
})
const chosen = { devices: z.array(z.string()), online: z.array(z.string()) }
export const Changed = z.looseObject(chosen)
export const Labelled = z.looseObject({ ...chosen, unknown: z.array(z.string()) })
export const Stopped = z.looseObject({ stopped: z.string() })

export const Rollouts = z.array(
  z.looseObject({
    id: z.string(),
    hash: z.string(),
    by: z.string(),
    time: z.string(),
    state: z.string(),
    detail: z.string(),
    stages: z.array(count),
    stage: count,
    devices: count,
    reached: count,
    states: z.record(z.string(), count),
  }),
)
export type Rollout = z.output<typeof Rollouts>[number]
