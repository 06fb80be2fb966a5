// What a collector says about itself to whom it exports: who it is, which streams are in force, and where those of
// earlier sessions ended. An exporter that keeps a connection tells it at each (re)connection.
import type { Class, Dropped } from './signal.ts'

/** Where a stream of an earlier session ended, as far as the buffer kept it. */
export interface StreamEnd {
  session: string
  device: string
  class: Class
  /** Number of the stream's last batch. */
  seq: number
  produced: number
  dropped: Dropped
}

/** Records of an earlier session that the buffer still holds: they will come. */
export interface StreamHeld {
  session: string
  device: string
  class: Class
  count: number
}

export interface CollectorStatus {
  collector: string
  /** ULID of this run of the collector. */
  instance: string
  version: string
  /** RFC 3339: when this run began. */
  since: string
  hostname: string
  arch: string
  labels: Record<string, string>
  /** Where the collector's id comes from: `dmi product_serial`, `machine-id`, … */
  identity: string
  /** Devices about which it reports. */
  devices: string[]
  /** The session in force of the exporter that asks. */
  session: string
  ended: StreamEnd[]
  held: StreamHeld[]
}
