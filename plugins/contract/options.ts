// What the command line gives to the programs: one type for collector, aggregator and the parent of both,
// and the defaults that DESIGN §8 and §9 fix (where data lives, which port is whose).
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

export interface ProgramOptions {
  /** YAML file; absent means the embedded defaults. */
  config?: string
  /** Absolute path of the data directory. */
  data: string
  /** Most bytes that dpulse may occupy in `data`. */
  maxDisk?: number
  /** Added to every default port. */
  portOffset: number
  /** `embedded` or `mqtt://host:port`. */
  broker: string
  /** `embedded` or `kafka://host:port,…`. */
  journal: string
  /** `embedded` or `influxdb://host:port/org/bucket`. */
  store: string
}

/** Default ports, before `--port-offset`. */
export const ports = {
  api: 8600,
  collectorApi: 8601,
  mqtt: 1883,
  collectorMqtt: 1884,
  collectorOtlpGrpc: 4317,
  collectorOtlpHttp: 4318,
  aggregatorOtlpGrpc: 4327,
  aggregatorOtlpHttp: 4328,
  syslog: 5514,
  syslogTls: 6514,
  fluent: 24224,
  statsd: 8125,
  influx: 8186,
  prometheus: 9464,
} as const

/** `--data DIR`, else `$DPULSE_DATA`, else `~/.local/share/dpulse`. */
export function dataDirectory(option: string | undefined, environment: NodeJS.ProcessEnv): string {
  const chosen = option ?? environment.DPULSE_DATA
  if (chosen !== undefined && chosen !== '') return resolve(chosen)
  return join(homedir(), '.local', 'share', 'dpulse')
}
