// Buckets by how long their classes are kept: `<bucket>` holds what dashboards show, `<bucket>-error`, `-event` and
// `-usage` what is kept longer, `<bucket>-5m` what the tasks make of raw points. They are made where they are missing.
// Where InfluxDB manages none (1.8 and 3 behind their v2 write API, or a token that may not), all goes to `<bucket>`.
import { HttpError } from '@influxdata/influxdb-client'
import { BucketsAPI, OrgsAPI } from '@influxdata/influxdb-client-apis'
import type { Bucket } from '@influxdata/influxdb-client-apis'
import type { Log } from '../../../plugins/contract/define.ts'
import { classes } from '../../../plugins/contract/signal.ts'
import type { Class } from '../../../plugins/contract/signal.ts'
import type { InfluxSettings } from './address.ts'
import type { Connection } from './connection.ts'
import { quotedName } from './connection.ts'

const suffixOf: Readonly<Record<Class, string>> = {
  event: '-event',
  usage: '-usage',
  error: '-error',
  capability: '-event',
  environment: '',
  resource: '',
  log_error: '-error',
  log: '',
}

/** Marks the buckets that are ours: of others no retention is changed, since that deletes data. */
const mark = 'dpulse'
const leastRetentionMs = 3_600_000

export interface Buckets {
  /** Whether there is a bucket for each retention, and tasks can be made. */
  readonly managed: boolean
  /** Id of the organisation, where `managed`. */
  readonly orgId: string
  /** The bucket that takes a class. */
  of(name: Class): string
  /** How long a bucket keeps its points; Infinity for ever. */
  keepsMs(bucket: string): number
  /** All that hold raw records. */
  readonly raw: readonly string[]
  readonly downsampled: string
}

/** `FROM` of InfluxQL: one measurement in all buckets that hold raw records. */
export const everywhere = (buckets: Buckets, measurement: string): string =>
  buckets.raw.map((bucket) => `${quotedName(bucket)}..${quotedName(measurement)}`).join(', ')

/** Finds the buckets or makes them. @throws RetryableError where InfluxDB is away. */
export async function prepareBuckets(connection: Connection, log: Log): Promise<Buckets> {
  const { settings } = connection
  const wanted = wantedBuckets(settings)
  try {
    const orgId = await orgOf(connection)
    const keeps = new Map<string, number>()
    for (const [name, retentionMs] of wanted) {
      keeps.set(name, await prepareBucket(connection, orgId, name, retentionMs, log))
    }
    return bucketsOf(settings.bucket, { managed: true, orgId, keeps })
  } catch (error) {
    if (!isUnmanaged(error)) throw connection.failure(error, 'InfluxDB does not tell its buckets')
    log.warn('InfluxDB manages no buckets for us: all classes go to one, with its retention', {
      bucket: settings.bucket,
      status: error.statusCode,
      reason: error.message.slice(0, 200),
    })
    return bucketsOf(settings.bucket, { managed: false, orgId: '', keeps: new Map() })
  }
}

/** There is no such part of the API, or the token may not use it; one that is wrong altogether is another matter. */
function isUnmanaged(error: unknown): error is HttpError {
  if (!(error instanceof HttpError)) return false
  if (error.statusCode === 401) return error.message.includes('is unauthorized')
  // Only InfluxDB 2 knows organisations: the configuration names one that it has not.
  if (error.statusCode === 404 && /organization name .+ not found/.test(error.message)) return false
  return [400, 403, 404, 405, 410, 501].includes(error.statusCode)
}

function wantedBuckets({ bucket, retentionMs, downsampledMs }: InfluxSettings): Map<string, number> {
  const wanted = new Map<string, number>()
  for (const name of classes) {
    const full = bucket + suffixOf[name]
    wanted.set(full, Math.max(wanted.get(full) ?? leastRetentionMs, retentionMs[name]))
  }
  if (downsampledMs > 0) wanted.set(`${bucket}-5m`, Math.max(leastRetentionMs, downsampledMs))
  return wanted
}

function bucketsOf(
  bucket: string,
  { managed, orgId, keeps }: { managed: boolean; orgId: string; keeps: ReadonlyMap<string, number> },
): Buckets {
  const of = (name: Class): string => (managed ? bucket + suffixOf[name] : bucket)
  return {
    managed,
    orgId,
    of,
    keepsMs: (name) => keeps.get(name) ?? Infinity,
    raw: [...new Set(classes.map(of))],
    downsampled: `${bucket}-5m`,
  }
}

async function orgOf({ influx, settings }: Connection): Promise<string> {
  const { orgs = [] } = (await new OrgsAPI(influx).getOrgs({ org: settings.org })) ?? {}
  const id = orgs.find(({ name }) => name === settings.org)?.id
  if (id !== undefined) return id
  throw new HttpError(404, 'Not Found', undefined, undefined, undefined, `no organisation '${settings.org}'`)
}

/** How long the bucket keeps what it holds, once it is there. */
async function prepareBucket(
  connection: Connection,
  orgID: string,
  name: string,
  retentionMs: number,
  log: Log,
): Promise<number> {
  const api = new BucketsAPI(connection.influx)
  const everySeconds = Math.ceil(retentionMs / 1000)
  let found = await findBucket(api, orgID, name)
  if (!found) {
    const body = {
      orgID,
      name,
      description: `${mark}: made by its aggregator; retention follows its configuration`,
      retentionRules: [{ type: 'expire' as const, everySeconds }],
    }
    try {
      await api.postBuckets({ body })
      log.info('bucket made', { bucket: name, retentionSeconds: everySeconds })
      return everySeconds * 1000
    } catch (error) {
      // Another aggregator that starts at the same time may have been first.
      found = await findBucket(api, orgID, name)
      if (!found) throw error
    }
  }
  const current = found.retentionRules[0]?.everySeconds ?? 0
  const keepsMs = current === 0 ? Infinity : current * 1000
  if (current === everySeconds || found.id === undefined) return keepsMs
  if (found.description?.startsWith(mark) !== true) {
    log.warn('a bucket that was there before keeps its own retention', {
      bucket: name,
      retentionSeconds: current,
      wantedSeconds: everySeconds,
    })
    return keepsMs
  }
  const rules = [{ type: 'expire' as const, everySeconds }]
  await api.patchBucketsID({ bucketID: found.id, body: { retentionRules: rules } })
  log.info('retention of a bucket changed', { bucket: name, from: current, to: everySeconds })
  return everySeconds * 1000
}

async function findBucket(api: BucketsAPI, orgID: string, name: string): Promise<Bucket | undefined> {
  try {
    const { buckets = [] } = (await api.getBuckets({ orgID, name })) ?? {}
    return buckets.find((bucket) => bucket.name === name)
  } catch (error) {
    // Asked for one that is not there by name, it says 404.
    if (error instanceof HttpError && error.statusCode === 404 && error.message.includes('not found'))
      return undefined
    throw error
  }
}
