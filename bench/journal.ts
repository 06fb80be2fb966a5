// `npm run bench journal`: log records made durable in Kafka through the journal of one aggregator, and read back.
//
// KAFKA_BROKERS names the cluster. Batches of 500 distinct log lines from 64 devices, as collectors seal them; every one
// is acknowledged by all in-sync replicas before it counts.
import process from 'node:process'
import { parseArgs } from 'node:util'
import kafkajs from 'kafkajs'
import { ulid } from 'ulid'
import { openKafkaJournal } from '../aggregator/journal/kafka.ts'
import type { AppendEntry, Position } from '../aggregator/journal/journal.ts'
import { systemClock } from '../collector/clock.ts'
import { Logger } from '../collector/logger.ts'
import { sealBatch } from '../plugins/contract/batch.ts'
import { LogsEncoder } from '../plugins/contract/encoder.ts'
import { encodeResource } from '../plugins/contract/values.ts'
import { printTable } from './measure/process.ts'

const { values } = parseArgs({
  options: {
    records: { type: 'string', default: '3000000' },
    senders: { type: 'string', default: '4' },
    partitions: { type: 'string', default: '12' },
    group: { type: 'string', default: '64' },
  },
})
const brokers = process.env.KAFKA_BROKERS?.split(',')
if (!brokers) throw new Error('KAFKA_BROKERS names no broker')
const perBatch = 500
const devices = 64
const batches = Math.ceil(Number(values.records) / perBatch)
const session = ulid()
const words = 'link queue doorbell firmware mailbox timeout retry port carrier flow table offload'.split(' ')

/** Distinct lines of about 120 bytes. */
function batchOf(number: number): AppendEntry {
  const device = `dpu-${number % devices}`
  const encoder = new LogsEncoder({ name: 'syslog' })
  encoder.begin(encodeResource({ 'host.id': device, 'service.name': 'flowd' }))
  const seconds = Math.floor(Date.now() / 1000)
  const base = BigInt(seconds) * 1_000_000_000n
  for (let index = 0; index < perBatch; index++) {
    const n = number * perBatch + index
    encoder.record(seconds, index * 1000, seconds, index * 1000, 9)
    encoder.body(
      `${words[n % 12]} ${words[(n * 7) % 11]} ${(Math.imul(n, 2_654_435_761) >>> 0).toString(16)} changed after ${n % 9973} us, record ${n} of port ${n % 2} in domain ${n % 97}`,
    )
    encoder.attribute('syslog.hostname', device)
    encoder.attribute('syslog.appname', 'flowd')
    encoder.attribute('syslog.procid', String(1000 + (n % 500)))
    encoder.attribute('syslog.msgid', 'ID47')
    encoder.end()
  }
  const header = {
    collector: device,
    device,
    session,
    class: 'log' as const,
    seq: Math.floor(number / devices) + 1,
    count: perBatch,
    from: base,
    to: base,
    produced: (Math.floor(number / devices) + 1) * perBatch,
    dropped: {},
  }
  const { bytes } = sealBatch(header, 'logs', [encoder.finish(device, 'log').bytes])
  return { topic: 'otlp_logs', class: 'log', key: device, value: bytes }
}

const prefix = `bench-${session.toLowerCase()}.`
const log = new Logger().for('bench')
const journal = await openKafkaJournal({
  brokers,
  prefix,
  group: prefix,
  partitions: Number(values.partitions),
  retentionMs: 3_600_000,
  senders: Number(values.senders),
  create: true,
  sessionTimeoutMs: 6000,
  alone: true,
  clock: systemClock,
  log,
})

// All are distinct, made in portions that fit the memory; only the appends are timed.
let wall = 0
let cpu = 0
let bytes = 0
const perAppend = Number(values.group)
const portion = 2000
for (let from = 0; from < batches; from += portion) {
  const made = Array.from({ length: Math.min(portion, batches - from) }, (_, index) => batchOf(from + index))
  const used = process.cpuUsage()
  const began = performance.now()
  // As ingest does: one group after the other.
  for (let at = 0; at < made.length; at += perAppend) await journal.append(made.slice(at, at + perAppend), [])
  wall += performance.now() - began
  const { user, system } = process.cpuUsage(used)
  cpu += (user + system) / 1e6
  bytes += made.reduce((sum, { value }) => sum + value.length, 0)
}

let position: Position = {}
let read = 0
const usedReading = process.cpuUsage()
const reading = performance.now()
while (read < batches) {
  const { entries, next } = await journal.read(
    position,
    { entries: 1000, bytes: 16 * 1024 * 1024 },
    AbortSignal.timeout(60_000),
  )
  read += entries.length
  position = next
}
const readSeconds = (performance.now() - reading) / 1000
const { user, system } = process.cpuUsage(usedReading)
const total = batches * perBatch
const row = (what: string, seconds: number, cpuSeconds: number): string[] => [
  what,
  Math.round(total / seconds).toLocaleString('en'),
  ((cpuSeconds / total) * 1e6).toFixed(2),
  (bytes / seconds / 1e6).toFixed(1),
]
printTable([
  ['', 'records/s', 'CPU µs/record', 'MB/s'],
  row('append, durable', wall / 1000, cpu),
  row('read', readSeconds, (user + system) / 1e6),
])
await journal[Symbol.asyncDispose]()
const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin()
await admin.connect()
await admin.deleteTopics({ topics: (await admin.listTopics()).filter((topic) => topic.startsWith(prefix)) })
await admin.disconnect()
