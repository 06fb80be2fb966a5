// Our side of `bench servers`: the whole path with a collector and an aggregator, and an aggregator alone between OTLP
// and Kafka, with InfluxDB shut off meanwhile so that the two halves of its work are told apart.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { openGate } from './gate.ts'
import { answered, startProgram } from './real.ts'
import type { Path, Running, Setting } from './real.ts'
import { bodyOf, devices, logTimeOf, perRequest, postRequests } from './traffic.ts'

interface Ledger {
  balanced: boolean
  streams: { device: string; class: string; stored: number }[]
}

/** Started with a data directory and a namespace of its own. */
class Aggregator {
  readonly program: Running
  readonly api: string
  readonly otlpPort: number

  constructor({ servers, name, directory }: Setting, part: string, portOffset: number, store: URL) {
    const data = join(directory, part)
    mkdirSync(data)
    const file = join(data, 'aggregator.yaml')
    const kafka = { prefix: `${name}-${part}.`, group: `${name}-${part}`, brokers: [servers.kafka] }
    const parts = {
      mqtt: { root: `${name}-${part}`, external: { urls: [servers.mqtt] } },
      journal: { kafka },
      store: { influxdb: { url: store.origin, org: servers.org, bucket: `${name}-${part}` } },
    }
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(parts))
    this.api = `http://127.0.0.1:${8600 + portOffset}`
    this.otlpPort = 4328 + portOffset
    this.program = startProgram(
      'aggregator',
      process.execPath,
      ['dpulse.ts', 'aggregator', '--data', data, '--port-offset', String(portOffset), '--config', file],
      { INFLUX_TOKEN: servers.token },
    )
  }

  async json(path: string): Promise<unknown> {
    const answer = await fetch(this.api + path)
    if (!answer.ok)
      throw new Error(`${path} answers ${answer.status}: ${(await answer.text()).slice(0, 300)}`)
    return answer.json()
  }

  ready(): Promise<true> {
    const isUp = async () => (await fetch(`${this.api}/api/health`)).ok || undefined
    return answered(isUp, 60, 'the start of an aggregator')
  }

  /** Records of our devices that the ledger counts in the store. */
  async stored(): Promise<number> {
    const { streams } = (await this.json('/api/ledger')) as Ledger
    return streams
      .filter(({ device }) => device.startsWith('dpu-'))
      .reduce((sum, { stored }) => sum + stored, 0)
  }

  async hasStored(records: number): Promise<void> {
    const isThere = async () => (await this.stored()) >= records || undefined
    // Seldom: what it is asked is part of what it costs.
    await answered(isThere, 300, `storing ${records} records`, 500)
  }

  async isBalanced(): Promise<boolean> {
    const isSo = async () => ((await this.json('/api/ledger')) as Ledger).balanced || undefined
    return answered(isSo, 10, 'a balanced ledger').catch(() => false)
  }

  /** Of `samples` lines, spread over all, those that are there once and as they were sent. */
  async linesEqual(base: bigint, lines: number, samples: number): Promise<number> {
    let equal = 0
    for (let sample = 0; sample < samples; sample++) {
      const n = Math.floor((sample * lines) / samples)
      const since = timeText(logTimeOf(base, n))
      const until = timeText(logTimeOf(base, n + 1))
      const page = (await this.json(`/api/logs?since=${since}&until=${until}&limit=5`)) as {
        records: { body: string; device: string }[]
      }
      const [record] = page.records
      const device = `dpu-${Math.floor(n / perRequest) % devices}`
      if (page.records.length === 1 && record?.body === bodyOf(n) && record.device === device) equal++
    }
    return equal
  }
}

const timeText = (time: bigint): string =>
  `${new Date(Number(time / 1_000_000_000n) * 1000).toISOString().slice(0, 19)}.${String(time % 1_000_000_000n).padStart(9, '0')}Z`

