// Where InfluxDB is and how it is used: the text of `--store`, and what the configuration adds to it.
import { PermanentError } from '../../../plugins/contract/errors.ts'
import { classes } from '../../../plugins/contract/signal.ts'
import type { Class } from '../../../plugins/contract/signal.ts'

export interface InfluxAddress {
  /** `http://host:port`, or `https://`. */
  url: string
  org: string
  bucket: string
}

/** `influxdb://host:port/org/bucket`; with `influxdbs://` TLS. @throws PermanentError CONFIG_INVALID */
export function parseInfluxAddress(text: string): InfluxAddress {
  const found = /^influxdb(s?):\/\/([^/?#@\s]+)\/([^/?#]+)\/([^/?#]+)\/?$/.exec(text)
  const [, tls = '', host = '', org = '', bucket = ''] = found ?? []
  if (!found || !URL.canParse(`http://${host}`)) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `--store ${text.replace(/\/\/[^/]*@/, '//[redacted]@')}: expected influxdb://host:port/org/bucket; the token stands in the configuration or in INFLUX_TOKEN`,
    )
  }
  return {
    url: `http${tls}://${host}`,
    org: decodeURIComponent(org),
    bucket: decodeURIComponent(bucket),
  }
}

export interface InfluxSettings extends InfluxAddress {
  /** Read anew for each connection, so that a rotated one is taken. */
  token: () => string
  retentionMs: Readonly<Record<Class, number>>
  /** How long what the tasks made of raw points is kept; 0 makes no tasks. */
  downsampledMs: number
  /** Distinct series of data points; points of others are rejected. */
  maxSeries: number
  /** Distinct `service.name` tags of logs; records of others carry none. */
  maxServices: number
  /** Attributes of the Resource that become tags of metrics, beside `host.id`. */
  tags: readonly string[]
  /** Longest time of one request that writes, and of one query. */
  writeTimeoutMs: number
  queryTimeoutMs: number
  /** Size of a body at which it is sent. */
  bodyBytes: number
}

const day = 86_400_000

export function influxSettings(
  given: Partial<InfluxSettings> & InfluxAddress & Pick<InfluxSettings, 'token'>,
): InfluxSettings {
  const retention = Object.fromEntries(classes.map((name) => [name, 7 * day])) as Record<Class, number>
  return {
    downsampledMs: 90 * day,
    maxSeries: 1_000_000,
    maxServices: 10_000,
    tags: ['host.name', 'service.name', 'dpu.site', 'dpu.rack', 'dpu.host', 'dpu.slot', 'dpu.tenant'],
    writeTimeoutMs: 60_000,
    queryTimeoutMs: 30_000,
    bodyBytes: 2 * 1024 * 1024,
    ...given,
    retentionMs: { ...retention, usage: 400 * day, ...given.retentionMs },
  }
}
