// A real InfluxDB for tests: INFLUX_URL, INFLUX_ORG and INFLUX_TOKEN name it, as `../shared/services/services up influxdb`
// prints them. Each test has buckets of its own.
import { InfluxDB } from '@influxdata/influxdb-client'
import { AuthorizationsAPI, BucketsAPI, OrgsAPI, TasksAPI } from '@influxdata/influxdb-client-apis'
import { openInfluxStore } from '../../../aggregator/store/influx/influxdb.ts'
import type { InfluxStore, InfluxStoreOptions } from '../../../aggregator/store/influx/influxdb.ts'
import { eventually } from '../../support/programs.ts'

const { INFLUX_URL: url, INFLUX_ORG: org = 'test', INFLUX_TOKEN: token = '' } = process.env

/** Where it is; undefined where the environment names none. */
export const influx = url === undefined || url === '' ? undefined : { url, org, token: () => token }

let count = 0
export const newBucket = (): string => `test-${process.pid}-${Date.now().toString(36)}-${++count}`

export function influxStore(
  options: Partial<InfluxStoreOptions> & Pick<InfluxStoreOptions, 'bucket' | 'log'>,
): InfluxStore {
  if (!influx) throw new Error('INFLUX_URL names no InfluxDB')
  // Tasks of a test would run on after it.
  return openInfluxStore({ ...influx, downsampledMs: 0, ...options })
}

const apis = (): BucketsAPI => new BucketsAPI(new InfluxDB({ url: influx?.url ?? '', token }))

export interface KnownBucket {
  id: string
  name: string
  everySeconds: number
}

/** Buckets whose names begin so. */
export async function bucketsOf(prefix: string): Promise<KnownBucket[]> {
  const { buckets = [] } = (await apis().getBuckets({ org, limit: 100 })) ?? {}
  return buckets
    .filter(({ name }) => name === prefix || name.startsWith(`${prefix}-`))
    .map(({ id = '', name, retentionRules }) => ({
      id,
      name,
      everySeconds: retentionRules[0]?.everySeconds ?? 0,
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

export async function removeBuckets(prefix: string): Promise<void> {
  for (const { id } of await bucketsOf(prefix)) await apis().deleteBucketsID({ bucketID: id })
}

/** Writes lines as a stranger would. */
export async function writeLines(bucket: string, lines: readonly string[]): Promise<number> {
  const query = new URLSearchParams({ org, bucket, precision: 'ns' })
  const response = await fetch(`${influx?.url}/api/v2/write?${query}`, {
    method: 'POST',
    headers: { authorization: `Token ${token}` },
    body: lines.join('\n'),
  })
  await response.arrayBuffer()
  return response.status
}

/** The rows of an InfluxQL query, as text. */
export async function askInflux(bucket: string, query: string): Promise<string> {
  const parameters = new URLSearchParams({ db: bucket, epoch: 'ns', q: query })
  const response = await fetch(`${influx?.url}/query?${parameters}`, {
    headers: { authorization: `Token ${token}`, accept: 'application/csv' },
  })
  return response.text()
}

const tasks = (): TasksAPI => new TasksAPI(new InfluxDB({ url: influx?.url ?? '', token }))

/** Tasks about these buckets. */
export async function tasksOf(prefix: string): Promise<{ id: string; name: string }[]> {
  const { tasks: found = [] } = (await tasks().getTasks({ org, limit: 500 })) ?? {}
  return found.filter(({ name }) => name.includes(` ${prefix} `) || name.includes(` ${prefix}-`))
}

export async function removeTasks(prefix: string): Promise<void> {
  for (const { id } of await tasksOf(prefix)) await tasks().deleteTasksID({ taskID: id })
}

/** Runs a task now; how the run ended. */
export async function runTask(taskID: string): Promise<string> {
  const { id: runID = '' } = await tasks().postTasksIDRuns({ taskID, body: {} })
  return eventually('the run of a task', 30, async () => {
    const { status } = await tasks().getTasksIDRunsID({ taskID, runID })
    return (status === 'success' || status === 'failed') && status
  })
}

/** Runs a Flux script; its error where it fails. */
export async function runFlux(flux: string): Promise<void> {
  const response = await fetch(`${influx?.url}/api/v2/query?org=${org}`, {
    method: 'POST',
    headers: { authorization: `Token ${token}`, 'content-type': 'application/vnd.flux' },
    body: flux,
  })
  const text = await response.text()
  if (!response.ok || text.includes('#datatype,string,string\r\nerror')) throw new Error(text.slice(0, 500))
}

/** Deletes what a bucket holds of a measurement, as an operator may. */
export async function deletePoints(bucket: string, predicate: string): Promise<void> {
  const query = new URLSearchParams({ org, bucket })
  const answer = await fetch(`${influx?.url}/api/v2/delete?${query}`, {
    method: 'POST',
    headers: { authorization: `Token ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ start: '1970-01-01T00:00:00Z', stop: '2200-01-01T00:00:00Z', predicate }),
  })
  if (!answer.ok) throw new Error(await answer.text())
}

/** A token that may write to one bucket, and nothing else. */
export async function tokenFor(bucket: string): Promise<string> {
  const api = new AuthorizationsAPI(new InfluxDB({ url: influx?.url ?? '', token }))
  const [found] = await bucketsOf(bucket)
  const { orgs = [] } =
    (await new OrgsAPI(new InfluxDB({ url: influx?.url ?? '', token })).getOrgs({ org })) ?? {}
  const orgID = orgs[0]?.id ?? ''
  const resource = { type: 'buckets' as const, id: found?.id ?? '', orgID }
  const made = await api.postAuthorizations({ body: { orgID, permissions: [{ action: 'write', resource }] } })
  return made.token ?? ''
}
