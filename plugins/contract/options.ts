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
  /** Virtual devices to start beside the programs, as `SimulateOptions` has them. */
  simulate?: FleetSize
}

/** How many virtual devices of all kinds, or how many of which kind. */
export type FleetSize = number | ReadonlyMap<string, number>

/** What the command line gives to the simulator; times in milliseconds. */
export interface SimulateOptions {
  readonly devices: FleetSize
  readonly seed: number
  /** Simulated seconds in a second; into a file it is as fast as the machine allows. */
  readonly speed: number
  /** Simulated time between readings. */
  readonly interval: number
  /** Which faults; none where empty. */
  readonly faults: string
  /** Of simulated time; for ever where absent. */
  readonly duration?: number
  /** Unix time at which the run begins. */
  readonly start?: number
  /** Where the devices send; the MQTT port of this machine where absent. */
  readonly to?: string
  /** File that tells which faults there were. */
  readonly truth?: string
  /** Where each device has a buffer on disk. */
  readonly data?: string
  /** First port of the BMCs; there are none where absent. */
  readonly bmc?: number
  /** Added to every default port. */
  readonly portOffset: number
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
