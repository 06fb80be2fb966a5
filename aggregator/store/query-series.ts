// The query of one metric over a range: stored points, or aggregates of steps; and the newest values of a device.
//
// `increase` goes from point to point of each series, also across the borders of steps: what a counter gained since
// the point before it counts where the later point lies. The last point before the range is the base of the first
// one, when it is at most a day older; without any, the first point only begins. A counter that fell, or that began
// after the point before it, was reset and counts whole. Delta points count as they are. `rate` is the increase by the
// seconds of the step that lie within the range.
import { formatTime } from '../time.ts'
import type { Aggregate, LatestValue, MetricKind, MetricQuery, SeriesResult } from '../query.ts'
import { findSeries, matches } from './catalogue.ts'
import type { Row } from './database.ts'
import type { QueryContext } from './runner.ts'
import { pointForm as form } from './schema.ts'
import { marginNano } from './segments.ts'
import type { Segments } from './segments.ts'
import { byAggregate, groupSeries, modeOf, rangeOf, spanOf, tooManyPoints } from './series-groups.ts'
import type { Group, Range } from './series-groups.ts'

const dayNano = 86_400_000_000_000n

/** The value of a point as a double, and exact where it is an integer. Of histograms, the mean. */
const plain = `CASE form WHEN ${form.integer} THEN number::DOUBLE WHEN ${form.count} THEN NULL ELSE value END AS v,
  CASE form WHEN ${form.integer} THEN number END AS i`
/** What a counter counts: of histograms and summaries the number of observations. */
const counted = `CASE form WHEN ${form.double} THEN value ELSE number::DOUBLE END AS v,
  CASE form WHEN ${form.double} THEN NULL ELSE number END AS i`

export async function queryMetric(
  context: QueryContext,
  segments: Segments,
  query: MetricQuery,
): Promise<SeriesResult[]> {
  const all = await findSeries(context, { metric: query.metric, device: query.device })
  const groups = groupSeries(
    all.filter((series) => matches(series, query.where)),
    query.by,
  )
  const range = rangeOf(query)
  if (groups.length === 0 || range.from >= range.to) return []
  let left = query.limit
  // Kinds differ only where two sources disagree about a metric; each is then asked on its own.
  for (const [aggregate, some] of byAggregate(groups, query)) {
    const rows =
      aggregate === undefined
        ? await storedPoints(context, segments, some, range, left)
        : await aggregated(context, segments, some, range, aggregate, left)
    if (rows.length > left) {
      throw tooManyPoints(query)
    }
    left -= rows.length
    fill(some, rows, range, aggregate)
  }
  return groups.map(({ result }) => result).filter(({ points }) => points.length > 0)
}

/** The chosen series as a relation (series, grp, mode). */
function chosenSql(groups: readonly Group[]): string {
  const ids: number[] = []
  const numbers: number[] = []
  const modes: number[] = []
  for (const [index, group] of groups.entries()) {
    for (const series of group.series) {
      ids.push(series.id)
      numbers.push(index)
      modes.push(modeOf(series))
    }
  }
  return `chosen AS MATERIALIZED (SELECT unnest([${ids.join(',')}])::UINTEGER AS series,
    unnest([${numbers.join(',')}]) AS grp, unnest([${modes.join(',')}]) AS mode)`
}

/** Points of the chosen series with an effective time in [from, to); undefined where no segment has any. */
function pointsSql(
  segments: Segments,
  groups: readonly Group[],
  from: bigint,
  to: bigint,
  value: string,
): string | undefined {
  const list = segments.within('metrics', Number(from), Number(to))
  if (list.length === 0) return undefined
  let first = Infinity
  let last = 0
  for (const { series } of groups) {
    for (const { id } of series) {
      first = Math.min(first, id)
      last = Math.max(last, id)
    }
  }
  const relation = segments.relation(list, 'series, ts, stream, seq, idx, start, form, value, number')
  return `SELECT p.series, grp, mode, ts, stream, seq, idx, start, ${value}
    FROM ${relation} p JOIN chosen USING (series)
    WHERE ts >= ${from} AND ts < ${to} AND series BETWEEN ${first} AND ${last}`
}

async function storedPoints(
  context: QueryContext,
  segments: Segments,
  groups: readonly Group[],
  { from, to }: Range,
  limit: number,
): Promise<Row[]> {
  const points = pointsSql(segments, groups, from, to, plain)
  if (!points) return []
  return context.rows(
    `WITH ${chosenSql(groups)}, p AS (${points})
     SELECT grp, ts, v, i::VARCHAR FROM p WHERE v IS NOT NULL
     ORDER BY grp, ts, stream, seq, idx LIMIT ${limit + 1}`,
  )
}

const bucketSql = ({ step }: Range): string => (step > 0n ? `ts // ${step}` : '0::BIGINT')

/** SQL of the double and of the exact result. Doubles of large integers lose what their sum cancels out. */
const simple: Readonly<Record<'mean' | 'min' | 'max' | 'sum', [string, string]>> = {
  mean: ['CASE WHEN count(i) = count(*) THEN sum(i)::DOUBLE / count(*) ELSE avg(v) END', 'NULL'],
  min: ['min(v)', 'min(i)'],
  max: ['max(v)', 'max(i)'],
  sum: ['sum(v)', 'sum(i)'],
}