function startCollector({ servers, name, directory }: Setting, part: string, portOffset: number): Running {
  const data = join(directory, `${part}-collector`)
  mkdirSync(data)
  const file = join(data, 'collector.yaml')
  const parts = {
    sources: { programs: { type: 'otlp', grpc: false } },
    exporters: { fleet: { type: 'mqtt', urls: [servers.mqtt], root: `${name}-${part}` } },
    pipelines: { all: { sources: ['programs'], exporters: ['fleet'] } },
  }
  writeFileSync(file, JSON.stringify(parts))
  return startProgram('collector', process.execPath, [
    'dpulse.ts',
    'collector',
    '--data',
    data,
    '--port-offset',
    String(portOffset),
    '--config',
    file,
  ])
}

/** What programs used while `work` ran. */
export async function measured(
  programs: readonly Running[],
  work: () => Promise<void>,
): Promise<{ program: string; seconds: number }[]> {
  const before = programs.map((program) => program.cpu())
  await work()
  return programs.map((program, index) => ({
    program: program.name,
    seconds: program.cpu() - (before[index] ?? 0),
  }))
}

/** OTLP → collector → MQTT → aggregator → Kafka → InfluxDB. */
export async function createWhole(setting: Setting, stack: AsyncDisposableStack): Promise<Path> {
  const { servers, portOffset } = setting
  const aggregator = new Aggregator(setting, 'whole', portOffset, servers.influx)
  stack.defer(() => aggregator.program.stop())
  await aggregator.ready()
  const collector = startCollector(setting, 'whole', portOffset)
  stack.defer(() => collector.stop())
  const port = 4318 + portOffset
  await answered(async () => (await fetch(`http://127.0.0.1:${port}/`)) && true, 30, 'the collector')
  let sent = 0
  let lines = 0
  return {
    name: 'dpulse: OTLP → MQTT → Kafka → InfluxDB',
    run: (kind, base, range) =>
      measured([collector, aggregator.program], async () => {
        const records = (range.to - range.from) * perRequest
        sent += records
        if (kind === 'logs') lines += records
        await postRequests(port, kind, base, range)
        await aggregator.hasStored(sent)
      }),
    async check(base) {
      const balanced = (await aggregator.isBalanced()) ? 'balanced' : 'NOT BALANCED'
      const equal = await aggregator.linesEqual(base, lines, 300)
      return `dpulse: ledger ${balanced}, ${await aggregator.stored()} of ${sent} records stored, ${equal} of 300 lines equal what was sent`
    },
  }
}

/** OTLP → aggregator → Kafka, then Kafka → the same aggregator → InfluxDB. */
export async function createHalves(setting: Setting, stack: AsyncDisposableStack): Promise<Path> {
  const { servers, portOffset } = setting
  const gate = await openGate(servers.influx)
  stack.use(gate)
  const aggregator = new Aggregator(
    setting,
    'halves',
    portOffset + 100,
    new URL(`http://127.0.0.1:${gate.port}`),
  )
  stack.defer(() => aggregator.program.stop())
  await aggregator.ready()
  let sent = 0
  /** Log records a second, from the first request to the answer of the last: Kafka has them all then. */
  const rates: number[] = []
  return {
    name: 'dpulse, in halves',
    async run(kind, base, range) {
      const records = (range.to - range.from) * perRequest
      sent += records
      gate.shut()
      const began = performance.now()
      const [toKafka] = await measured([aggregator.program], () =>
        postRequests(aggregator.otlpPort, kind, base, range),
      )
      if (kind === 'logs') rates.push((records * 1000) / (performance.now() - began))
      const [toStore] = await measured([aggregator.program], async () => {
        gate.open()
        await aggregator.hasStored(sent)
      })
      return [
        { program: 'aggregator, OTLP → Kafka', seconds: toKafka?.seconds ?? 0 },
        { program: 'aggregator, Kafka → InfluxDB', seconds: toStore?.seconds ?? 0 },
      ]
    },
    async check() {
      const balanced = (await aggregator.isBalanced()) ? 'balanced' : 'NOT BALANCED'
      const median = rates.slice(1).toSorted((one, other) => one - other)[(rates.length - 1) >> 1] ?? 0
      const rate = Math.round(median).toLocaleString('en')
      return `dpulse, in halves: ledger ${balanced}, ${await aggregator.stored()} of ${sent} records stored; ${rate} log records/s durable in Kafka through one aggregator`
    },
  }
}
