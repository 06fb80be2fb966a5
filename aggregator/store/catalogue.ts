// What series there are: which of them a query means, what tells them apart, and the list of metrics.
import type { Json, Match, MetricInfo, MetricKind } from '../query.ts'
import type { Row } from './database.ts'
import type { QueryContext, SqlValue } from './runner.ts'

export interface Series {
  id: number
  device: string
  metric: string
  unit: string
  kind: MetricKind
  /** 1 delta, 2 cumulative. */
  temporality: number
  /** Of the point, and those of its Resource by which series of its metric differ. */
  attributes: Record<string, Json>
  resource: Record<string, Json>
}

/** All series of a metric or a device, before any `where`. */
export async function findSeries(
  context: QueryContext,
  which: { metric?: string; device?: readonly string[] | undefined },
): Promise<Series[]> {
  const values: Record<string, SqlValue> = {}
  const parts = ['true']
  if (which.metric !== undefined) {
    values.metric = which.metric
    parts.push('s.metric = $metric')
  }
  parts.push(...devicesSql(which.device, values))
  const rows = await context.rows(
    `SELECT s.id, s.device, s.metric, s.unit, s.kind, s.temporality, s.attributes, s.identity, r.attributes
     FROM series s LEFT JOIN resources r ON r.id = s.resource
     WHERE ${parts.join(' AND ')} ORDER BY s.device, s.metric, s.attributes, s.id`,
    values,
  )
  const groups = new Map<string, { series: Series; identity: Record<string, Json> }[]>()
  const all: Series[] = []
  for (const row of rows) {
    const found = seriesOf(row)
    all.push(found.series)
    const key = `${found.series.device}\0${found.series.metric}`
    const group = groups.get(key)
    if (group) group.push(found)
    else groups.set(key, [found])
  }
  for (const group of groups.values()) addWhatDiffers(group)
  return all
}

function seriesOf(row: Row): { series: Series; identity: Record<string, Json> } {
  const [id, device, metric, unit, kind, temporality, attributes, identity, resource] = row
  return {
    series: {
      id: Number(id),
      device: String(device),
      metric: String(metric),
      unit: String(unit),
      kind: kind as MetricKind,
      temporality: Number(temporality),
      attributes: JSON.parse(String(attributes)) as Record<string, Json>,
      resource: JSON.parse(resource === null ? '{}' : String(resource)) as Record<string, Json>,
    },
    identity: JSON.parse(String(identity)) as Record<string, Json>,
  }
}

/** Two services may report one metric of one device: then the Resource tells which, and only then. */
export function addWhatDiffers(group: { series: Series; identity: Record<string, Json> }[]): void {
  if (group.length < 2) return
  const names = new Set(group.flatMap(({ identity }) => Object.keys(identity)))
  for (const name of names) {
    const texts = new Set(group.map(({ identity }) => JSON.stringify(identity[name])))
    if (texts.size < 2) continue
    for (const { series, identity } of group) {
      const value = identity[name]
      if (value !== undefined && !Object.hasOwn(series.attributes, name)) series.attributes[name] = value
    }
  }
}

/** The text form of an attribute of the series or, where it has none of that name, of its Resource. */
export function textOf(series: Series, key: string): string | undefined {
  const value = Object.hasOwn(series.attributes, key)
    ? series.attributes[key]
    : Object.hasOwn(series.resource, key)
      ? series.resource[key]
      : undefined
  if (value === undefined) return undefined
  return typeof value === 'string' ? value : JSON.stringify(value)
}

export const matches = (series: Series, where: readonly Match[]): boolean =>
  where.every(({ key, value }) => textOf(series, key) === value)

function devicesSql(device: readonly string[] | undefined, values: Record<string, SqlValue>): string[] {
  if (!device) return []
  const names = device.map((name, index) => {
    values[`device${index}`] = name
    return `$device${index}`
  })
  return [`device IN (${names.join(', ')})`]
}

export async function listMetrics(
  context: QueryContext,
  device: readonly string[] | undefined,
): Promise<MetricInfo[]> {
  const values: Record<string, SqlValue> = {}
  const where = ['true', ...devicesSql(device, values)].join(' AND ')
  // Per device and metric, the names by which Resources differ count as well, as in `findSeries`.
  const rows = await context.rows(
    `WITH chosen AS (SELECT * FROM series WHERE ${where}),
     own AS (SELECT metric, unit, kind, unnest(json_keys(attributes)) AS name FROM chosen),
     identities AS (SELECT device, metric, unit, kind, unnest(json_keys(identity)) AS name, identity FROM chosen),
     valued AS (SELECT device, metric, unit, kind, name,
         json_extract(identity, '/' || replace(replace(name, '~', '~0'), '/', '~1')) AS value FROM identities),
     totals AS (SELECT device, metric, count(*) AS series FROM chosen GROUP BY device, metric),
     differing AS (SELECT metric, unit, kind, name FROM valued JOIN totals USING (device, metric)
       GROUP BY device, metric, unit, kind, name
       HAVING count(DISTINCT value) > 1 OR count(*) < any_value(totals.series)),
     names AS (SELECT metric, unit, kind, list(DISTINCT name ORDER BY name) AS names
       FROM (FROM own UNION ALL FROM differing) GROUP BY metric, unit, kind)
     SELECT c.metric, c.unit, c.kind, c.series, to_json(coalesce(names, []))::VARCHAR
     FROM (SELECT metric, unit, kind, count(*) AS series FROM chosen GROUP BY metric, unit, kind) c
     LEFT JOIN names USING (metric, unit, kind) ORDER BY c.metric, c.unit, c.kind`,
    values,
  )
  return rows.map(([name, unit, kind, series, names]) => ({
    name: String(name),
    unit: String(unit),
    kind: kind as MetricKind,
    attributes: JSON.parse(String(names)) as string[],
    series: Number(series),
  }))
}
