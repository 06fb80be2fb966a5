// What the container API answers, as far as it is read (docs.docker.com/reference/api/engine). Podman leaves out or
// nulls much of what Docker has.
import * as z from 'zod'

const text = z.string().catch('')
const count = z.number().nonnegative().catch(0)

export const containerList = z.array(
  z.object({ Id: z.string(), Names: z.array(z.string()).nullish(), Image: text, State: text }),
)

export const containerDetails = z.object({
  Id: z.string(),
  Name: text,
  RestartCount: count,
  State: z.object({
    Status: text,
    Running: z.boolean().catch(false),
    OOMKilled: z.boolean().catch(false),
    StartedAt: text,
    FinishedAt: text,
    Health: z.object({ Status: text }).nullish(),
  }),
  Config: z.object({
    Tty: z.boolean().catch(false),
    Image: text,
    Labels: z.record(z.string(), z.string()).nullish(),
  }),
})
export type ContainerDetails = z.output<typeof containerDetails>

const network = z.object({
  rx_bytes: count,
  tx_bytes: count,
  rx_errors: count,
  tx_errors: count,
  rx_dropped: count,
  tx_dropped: count,
})

export const containerStats = z.object({
  cpu_stats: z.object({ cpu_usage: z.object({ total_usage: count }).nullish() }).nullish(),
  memory_stats: z
    .object({
      usage: z.number().optional(),
      limit: z.number().optional(),
      stats: z.record(z.string(), z.number()).nullish(),
    })
    .nullish(),
  pids_stats: z.object({ current: z.number().optional() }).nullish(),
  blkio_stats: z
    .object({ io_service_bytes_recursive: z.array(z.object({ op: text, value: count })).nullish() })
    .nullish(),
  networks: z.record(z.string(), network).nullish(),
})
export type ContainerStats = z.output<typeof containerStats>

export const engineEvent = z.object({
  Type: text,
  Action: text,
  Actor: z.object({ ID: text, Attributes: z.record(z.string(), z.string()).nullish() }),
  time: z.number().optional(),
  timeNano: z.number().optional(),
})
export type EngineEvent = z.output<typeof engineEvent>
