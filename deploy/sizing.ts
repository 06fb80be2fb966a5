// `node deploy/sizing.ts --devices 50000`: what a fleet needs, from what a batch, a record and a connection cost. The
// constants are those of bench/results/sizing.txt (`npm run bench sizing`); the two tables of README.md are this output.
import process from 'node:process'
import { parseArgs } from 'node:util'

/** What a fleet sends, as its collectors seal it: a batch holds what one class had to say within 100 ms. */
export interface Fleet {
  devices: number
  /** Log lines a second of one device. */
  lines: number
  /** Lines that come together, so that they share a batch. */
  burst: number
  /** Data points of one reading, of all classes. */
  points: number
  /** Batches of one reading: one for each class of metrics that it has. */
  classes: number
  /** Seconds between readings. */
  interval: number
  /** Days that the store keeps. */
  days: number
}

export const typical: Omit<Fleet, 'devices'> = {
  lines: 1,
  burst: 5,
  points: 300,
  classes: 3,
  interval: 15,
  days: 7,
}

/** CPU in microseconds, by batch and by record of it, and at rest in milliseconds a second. */
interface Cost {
  logs: readonly [perBatch: number, perRecord: number]
  points: readonly [perBatch: number, perRecord: number]
  rest: number
}

/** Bytes of a record; small batches pay more for each. */
interface Bytes {
  logs: number
  points: number
}

export const constants: Record<'embedded' | 'aggregator' | 'mosquitto' | 'kafka' | 'influxdb', Cost> &
  Record<'wire' | 'inJournal' | 'inKafka' | 'inInfluxdb' | 'inDuckdb', Bytes> & {
    /** Resident KiB of an idle MQTT connection. */
    connection: { embedded: number; mosquitto: number }
  } = {
  embedded: { logs: [226, 2.9], points: [376, 0.93], rest: 1 },
  aggregator: { logs: [195, 5.8], points: [492, 1.45], rest: 37 },
  mosquitto: { logs: [15, 0.05], points: [16, 0], rest: 1 },
  kafka: { logs: [21, 4.05], points: [153, 0], rest: 39 },
  influxdb: { logs: [65, 15.7], points: [0, 6], rest: 1 },
  // Of points that belong to a series already: its first one costs InfluxDB some 115 µs.
  /** On MQTT, compressed, in small batches. */
  wire: { logs: 358, points: 9.1 },
  inJournal: { logs: 403, points: 10 },
  inKafka: { logs: 60, points: 2.4 },
  inInfluxdb: { logs: 60, points: 24 },
  inDuckdb: { logs: 29.5, points: 0.56 },
  connection: { embedded: 66, mosquitto: 0.73 },
}

/** Of a core, as much as a process is given work for: the rest is for peaks, restarts and what comes back after an outage. */
const load = 0.5
const journalDays = 3
const replicas = 3
/** As many aggregators as may ever share the work, twice over. */
const partitionsPerAggregator = 4

export interface Need {
  batches: number
  records: number
  /** Bytes a second from the collectors. */
  network: number
  single: { cores: number; isEnough: boolean; memoryMiB: number; journal: number; store: number }
  fleet: {
    brokerCores: number
    brokerMemoryMiB: number
    aggregators: number
    partitions: number
    kafkaCores: number
    kafkaBytes: number
    influxdbCores: number
    influxdbBytes: number
  }
}

/** Each record of the embedded set lies in the journal until it is stored, and the journal keeps no more than this. */
const journalSeconds = 3600