async function aggregated(
  context: QueryContext,
  segments: Segments,
  groups: readonly Group[],
  range: Range,
  aggregate: Aggregate,
  limit: number,
): Promise<Row[]> {
  const { from, to } = range
  const bucket = bucketSql(range)
  const end = `GROUP BY grp, bucket ORDER BY grp, bucket LIMIT ${limit + 1}`
  if (aggregate === 'increase' || aggregate === 'rate') {
    const sql = increaseSql(segments, groups, range)
    if (!sql) return []
    return context.rows(
      `WITH ${chosenSql(groups)}, ${sql}
       SELECT grp, ${bucket} AS bucket, sum(v), CASE WHEN count(i) = count(*) THEN sum(i) END::VARCHAR
       FROM gains WHERE ts >= ${from} AND v IS NOT NULL ${end}`,
    )
  }
  const points = pointsSql(segments, groups, from, to, plain)
  if (!points) return []
  const head = `WITH ${chosenSql(groups)}, p AS (${points})`
  if (aggregate === 'last') {
    // The greatest row: structs compare field by field.
    return context.rows(
      `${head} SELECT grp, bucket, newest.v, newest.i::VARCHAR FROM (
         SELECT grp, ${bucket} AS bucket,
           max({ ts: ts, stream: stream, seq: seq, idx: idx, v: v, i: i }) AS newest
         FROM p WHERE v IS NOT NULL ${end}) ORDER BY grp, bucket`,
    )
  }
  const [double, exact] = simple[aggregate]
  return context.rows(
    `${head} SELECT grp, ${bucket} AS bucket, ${double},
       CASE WHEN count(i) = count(*) THEN ${exact} END::VARCHAR FROM p WHERE v IS NOT NULL ${end}`,
  )
}

/** The relation `gains`: what each point added. */
function increaseSql(segments: Segments, groups: readonly Group[], { from, to }: Range): string | undefined {
  const points = pointsSql(segments, groups, from, to, counted)
  if (!points) return undefined
  const before = from > dayNano ? from - dayNano : 0n
  const bases = pointsSql(segments, groups, before, from, counted)
  const base = bases
    ? `UNION ALL (SELECT * FROM (${bases})
        QUALIFY row_number() OVER (PARTITION BY series ORDER BY ts DESC, stream DESC, seq DESC, idx DESC) = 1)`
    : ''
  return `p AS (${points} ${base}),
    pairs AS (SELECT *, lag(v) OVER w AS pv, lag(i) OVER w AS pi, lag(ts) OVER w AS pat
      FROM p WINDOW w AS (PARTITION BY series ORDER BY ts, stream, seq, idx)),
    gains AS (SELECT grp, ts,
      CASE WHEN mode = 2 THEN v WHEN pat IS NULL THEN NULL
        WHEN mode = 1 AND (v < pv OR start > pat) THEN v ELSE v - pv END AS v,
      CASE WHEN mode = 2 THEN i::HUGEINT WHEN pat IS NULL THEN NULL
        WHEN mode = 1 AND (i < pi OR start > pat) THEN i::HUGEINT ELSE i::HUGEINT - pi END AS i
      FROM pairs)`
}

/** Puts rows (group, time or bucket, double, exact) into their groups. */
function fill(
  groups: readonly Group[],
  rows: readonly Row[],
  range: Range,
  aggregate: Aggregate | undefined,
): void {
  for (const [group, place, double, exact] of rows) {
    const { time, seconds } = spanOf(place as bigint, range, aggregate)
    const value = aggregate === 'rate' ? rateOf(double, exact, seconds) : valueOf(double, exact)
    groups[Number(group)]?.result.points.push([formatTime(time), value])
  }
}

type Cell = Row[number] | undefined

function rateOf(double: Cell, exact: Cell, seconds: number): number {
  return Number(exact ?? double) / seconds
}

/** Integers beyond 2^53 as text. */
function valueOf(double: Cell, exact: Cell): number | string {
  if (exact === null || exact === undefined) return Number(double)
  const near = Number(exact)
  return Number.isSafeInteger(near) ? near : String(exact)
}

/** Newest value of each series of a device: from the newest segments back, until every series has one. */
export async function latestValues(
  context: QueryContext,
  segments: Segments,
  device: string,
): Promise<LatestValue[]> {
  const all = await findSeries(context, { device: [device] })
  const open = new Map(all.map((series) => [series.id, series]))
  const newest = new Map<number, Row>()
  const candidates = segments.within('metrics', -Infinity, Infinity).sort((a, b) => b.atTo - a.atTo)
  for (let size = 2; candidates.length > 0 && open.size > 0; size *= 2) {
    const group = candidates.splice(0, size)
    // A series is settled once no segment that is left can have anything newer.
    const next = (candidates[0]?.atTo ?? -Infinity) + marginNano
    const rows = await context.rows(
      `SELECT series, newest.ts, newest.v, newest.i::VARCHAR FROM (
         SELECT series, max({ ts: ts, stream: stream, seq: seq, idx: idx, v: v, i: i }) AS newest FROM (
           SELECT series, ts, stream, seq, idx, ${plain}
           FROM ${segments.relation(group, 'series, ts, stream, seq, idx, form, value, number')}
           WHERE series IN (${[...open.keys()].join(',')}))
         WHERE v IS NOT NULL GROUP BY series)`,
    )
    for (const row of rows) {
      const id = Number(row[0])
      const known = newest.get(id)
      if (!known || (row[1] as bigint) > (known[1] as bigint)) newest.set(id, row)
    }
    for (const [id, row] of newest) if (Number(row[1]) > next) open.delete(id)
  }
  return all.flatMap(({ id, metric, unit, kind, attributes }): LatestValue[] => {
    const row = newest.get(id)
    if (!row) return []
    const [, at, double, exact] = row
    return [
      {
        metric,
        unit,
        kind: kind satisfies MetricKind,
        attributes,
        time: formatTime(at as bigint),
        value: valueOf(double, exact),
      },
    ]
  })
}
