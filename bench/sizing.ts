// `npm run bench sizing`: what a record, a batch and a connection cost: the constants of deploy/sizing.ts.
//
// A made-up fleet publishes over MQTT to one aggregator, once in batches of 500 and once in small ones; CPU of each process
// from both gives its cost per batch and per record. With `--world servers` the aggregator works with the Mosquitto, Kafka
// and InfluxDB that MQTT_URL, KAFKA_BROKERS and INFLUX_URL name; SERVER_PIDS=mosquitto:1,kafka:2,influxd:3 names their
// processes and SERVER_FILES=kafka:DIR,influxd:DIR where they store. CPU is what counts: rates depend on the machine.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect as connectSocket } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import mqtt from 'mqtt'
import { ulid } from 'ulid'
import { openLogJournal } from '../aggregator/journal/log.ts'
import { compressSync } from '../plugins/protocols/compression.ts'
import { topics } from '../plugins/protocols/topics.ts'
import { batchOf } from './measure/batches.ts'
import type { Shape } from './measure/batches.ts'
import { cpuSeconds, peakBytes, printTable } from './measure/process.ts'

const { values } = parseArgs({
  options: {
    world: { type: 'string', default: 'embedded' },
    batches: { type: 'string', default: '20000' },
    records: { type: 'string', default: '1000000' },
    devices: { type: 'string', default: '2000' },
    // Fewer than a broker takes within a second from one address.
    connections: { type: 'string', default: '900' },
    offset: { type: 'string', default: '22000' },
  },
})
const portOffset = Number(values.offset)
const root = resolve(import.meta.dirname, '..')
const api = `http://127.0.0.1:${8600 + portOffset}`
const servers = values.world === 'servers'
const brokerUrl = servers ? needed('MQTT_URL') : `mqtt://127.0.0.1:${1883 + portOffset}`
const pids = pairsOf('SERVER_PIDS')
const folders = pairsOf('SERVER_FILES')

