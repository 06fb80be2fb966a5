// `npm run bench servers`: OTLP → MQTT → Kafka → InfluxDB on real servers, CPU per record beside Telegraf and otelcol.
//
// Servers and programs share the machine; compared is the CPU time of each program (user and system, all threads), which
// hardly depends on who else is busy. The same distinct records go through all of them in turns, several rounds after a
// warm-up; the table has medians. Guarantees are equal: QoS 1, acks=all, idempotent producers, nothing acknowledged before
// the next hop has it. What each has stored is counted at the end; the peers' settings are in peers/, with the reasons.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import kafkajs from 'kafkajs'
import { ulid } from 'ulid'
import '../plugins/protocols/kafka/tuning.ts'
import { createInflux } from './measure/influx.ts'
import { createHalves, createWhole } from './measure/ours.ts'
import { createOtelcol, createTelegraf } from './measure/peers.ts'
import { printTable } from './measure/process.ts'
import { bringUp } from './measure/real.ts'
import type { Path, Servers } from './measure/real.ts'
import { perRequest } from './measure/traffic.ts'
import type { Kind } from './measure/traffic.ts'

const { values } = parseArgs({
  options: {
    records: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '3' },
    warm: { type: 'string', default: '500000' },
    offset: { type: 'string', default: '20600' },
    only: { type: 'string', default: 'whole,halves,telegraf,otelcol' },
  },
})
const requestsOf = (records: string): number => Math.ceil(Number(records) / perRequest)
const kinds: readonly Kind[] = ['logs', 'points']
const only = values.only.split(',')

/** CPU µs a record of each round, by program and kind. */
class Costs {
  readonly #all = new Map<string, Record<Kind, number[]>>()

  add(program: string, kind: Kind, cost: number): void {
    let own = this.#all.get(program)
    if (!own) this.#all.set(program, (own = { logs: [], points: [] }))
    own[kind].push(cost)
  }

  programs(): string[] {
    return [...this.#all.keys()]
  }

  /** Median; of several programs their sum. */
  of(kind: Kind, ...programs: readonly string[]): number {
    return programs.reduce((sum, program) => {
      const sorted = this.#all.get(program)?.[kind].toSorted((one, other) => one - other) ?? []
      return sum + (sorted[sorted.length >> 1] ?? Number.NaN)
    }, 0)
  }
}

async function removeTopics(servers: Servers, prefix: string): Promise<void> {
  const kafka = new kafkajs.Kafka({ brokers: [servers.kafka], logLevel: kafkajs.logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(prefix))
  if (topics.length > 0) await admin.deleteTopics({ topics })
  await admin.disconnect()
}

async function measure(paths: readonly Path[], base: bigint): Promise<Costs> {
  const costs = new Costs()
  const next: Record<Kind, number> = { logs: 0, points: 0 }
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const kind of kinds) {
      const from = next[kind]
      const to = (next[kind] = from + requestsOf(round === 0 ? values.warm : values.records))
      const records = (to - from) * perRequest
      for (const path of paths) {
        const began = performance.now()
        const used = await path.run(kind, base, { from, to })
        const rate = Math.round((records * 1000) / (performance.now() - began)).toLocaleString('en')
        const parts = used.map(({ program, seconds }) => {
          const cost = (seconds / records) * 1e6
          if (round > 0) costs.add(program, kind, cost)
          return `${program} ${cost.toFixed(2)}`
        })
        process.stderr.write(`round ${round}, ${kind}: ${parts.join('; ')} µs; ${rate} records/s\n`)
      }
    }
  }
  return costs
}

function printCosts(costs: Costs): void {
  const row = (name: string, logs: number, points: number): string[] => [
    name,
    logs.toFixed(2),
    points.toFixed(2),
    Math.round(1e6 / logs).toLocaleString('en'),
    Math.round(1e6 / points).toLocaleString('en'),
  ]
  printTable([
    ['program', 'CPU µs/log', 'CPU µs/point', 'logs/CPU s', 'points/CPU s'],
    ...costs
      .programs()
      .map((program) => row(program, costs.of('logs', program), costs.of('points', program))),
  ])
  process.stdout.write('\n')
  const compare = (hops: string, ours: string, theirs: readonly string[]): void => {
    const ratios = kinds.map((kind) => costs.of(kind, ...theirs) / costs.of(kind, ours))
    if (ratios.some((ratio) => !Number.isFinite(ratio))) return
    const [logs = 0, points = 0] = ratios.map((ratio) => ratio.toFixed(2))
    process.stdout.write(
      `${hops}: ${logs} times the peer's logs, ${points} times its points per CPU second\n`,
    )
  }
  const [toKafka, toStore] = ['telegraf, MQTT → Kafka', 'telegraf, Kafka → InfluxDB']
  compare('MQTT → Kafka → InfluxDB, Telegraf', 'aggregator', [toKafka, toStore])
  compare('Kafka → InfluxDB, Telegraf', 'aggregator, Kafka → InfluxDB', [toStore])
  compare('OTLP → Kafka, OpenTelemetry Collector', 'aggregator, OTLP → Kafka', ['otelcol, OTLP → Kafka'])
}

async function main(): Promise<void> {
  await using stack = new AsyncDisposableStack()
  const servers = bringUp()
  stack.defer(() => servers.down())
  const name = `bench-${ulid().toLowerCase()}`
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-servers-'))
  stack.defer(() => rmSync(directory, { recursive: true, force: true }))
  stack.defer(() => removeTopics(servers, name))
  const influx = createInflux(servers)
  stack.defer(() => influx.removeBuckets(name))
  const setting = { servers, name, directory, portOffset: Number(values.offset) }
  const paths: Path[] = []
  if (only.includes('whole')) paths.push(await createWhole(setting, stack))
  if (only.includes('halves')) paths.push(await createHalves(setting, stack))
  for (const peer of [
    only.includes('telegraf') ? await createTelegraf(setting, influx, stack) : undefined,
    only.includes('otelcol') ? await createOtelcol(setting, stack) : undefined,
  ]) {
    if (peer) paths.push(peer)
  }
  const base = (BigInt(Math.floor(Date.now() / 1000)) - 3600n) * 1_000_000_000n
  const costs = await measure(paths, base)
  printCosts(costs)
  process.stdout.write('\n')
  for (const path of paths) process.stdout.write(`${await path.check(base)}\n`)
  if (!paths.some((path) => path.name.startsWith('Telegraf'))) process.stdout.write('Telegraf is not here\n')
}

await main()
