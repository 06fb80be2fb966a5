// What InfluxDB holds already when the store opens: names of series and services, on which there are limits.
import type { Buckets } from './buckets.ts'
import { quotedName } from './connection.ts'
import type { Connection } from './connection.ts'
import { ownMeasurements } from './series.ts'

/** Values of a tag in all buckets. @throws RetryableError where InfluxDB is away. */
async function valuesOf(
  connection: Connection,
  buckets: Buckets,
  measurement: string,
  tag: string,
): Promise<Set<string>> {
  const values = new Set<string>()
  const never = new AbortController().signal
  for (const bucket of buckets.raw) {
    const query = `SHOW TAG VALUES ON ${quotedName(bucket)} FROM ${quotedName(measurement)}
      WITH KEY = ${quotedName(tag)}`
    for await (const row of connection.rows(query, never)) values.add(row.text('value'))
  }
  return values
}

export interface Known {
  series: ReadonlySet<string>
  services: ReadonlySet<string>
}

export async function knownOf(connection: Connection, buckets: Buckets): Promise<Known> {
  const series = await valuesOf(connection, buckets, ownMeasurements.series, 'dpulse.series')
  const services = await valuesOf(connection, buckets, ownMeasurements.logs, 'service.name')
  return { series, services }
}
