// Opens the store that options and configuration name. InfluxDB's client is loaded only where it is used.
import { join } from 'node:path'
import type { Log } from '../../plugins/contract/define.ts'
import { PermanentError } from '../../plugins/contract/errors.ts'
import type { Secret } from '../../plugins/contract/settings.ts'
import type { AggregatorConfig } from '../config.ts'
import { openDuckStore } from './duckdb.ts'
import type { Store } from './store.ts'

export interface StoreChoice {
  /** `embedded` or `influxdb://host:port/org/bucket`. */
  option: string
  config: AggregatorConfig['store']
  /** The aggregator's directory, and how much of it is the store's. */
  directory: string
  maxBytes: number
  log: Log
  /** The store cannot go on; whoever keeps this program running starts it anew. */
  onEnd: (error: Error) => void
}

/** @throws PermanentError CONFIG_INVALID, CREDENTIAL_MISSING, or what the embedded store throws. */
export async function openStore(choice: StoreChoice): Promise<Store> {
  const { option, config, log } = choice
  const { influxdb } = config
  if (option === 'embedded' && influxdb.url === undefined) {
    return openDuckStore(join(choice.directory, 'store'), {
      maxBytes: choice.maxBytes,
      memoryBytes: config.memory,
      segmentRows: config.segment_rows,
      retentionMs: config.retention,
      log,
      onEnd: choice.onEnd,
    })
  }
  const { parseInfluxAddress } = await import('./influx/address.ts')
  const { openInfluxStore } = await import('./influx/influxdb.ts')
  const address =
    option === 'embedded'
      ? { url: influxdb.url ?? '', org: influxdb.org, bucket: influxdb.bucket }
      : parseInfluxAddress(option)
  return openInfluxStore({
    ...address,
    token: () => tokenOf(influxdb.token),
    retentionMs: config.retention,
    downsampledMs: influxdb.downsampled,
    maxSeries: influxdb.max_series,
    maxServices: influxdb.max_services,
    tags: influxdb.tags,
    log,
  })
}

function tokenOf(configured: Secret | undefined): string {
  if (!configured) return tokenOfEnvironment()
  try {
    return configured.reveal()
  } catch (cause) {
    throw new PermanentError('CREDENTIAL_MISSING', 'store.influxdb.token', { cause })
  }
}

function tokenOfEnvironment(): string {
  const token = process.env.INFLUX_TOKEN
  if (token !== undefined && token !== '') return token
  throw new PermanentError(
    'CREDENTIAL_MISSING',
    'InfluxDB needs a token: store.influxdb.token of the configuration, or the environment variable INFLUX_TOKEN',
  )
}