export function needOf(fleet: Fleet): Need {
  const logs = fleet.devices * fleet.lines
  const points = (fleet.devices * fleet.points) / fleet.interval
  const logBatches = logs / fleet.burst
  const pointBatches = (fleet.devices * fleet.classes) / fleet.interval
  const cores = ({ logs: [logBatch, log], points: [pointBatch, point], rest }: Cost): number =>
    (logBatches * logBatch + logs * log + pointBatches * pointBatch + points * point) / 1e6 + rest / 1000
  const bytes = (each: Bytes): number => logs * each.logs + points * each.points
  const stored = (each: Bytes): number => bytes(each) * fleet.days * 86_400
  const {
    embedded,
    aggregator,
    mosquitto,
    kafka,
    influxdb,
    wire,
    inJournal,
    inKafka,
    inInfluxdb,
    inDuckdb,
    connection,
  } = constants
  const aggregators = Math.max(2, Math.ceil(cores(aggregator) / load))
  return {
    batches: logBatches + pointBatches,
    records: logs + points,
    network: bytes(wire),
    single: {
      cores: cores(embedded),
      isEnough: cores(embedded) <= load,
      memoryMiB: 1024 + (fleet.devices * connection.embedded) / 1024,
      journal: bytes(inJournal) * journalSeconds,
      store: stored(inDuckdb),
    },
    fleet: {
      brokerCores: cores(mosquitto) / load,
      brokerMemoryMiB: 64 + (fleet.devices * connection.mosquitto) / 1024,
      aggregators,
      partitions: Math.max(12, 12 * Math.ceil((aggregators * partitionsPerAggregator) / 12)),
      // Each replica writes what its leader took.
      kafkaCores: (cores(kafka) * replicas) / load,
      kafkaBytes: bytes(inKafka) * journalDays * 86_400 * replicas,
      influxdbCores: cores(influxdb) / load,
      influxdbBytes: stored(inInfluxdb),
    },
  }
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
function amount(bytes: number): string {
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bytes)) / 3)))
  const value = bytes / 1000 ** power
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`
}
const whole = (value: number): string => Math.round(value).toLocaleString('en')
const few = (value: number): string => (value < 10 ? value.toFixed(1) : whole(value))

/** A table in Markdown. */
export function sizingTable(fleet: Fleet): string {
  const { batches, records, network, single, fleet: many } = needOf(fleet)
  const rows: [string, string][] = [
    ['DPUs', whole(fleet.devices)],
    ['batches, records a second', `${whole(batches)}, ${whole(records)}`],
    ['network into the broker', `${amount(network)}/s`],
  ]
  if (single.isEnough) {
    rows.push(
      ['**one aggregator, all parts embedded**', `${few(single.cores * 100)} % of a core; give it 2`],
      ['its memory', `${few(single.memoryMiB / 1024)} GiB`],
      ['its journal, an hour of store outage', amount(single.journal)],
      [`its store, ${fleet.days} days`, amount(single.store)],
    )
  } else {
    rows.push(
      ['**brokers**', `${few(many.brokerCores)} cores, ${few(many.brokerMemoryMiB / 1024)} GiB`],
      ['**aggregators**, a core and 1.5 GiB each', whole(many.aggregators)],
      ['partitions', whole(many.partitions)],
      [
        '**Kafka**, three copies',
        `${few(many.kafkaCores)} cores, ${amount(many.kafkaBytes)} for ${journalDays} days`,
      ],
      [
        '**InfluxDB**',
        `${few(many.influxdbCores)} cores, ${amount(many.influxdbBytes)} for ${fleet.days} days`,
      ],
    )
  }
  const width = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = ([name, value]: readonly [string, string]): string =>
    `| ${name.padEnd(width[0] ?? 0)} | ${value.padEnd(width[1] ?? 0)} |`
  const [head, ...rest] = rows
  if (!head) return ''
  return [
    line(head),
    `| ${'-'.repeat(width[0] ?? 0)} | ${'-'.repeat(width[1] ?? 0)} |`,
    ...rest.map(line),
  ].join('\n')
}

function main(): void {
  const number = (fallback: number) => ({ type: 'string', default: String(fallback) }) as const
  const { values } = parseArgs({
    options: {
      devices: number(50),
      lines: number(typical.lines),
      burst: number(typical.burst),
      points: number(typical.points),
      classes: number(typical.classes),
      interval: number(typical.interval),
      days: number(typical.days),
    },
  })
  const given = Object.entries(values).map(([name, text]): [string, number] => {
    const value = Number(text)
    if (!Number.isFinite(value) || value <= 0) throw new Error(`--${name} ${text}: expected a number above 0`)
    return [name, value]
  })
  process.stdout.write(`${sizingTable(Object.fromEntries(given) as unknown as Fleet)}\n`)
}

if (import.meta.main) main()