function needed(name: string): string {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

function pairsOf(name: string): Map<string, string> {
  const text = servers ? (process.env[name] ?? '') : ''
  return new Map(
    text
      .split(',')
      .filter((pair) => pair.includes(':'))
      .map((pair) => {
        const colon = pair.indexOf(':')
        return [pair.slice(0, colon), pair.slice(colon + 1)]
      }),
  )
}

async function answered<T>(ask: () => Promise<T | undefined>, seconds: number, what: string): Promise<T> {
  const until = performance.now() + seconds * 1000
  for (;;) {
    const answer = await ask().catch(() => undefined)
    if (answer !== undefined) return answer
    if (performance.now() > until) throw new Error(`${what} did not happen within ${seconds} s`)
    // Asking costs CPU of the one that is measured.
    await new Promise((resume) => setTimeout(resume, 250))
  }
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`${api}/metrics`)).text()
  return Number(new RegExp(`^dpulse_aggregator_${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)
}

/** An aggregator of its own, in topics and a bucket of its own. */
async function startAggregator(data: string): Promise<ChildProcess> {
  const name = `sizing-${ulid().toLowerCase()}`
  const file = join(data, 'aggregator.yaml')
  const quiet = "metrics: { interval: '0' }\n"
  const journal = `journal: { kafka: { prefix: '${name}.', group: '${name}' } }\n`
  writeFileSync(file, servers ? `${quiet}mqtt: { root: ${name} }\n${journal}` : quiet)
  const influx = servers ? new URL(needed('INFLUX_URL')) : undefined
  const parts = influx
    ? [
        '--broker',
        brokerUrl,
        '--journal',
        `kafka://${needed('KAFKA_BROKERS')}`,
        '--store',
        `influxdb://${influx.host}/${process.env.INFLUX_ORG ?? 'test'}/${name}`,
      ]
    : []
  const line = ['dpulse.ts', 'aggregator', '--config', file, '--data', data]
  topicRoot = servers ? name : 'dpulse'
  // Kafka may need a moment for topics that were just made, and then the program ends; a service would start it again.
  for (let attempt = 1; ; attempt++) {
    const child = spawn(process.execPath, [...line, '--port-offset', String(portOffset), ...parts], {
      cwd: root,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const isUp = async (): Promise<boolean | undefined> =>
      child.exitCode !== null ? false : (await fetch(`${api}/api/health`)).ok || undefined
    if (await answered(isUp, 120, 'aggregator up')) return child
    if (attempt === 5) throw new Error('the aggregator does not start')
  }
}
let topicRoot = 'dpulse'

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

interface Run {
  batches: number
  records: number
  /** CPU seconds by process, and what it used per millisecond before. */
  cpu: Map<string, number>
  idle: Map<string, number>
  peak: number
  files: Map<string, number>
}

/** Batches that the journal may not have taken yet. */
const window = 2000
const idleMs = 15_000

/** Publishes and waits for the store; what the processes use while idle is not counted. */
async function publish(shape: Shape, batches: number): Promise<Run> {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-sizing-'))
  const child = await startAggregator(data)
  const processes = new Map([['aggregator', child.pid ?? 0], ...numbers(pids)])
  try {
    const clients = await Promise.all(
      Array.from({ length: 4 }, () => mqtt.connectAsync(brokerUrl, { protocolVersion: 4 })),
    )
    const topic = topics(topicRoot)
    const cpuNow = (): Map<string, number> =>
      new Map([...processes].map(([name, pid]) => [name, cpuSeconds(pid)]))
    const idleBefore = cpuNow()
    await new Promise((resume) => setTimeout(resume, idleMs))
    const idle = new Map(
      [...cpuNow()].map(([name, at]) => [name, (at - (idleBefore.get(name) ?? 0)) / idleMs]),
    )
    const began = performance.now()
    const before = cpuNow()
    const filesBefore = sizes()
    for (let first = 0; first < batches; first += window) {
      const numbers = Array.from({ length: Math.min(window, batches - first) }, (_, index) => first + index)
      await Promise.all(
        numbers.map(async (number) => {
          const { bytes, header, signal } = batchOf(number, shape)
          await clients[number % clients.length]?.publishAsync(
            topic.telemetry(header.collector, header.class, signal),
            Buffer.from(compressSync(bytes, 'zstd')),
            { qos: 1 },
          )
        }),
      )
      const taken = first + numbers.length
      await answered(
        async () => ((await metric('ingest_batches_total')) >= taken ? true : undefined),
        120,
        'ingest',
      )
    }
    const records = batches * shape.perBatch
    await answered(
      async () => ((await metric('writer_records_total')) >= records ? true : undefined),
      600,
      'the store taking all',
    )
    const elapsedMs = performance.now() - began
    const cpu = new Map(
      [...cpuNow()].map(([name, at]) => [
        name,
        at - (before.get(name) ?? 0) - (idle.get(name) ?? 0) * elapsedMs,
      ]),
    )
    const peak = peakBytes(child.pid ?? 0)
    await Promise.all(clients.map((client) => client.endAsync()))
    if (folders.has('influxd')) await new Promise((resume) => setTimeout(resume, 20_000))
    const files = new Map([...sizes()].map(([name, bytes]) => [name, bytes - (filesBefore.get(name) ?? 0)]))
    return { batches, records, cpu, idle, peak, files }
  } finally {
    await stop(child)
    rmSync(data, { recursive: true, force: true })
  }
}

const numbers = (texts: Map<string, string>): [string, number][] =>
  [...texts].map(([name, text]) => [name, Number(text)])

/** What Kafka's segments and InfluxDB's files of values hold: their logs ahead of them and indexes are left out. */
function sizes(): Map<string, number> {
  const suffix = new Map([
    ['kafka', '.log'],
    ['influxd', '.tsm'],
  ])
  const sums = new Map<string, number>()
  for (const [name, folder] of folders) {
    let sum = 0
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      const isOurs = file.endsWith(suffix.get(name) ?? '') && (name !== 'kafka' || file.includes('otlp_'))
      if (isOurs) sum += statSync(join(folder, file), { throwIfNoEntry: false })?.size ?? 0
    }
    sums.set(name, sum)
  }
  return sums
}

/** Bytes of a record: bare (to Kafka, before its compression), on MQTT, in the embedded journal. */
async function bytesOf(shape: Shape, batches: number): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-sizing-'))
  const journal = await openLogJournal(folder)
  let bare = 0
  let packed = 0
  const empty = journal.bytes
  for (let first = 0; first < batches; first += 200) {
    const entries = Array.from({ length: Math.min(200, batches - first) }, (_, index) => {
      const { bytes, header } = batchOf(first + index, shape)
      const value = compressSync(bytes, 'zstd')
      bare += bytes.length
      packed += value.length
      const topic = shape.signal === 'logs' ? ('otlp_logs' as const) : ('otlp_metrics' as const)
      return { topic, class: header.class, key: header.device, value }
    })
    await journal.append(entries, [])
  }
  const kept = journal.bytes - empty
  await journal[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
  const records = batches * shape.perBatch
  return [bare, packed, kept].map((bytes) => (bytes / records).toFixed(1))
}

/** Resident memory of one idle MQTT connection. */
async function connectionBytes(): Promise<string> {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-sizing-'))
  const child = await startAggregator(data)
  const pid = servers ? Number(pids.get('mosquitto')) : (child.pid ?? 0)
  const resident = (): number =>
    Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024
  const before = resident()
  const count = Number(values.connections)
  const { hostname, port } = new URL(brokerUrl)
  const sockets: Socket[] = []
  for (let index = 0; index < count; index++) {
    const socket = connectSocket(Number(port), hostname)
    // The aggregator may end before our end has reached it.
    socket.on('error', () => undefined)
    const id = Buffer.from(`sizing-${index}`)
    const rest = Buffer.from([0, 4, 77, 81, 84, 84, 4, 2, 0, 0, 0, id.length])
    socket.write(Buffer.concat([Buffer.from([0x10, rest.length + id.length]), rest, id]))
    await once(socket, 'data')
    sockets.push(socket)
  }
  const bytes = (resident() - before) / count
  for (const socket of sockets) socket.destroy()
  await stop(child)
  rmSync(data, { recursive: true, force: true })
  return `one MQTT connection: ${(bytes / 1024).toFixed(1)} KiB of the ${servers ? 'Mosquitto' : 'aggregator'}, from ${count}`
}

// On a broker whose memory nothing has used before.
const connection = await connectionBytes()
// Kafka compiles itself while it works.
if (servers) await publish({ signal: 'logs', perBatch: 500, devices: 64, session: ulid() }, 400)
const session = ulid()
const devices = Number(values.devices)
const rows: string[][] = [['what', 'process', 'µs/batch', 'µs/record', 'idle ms/s', 'peak MB']]
const stored: string[][] = [['stored by', 'what', 'B/record, large batches', 'B/record, small batches']]
for (const [signal, small] of [
  ['logs', 1],
  ['metrics', 50],
] as const) {
  const smallShape = { signal, perBatch: small, devices, session }
  const largeShape = { signal, perBatch: 500, devices: signal === 'logs' ? 64 : 4, session: ulid() }
  const many = await publish(smallShape, Number(values.batches))
  const large = await publish(largeShape, Math.ceil(Number(values.records) / 500))
  for (const [name, seconds] of large.cpu) {
    // a batches + b records = CPU, twice.
    const other = many.cpu.get(name) ?? 0
    const perRecord =
      (seconds * many.batches - other * large.batches) /
      (large.records * many.batches - many.records * large.batches)
    const perBatch = (other - perRecord * many.records) / many.batches
    const peak = name === 'aggregator' ? (Math.max(many.peak, large.peak) / 1e6).toFixed(0) : ''
    const idle = ((large.idle.get(name) ?? 0) * 1e6).toFixed(0)
    rows.push([signal, name, (perBatch * 1e6).toFixed(0), (perRecord * 1e6).toFixed(2), idle, peak])
  }
  for (const [name, bytes] of large.files) {
    const per = (run: Run): string => ((run.files.get(name) ?? 0) / run.records).toFixed(1)
    stored.push([name, signal, (bytes / large.records).toFixed(1), per(many)])
  }
  if (!servers) {
    const [bareLarge = '', packedLarge = '', keptLarge = ''] = await bytesOf(largeShape, 400)
    const [bareSmall = '', packedSmall = '', keptSmall = ''] = await bytesOf(smallShape, 4000)
    stored.push(['bare', signal, bareLarge, bareSmall])
    stored.push(['MQTT payload, zstd', signal, packedLarge, packedSmall])
    stored.push(['embedded journal', signal, keptLarge, keptSmall])
  }
}
const where = servers ? 'Mosquitto, Kafka and InfluxDB' : 'all parts embedded'
process.stdout.write(`CPU, ${where}; small batches are of 1 line or 50 points, large ones of 500\n\n`)
printTable(rows)
process.stdout.write('\n')
printTable(stored)
process.stdout.write(`\n${connection}\n`)
