// What series there are, asked of `dpulse_series`: which of them a question means, and the list of metrics.
import type { Json, MetricInfo, MetricKind } from '../../query.ts'
import { addWhatDiffers } from '../catalogue.ts'
import type { Series as KnownSeries } from '../catalogue.ts'
import type { Buckets } from './buckets.ts'
import { everywhere } from './buckets.ts'
import { quotedName, quotedText } from './connection.ts'
import type { Connection, Row } from './connection.ts'
import { measurementOf, ownMeasurements } from './series.ts'

/** As in the embedded store, with the tag by which its points are found. */
export interface Series extends KnownSeries {
  tag: string
}

interface Described {
  series: Series
  identity: Record<string, Json>
}

const columns = ['metric', 'unit', 'kind', 'temporality', 'attributes', 'identity', 'resource', 'device']

/** The newest description of each series of a metric or of devices. */
async function describe(
  connection: Connection,
  buckets: Buckets,
  which: { metric?: string; device?: readonly string[] | undefined },
  signal: AbortSignal,
): Promise<Described[]> {
  const parts: string[] = []
  if (which.metric !== undefined) parts.push(`"metric"::tag = ${quotedText(measurementOf(which.metric))}`)
  if (which.device) parts.push(devicesOf(which.device))
  const fields = columns.map((name) => `${quotedName(name)}::field AS ${quotedName(name)}`).join(', ')
  const query = `SELECT ${fields} FROM ${everywhere(buckets, ownMeasurements.series)}
    ${parts.length > 0 ? `WHERE ${parts.join(' AND ')}` : ''}
    GROUP BY "dpulse.series" ORDER BY time DESC LIMIT 1`
  const newest = new Map<string, { time: bigint; described: Described }>()
  for await (const row of connection.rows(query, signal)) {
    const tag = seriesTag(row)
    const time = BigInt(row.text('time'))
    const known = newest.get(tag)
    if (known && known.time >= time) continue
    if (which.metric !== undefined && row.text('metric') !== which.metric) continue
    newest.set(tag, { time, described: describedBy(row, tag) })
  }
  const all = [...newest.values()].map(({ described }) => described)
  all.sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1))
  for (const [index, { series }] of all.entries()) series.id = index
  return all
}

/** The tag in a row that is grouped by it alone. */
export const seriesTag = (row: Row): string => row.tags.replace(/^dpulse\.series=/, '')

export const devicesOf = (devices: readonly string[]): string =>
  `(${devices.map((name) => `"host.id"::tag = ${quotedText(name)}`).join(' OR ')})`

const orderOf = ({ series }: Described): string =>
  [series.device, series.metric, JSON.stringify(series.attributes), series.tag].join('\0')

function describedBy(row: Row, tag: string): Described {
  const json = (name: string): Record<string, Json> =>
    JSON.parse(row.text(name) || '{}') as Record<string, Json>
  return {
    series: {
      id: 0,
      tag,
      device: row.text('device'),
      metric: row.text('metric'),
      unit: row.text('unit'),
      kind: row.text('kind') as MetricKind,
      temporality: Number(row.text('temporality')),
      attributes: json('attributes'),
      resource: json('resource'),
    },
    identity: json('identity'),
  }
}

/** All series of a metric or a device, before any `where`, with what tells them apart. */
export async function findSeries(
  connection: Connection,
  buckets: Buckets,
  which: { metric?: string; device?: readonly string[] | undefined },
  signal: AbortSignal,
): Promise<Series[]> {
  const all = await describe(connection, buckets, which, signal)
  const groups = new Map<string, Described[]>()
  for (const each of all) {
    const key = `${each.series.device}\0${each.series.metric}`
    const group = groups.get(key)
    if (group) group.push(each)
    else groups.set(key, [each])
  }
  for (const group of groups.values()) addWhatDiffers(group)
  return all.map(({ series }) => series)
}

interface Listed extends MetricInfo {
  names: Set<string>
}

export async function listMetrics(
  connection: Connection,
  buckets: Buckets,
  device: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<MetricInfo[]> {
  const all = await findSeries(connection, buckets, { device }, signal)
  const listed = new Map<string, Listed>()
  for (const { metric, unit, kind, attributes } of all) {
    const key = JSON.stringify([metric, unit, kind])
    let info = listed.get(key)
    if (!info) {
      info = { name: metric, unit, kind, attributes: [], series: 0, names: new Set() }
      listed.set(key, info)
    }
    info.series++
    for (const name of Object.keys(attributes)) info.names.add(name)
  }
  return [...listed]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { names, ...info }]) => ({ ...info, attributes: [...names].sort() }))
}
