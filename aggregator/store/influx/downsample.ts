// Tasks of InfluxDB that make five-minute values of raw points, so that they outlive them. Of each field and series:
// how many points, sum, least, most, first, last and the exact increase, as `<field>_count`, `<field>_sum` and so on.
//
// One task looks at what just ended, another four times a day at the last thirty hours, for what came late. Both write the
// same points again where nothing changed. A window is judged by the exact time of a point, not by the stored one, whose
// low bits are a number; the increase is that of the queries: from point to point, whole after a reset.
import { HttpError } from '@influxdata/influxdb-client'
import { TasksAPI } from '@influxdata/influxdb-client-apis'
import type { Task } from '@influxdata/influxdb-client-apis'
import type { Log } from '../../../plugins/contract/define.ts'
import { messageOf } from '../../../plugins/contract/errors.ts'
import type { Buckets } from './buckets.ts'
import type { Connection } from './connection.ts'
import { ownMeasurements } from './series.ts'

/** Which fields are read, and what of them is kept. */
const kinds = [
  { field: 'gauge', values: true, grows: false, exact: false },
  { field: 'gauge_int', values: true, grows: false, exact: true },
  { field: 'counter', values: true, grows: true, exact: false },
  { field: 'counter_int', values: true, grows: true, exact: true },
  { field: 'count_int', values: false, grows: true, exact: true },
] as const

const text = (value: string): string => JSON.stringify(value)
/** Stored times are less than this from exact ones. */
const margin = '3ms'

/** A script for the windows [begin, end) of one raw bucket; both are Flux expressions of whole five minutes. */
export function downsampleScript(
  raw: string,
  into: string,
  begin: string,
  end: string,
  options = '',
): string {
  return `import "date"
${options}
begin_ = ${begin}
end_ = ${end}
from_ = date.sub(d: ${margin}, from: begin_)
to_ = date.add(d: ${margin}, to: end_)
own = [${Object.values(ownMeasurements).map(text).join(', ')}]
window = 300000000000
points = (field, start, stop) => from(bucket: ${text(raw)})
  |> range(start: start, stop: stop)
  |> filter(fn: (r) => not contains(value: r._measurement, set: own))
  |> filter(fn: (r) => r._field == field or r._field == "time_unix_nano" or r._field == "arrived_unix_nano"
    or r._field == "start_time_unix_nano")
rows = (field) => union(tables: [
    points(field: field, start: from_, stop: to_),
    points(field: field, start: date.sub(d: 1d, from: from_), stop: from_) |> last(),
  ])
  |> drop(columns: ["_start", "_stop"])
  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
${kinds.map((kind) => fieldFlux(kind, into)).join('\n')}`
}

function fieldFlux(
  { field, values, grows, exact }: { field: string; values: boolean; grows: boolean; exact: boolean },
  into: string,
): string {
  const zero = exact ? '0' : '0.0'
  const kept = values
    ? `${field}_count: r.count, ${field}_sum: r.sum, ${field}_min: r.least, ${field}_max: r.most,
      ${field}_first: r.first, ${field}_last: r.last`
    : `${field}_count: r.count`
  return `
rows(field: ${text(field)})
  |> filter(fn: (r) => exists r.${field})
  |> map(fn: (r) => ({r with
    at: if exists r.arrived_unix_nano then r.arrived_unix_nano else r.time_unix_nano,
    began: if exists r.start_time_unix_nano then r.start_time_unix_nano else 0,
    v: r.${field}}))
  |> sort(columns: ["at", "_time"])
  |> map(fn: (r) => ({r with step: r.v, since: r.at}))
  |> difference(columns: ["step", "since"], keepFirst: true)
  |> filter(fn: (r) => r.at >= int(v: begin_) and r.at < int(v: end_))
  |> map(fn: (r) => ({r with
    gain: if not exists r.step then ${zero}
      else if r.step < ${zero} or r.began > r.at - r.since then r.v
      else r.step,
    _time: time(v: r.at - r.at % window)}))
  |> drop(columns: ["time_unix_nano", "arrived_unix_nano", "start_time_unix_nano", "step", "since", "began", ${text(field)}])
  |> group(columns: ["v", "at", "gain"], mode: "except")
  |> reduce(
    identity: {count: 0, sum: 0.0, least: ${zero}, most: ${zero}, first: ${zero}, last: ${zero}, gain: ${zero}},
    fn: (r, accumulator) => ({
      count: accumulator.count + 1,
      sum: accumulator.sum + float(v: r.v),
      least: if accumulator.count == 0 or r.v < accumulator.least then r.v else accumulator.least,
      most: if accumulator.count == 0 or r.v > accumulator.most then r.v else accumulator.most,
      first: if accumulator.count == 0 then r.v else accumulator.first,
      last: r.v,
      gain: accumulator.gain + r.gain,
    }),
  )
  |> to(bucket: ${text(into)}, fieldFn: (r) => ({${kept}${grows ? `, ${field}_increase: r.gain` : ''}}))`
}

interface Wanted {
  name: string
  flux: string
}

/** What is kept raw for long anyway needs no five-minute values; logs have none. */
const downsampledOf = (buckets: Buckets): string[] =>
  buckets.raw.filter((bucket) => !bucket.endsWith('-usage') && !bucket.endsWith('-event'))

function wantedTasks(buckets: Buckets): Wanted[] {
  const now = 'date.truncate(t: now(), unit: 5m)'
  return downsampledOf(buckets).flatMap((raw) =>
    [
      { name: `dpulse ${raw} 5m`, every: '5m', reach: '15m' },
      { name: `dpulse ${raw} 5m, what came late`, every: '6h', reach: '30h' },
    ].map(({ name, every, reach }) => ({
      name,
      flux: downsampleScript(
        raw,
        buckets.downsampled,
        `date.sub(d: ${reach}, from: ${now})`,
        now,
        `option task = {name: ${text(name)}, every: ${every}, offset: 1m}`,
      ),
    })),
  )
}

/** Makes the tasks, or brings them up to date. Without them everything else works: a failure is told, and no more. */
export async function prepareTasks(connection: Connection, buckets: Buckets, log: Log): Promise<void> {
  const { orgId: orgID } = buckets
  try {
    const api = new TasksAPI(connection.influx)
    for (const { name, flux } of wantedTasks(buckets)) {
      const found = await onlyTask(api, orgID, name)
      if (!found) {
        await api.postTasks({ body: { orgID, flux } })
        log.info('task made', { task: name })
        await onlyTask(api, orgID, name)
      } else if (found.flux !== flux) {
        await api.patchTasksID({ taskID: found.id, body: { flux } })
        log.info('task brought up to date', { task: name })
      }
    }
  } catch (error) {
    log.warn('InfluxDB takes no tasks from us: five-minute values are not made', { error: messageOf(error) })
  }
}

/** InfluxDB takes two tasks of one name, which aggregators that start at the same time would make: the older one stays. */
async function onlyTask(api: TasksAPI, orgID: string, name: string): Promise<Task | undefined> {
  const { tasks = [] } = (await api.getTasks({ orgID, name })) ?? {}
  const [first, ...others] = tasks.filter((task) => task.name === name).sort((a, b) => (a.id < b.id ? -1 : 1))
  for (const { id: taskID } of others) {
    await api.deleteTasksID({ taskID }).catch((error: unknown) => {
      // The other aggregator has found out too.
      if (!(error instanceof HttpError) || error.statusCode !== 404) throw error
    })
  }
  return first
}
