// What a question about a metric means, whatever store answers it: which series are answered together, with which
// aggregate, and where the points of the answer stand.
import { QueryRefused } from '../query.ts'
import type { Aggregate, MetricQuery, SeriesResult } from '../query.ts'
import { textOf } from './catalogue.ts'
import type { Series } from './catalogue.ts'

const largest = 2n ** 63n - 1n

/** Series whose points are answered together. */
export interface Group {
  result: SeriesResult
  series: Series[]
}

export interface Range {
  from: bigint
  to: bigint
  /** 0: one step over all. */
  step: bigint
}

/** The range that is asked for. @throws QueryRefused */
export function rangeOf(query: MetricQuery): Range {
  if (query.stepNano !== undefined && query.stepNano <= 0n) {
    throw new QueryRefused('step', 'a step must be longer than nothing')
  }
  return {
    from: query.sinceUnixNano < 0n ? 0n : query.sinceUnixNano,
    to: query.untilUnixNano > largest ? largest : query.untilUnixNano,
    step: query.stepNano ?? 0n,
  }
}

export const tooManyPoints = (query: MetricQuery): QueryRefused =>
  new QueryRefused(
    'limit',
    `more than ${query.limit} points: ask for a shorter time, a longer step or fewer series`,
  )

export function byAggregate(
  groups: readonly Group[],
  query: MetricQuery,
): Map<Aggregate | undefined, Group[]> {
  const sorted = new Map<Aggregate | undefined, Group[]>()
  for (const group of groups) {
    const usual = group.result.kind === 'counter' ? 'rate' : 'mean'
    const aggregate = query.aggregate ?? (query.stepNano === undefined ? undefined : usual)
    const some = sorted.get(aggregate)
    if (some) some.push(group)
    else sorted.set(aggregate, [group])
  }
  return sorted
}

export function groupSeries(all: readonly Series[], by: readonly string[] | undefined): Group[] {
  const groups = new Map<string, Group>()
  for (const series of all) {
    const { metric, unit, kind, device } = series
    if (by === undefined) {
      const result = { metric, unit, kind, device, attributes: series.attributes, points: [] }
      groups.set(String(series.id), { result, series: [series] })
      continue
    }
    const apart = by.map((name) => (name === 'device' ? device : textOf(series, name)))
    const key = JSON.stringify([unit, kind, ...apart.map((text) => text ?? null)])
    const known = groups.get(key)
    if (known) {
      known.series.push(series)
      if (known.result.device !== device) known.result.device = ''
      continue
    }
    const attributes: SeriesResult['attributes'] = {}
    for (const name of by) {
      const value = series.attributes[name] ?? series.resource[name]
      if (name !== 'device' && value !== undefined) attributes[name] = value
    }
    groups.set(key, { result: { metric, unit, kind, device, attributes, points: [] }, series: [series] })
  }
  return [...groups.values()]
}

/** What of a counter's points counts: 0 the difference, 1 the same with resets, 2 the point itself. */
export function modeOf({ kind, temporality }: Series): number {
  if (temporality === 1) return 2
  return kind === 'gauge' || kind === 'sum' ? 0 : 1
}

/** Where a point of the answer stands, and how many seconds of its step lie within the range. */
export function spanOf(
  place: bigint,
  { from, to, step }: Range,
  aggregate: Aggregate | undefined,
): { time: bigint; seconds: number } {
  if (aggregate === undefined) return { time: place, seconds: 0 }
  if (step === 0n) return { time: from, seconds: Number(to - from) / 1e9 }
  const begin = place * step
  const covered = (begin + step < to ? begin + step : to) - (begin > from ? begin : from)
  return { time: begin, seconds: Number(covered) / 1e9 }
}
