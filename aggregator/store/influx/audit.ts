// What InfluxDB confirmed against what it has: points by device and hour, counted by InfluxDB itself once the hour is
// over. Its points do not tell of which stream they are, so this, and not the ledger, finds what it lost afterwards.
import type { Log } from '../../../plugins/contract/define.ts'
import { messageOf } from '../../../plugins/contract/errors.ts'
import type { StoreBatch } from '../store.ts'
import type { Buckets } from './buckets.ts'
import { quotedName } from './connection.ts'
import type { Connection } from './connection.ts'
import type { Lines } from './line.ts'
import { hourNano } from './line.ts'

const hourMs = 3_600_000
/** After an hour, what is under way has arrived. */
const settleMs = 600_000
/** Devices and hours that are remembered; beyond it the oldest are not looked at. */
const entryLimit = 500_000

/** Points by `bucket`, then hour since 1970, then device. */
type Counts = Map<string, Map<number, Map<string, number>>>

function addTo(counts: Counts, bucket: string, hour: number, device: string, points: number): void {
  let hours = counts.get(bucket)
  if (!hours) counts.set(bucket, (hours = new Map()))
  let devices = hours.get(hour)
  if (!devices) hours.set(hour, (devices = new Map()))
  devices.set(device, (devices.get(device) ?? 0) + points)
}

/** The points of one write, until all of it is stored. */
export class Written {
  readonly counts: Counts = new Map()

  /** Lines that InfluxDB took. */
  add(bucket: string, lines: Lines, batches: readonly StoreBatch[], rejected: ReadonlySet<number>): void {
    for (let line = 0; line < lines.count; line++) {
      const device = batches[lines.owner(line)]?.header.device
      if (device !== undefined && !rejected.has(line)) addTo(this.counts, bucket, lines.hour(line), device, 1)
    }
  }
}

export class Audit {
  readonly #log: Log
  #confirmed: Counts = new Map()
  #entries = 0
  /** What is missing, as the last look found it. */
  failure: string | undefined

  constructor(log: Log) {
    this.#log = log
  }

  confirm({ counts }: Written): void {
    for (const [bucket, hours] of counts) {
      for (const [hour, devices] of hours) {
        for (const [device, points] of devices) addTo(this.#confirmed, bucket, hour, device, points)
        this.#entries += devices.size
      }
    }
    if (this.#entries > entryLimit) this.#forgetOldest()
  }

  #forgetOldest(): void {
    const all = [...this.#confirmed].flatMap(([bucket, hours]) =>
      [...hours.keys()].map((hour) => ({ bucket, hour })),
    )
    all.sort((a, b) => a.hour - b.hour)
    for (const { bucket, hour } of all.slice(0, Math.ceil(all.length / 2)))
      this.#confirmed.get(bucket)?.delete(hour)
    this.#recount()
  }

  #recount(): void {
    this.#entries = 0
    for (const hours of this.#confirmed.values())
      for (const devices of hours.values()) this.#entries += devices.size
  }

  /** Compares all hours that are over. What agrees is not looked at again; what is missing stays until it is there. */
  async look(connection: Connection, buckets: Buckets, nowMs: number, signal: AbortSignal): Promise<void> {
    let missing = 0
    try {
      for (const [bucket, hours] of this.#confirmed) {
        for (const [hour, devices] of hours) {
          if ((hour + 1) * hourMs + settleMs > nowMs) continue
          // What retention is about to remove is no loss.
          const isOld = hour * hourMs < nowMs - buckets.keepsMs(bucket) + hourMs
          const gone = isOld ? 0 : await this.#compare(connection, bucket, hour, devices, signal)
          missing += gone
          if (gone === 0) hours.delete(hour)
        }
      }
      this.failure =
        missing === 0
          ? undefined
          : `InfluxDB has ${missing} points less than it confirmed; the log names them`
    } catch (error) {
      if (!signal.aborted) this.#log.debug('points not counted', { error: messageOf(error) })
    }
    this.#recount()
  }

  /** How many points of the hour are missing. */
  async #compare(
    connection: Connection,
    bucket: string,
    hour: number,
    devices: ReadonlyMap<string, number>,
    signal: AbortSignal,
  ): Promise<number> {
    const begin = BigInt(hour) * hourNano
    const query = `SELECT count("time_unix_nano"::field) AS "points" FROM ${quotedName(bucket)}../.*/
      WHERE time >= ${begin} AND time < ${begin + hourNano} GROUP BY "host.id"`
    const found = new Map<string, number>()
    for await (const row of connection.rows(query, signal)) {
      const device = row.tags.replace(/^host\.id=/, '')
      found.set(device, (found.get(device) ?? 0) + Number(row.text('points')))
    }
    let missing = 0
    for (const [device, confirmed] of devices) {
      const there = found.get(device) ?? 0
      if (there >= confirmed) continue
      missing += confirmed - there
      const since = new Date(hour * hourMs).toISOString()
      this.#log.error('points that InfluxDB confirmed are gone', {
        bucket,
        device,
        since,
        confirmed,
        found: there,
      })
    }
    return missing
  }
}
