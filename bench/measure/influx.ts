// What `bench servers` asks of InfluxDB itself: buckets for peers, how many records are there, and an end to all of it.
import { InfluxDB } from '@influxdata/influxdb-client'
import { BucketsAPI, OrgsAPI, TasksAPI } from '@influxdata/influxdb-client-apis'
import type { Servers } from './real.ts'
import type { Kind } from './traffic.ts'

export interface Influx {
  makeBucket(name: string): Promise<void>
  /** Records of a kind in a bucket, of whatever time. */
  count(bucket: string, kind: Kind): Promise<number>
  /** All whose names begin so, and the tasks that fill them. */
  removeBuckets(prefix: string): Promise<void>
}

const fields: Readonly<Record<Kind, string>> = {
  logs: `r._measurement == "logs" and r._field == "body"`,
  points: `r._field == "gauge" or r._field == "counter_int"`,
}

export function createInflux({ influx: url, org, token }: Servers): Influx {
  const client = new InfluxDB({ url: url.origin, token, timeout: 60_000 })
  const api = new BucketsAPI(client)
  return {
    async makeBucket(name) {
      const { orgs } = await new OrgsAPI(client).getOrgs({ org })
      const orgID = orgs?.[0]?.id
      if (orgID === undefined) throw new Error(`InfluxDB has no organisation ${org}`)
      await api.postBuckets({ body: { name, orgID, retentionRules: [] } })
    },
    async count(bucket, kind) {
      const rows = await client
        .getQueryApi(org)
        .collectRows<{ _value: number }>(
          `from(bucket: "${bucket}") |> range(start: -1d, stop: 1d) |> filter(fn: (r) => ${fields[kind]}) |> count() |> group() |> sum()`,
        )
      return rows.reduce((sum, { _value }) => sum + _value, 0)
    },
    async removeBuckets(prefix) {
      const tasks = new TasksAPI(client)
      const { tasks: some = [] } = await tasks.getTasks({ limit: 500 })
      for (const { id, flux } of some) if (flux?.includes(prefix)) await tasks.deleteTasksID({ taskID: id })
      const { buckets = [] } = await api.getBuckets({ org, limit: 100 })
      for (const { id, name } of buckets) {
        if (id !== undefined && name.startsWith(prefix)) await api.deleteBucketsID({ bucketID: id })
      }
    },
  }
}
