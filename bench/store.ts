// `node bench/store.ts [rows]` (a multiple of 100,000): what the embedded store takes and answers. Writes distinct log lines of six attributes
// and gauge points through `write`, the same rows with DuckDB's row appender, seals them, and asks; one table.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DuckDBInstance } from '@duckdb/node-api'
import { openDuckStore } from '../aggregator/store/duckdb.ts'
import type { DuckStore } from '../aggregator/store/duckdb.ts'
import { sealBatch } from '../plugins/contract/batch.ts'
import { LogsEncoder } from '../plugins/contract/encoder.ts'
import { Readings, timeParts } from '../plugins/contract/readings.ts'
import { encodeResource } from '../plugins/contract/values.ts'
import type { Log } from '../plugins/contract/define.ts'
import type { StoreBatch } from '../aggregator/store/store.ts'
import type { Class } from '../plugins/contract/signal.ts'

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: { keep: { type: 'string' }, only: { type: 'string' } },
})
const total = Number(positionals[0] ?? 1_000_000)
const perBatch = 500
const perWrite = 100_000
const devices = 64
const quiet: Log = {
  error: console.error,
  warn: console.error,
  info: () => undefined,
  debug: () => undefined,
}
const never = new AbortController().signal
const second = 1_000_000_000n
const base = BigInt(Math.floor(Date.now() / 1000) - 3600) * second

const words =
  'link up down queue doorbell firmware mailbox timeout retry port carrier lost flow table offload rule'.split(
    ' ',
  )
const lineOf = (n: number): string =>
  `${words[n % 17]} ${words[(n * 7) % 13]} ${n} on port ${n % 2} of pf${n % 4}: ${words[(n * 3) % 11]} after ${(n * 37) % 1000} ms, code 0x${((n * 2_654_435_761) % 2 ** 32).toString(16)}`

function headerOf(device: string, name: Class, seq: number): StoreBatch['header'] {
  const stream = { collector: device, device, session: '01JDABCDEFGHJKMNPQRSTVWXYZ', class: name }
  return { ...stream, seq, count: perBatch, from: 0n, to: 0n, produced: seq * perBatch, dropped: {} }
}

const encoder = new LogsEncoder({ name: 'syslog' })

function logBatch(number: number): StoreBatch {
  const device = `dpu-${number % devices}`
  encoder.begin(
    encodeResource({
      'host.id': device,
      'host.name': device,
      'host.arch': 'arm64',
      'service.name': 'syslog',
    }),
  )
  for (let index = 0; index < perBatch; index++) {
    const n = number * perBatch + index
    const time = timeParts(base + BigInt(n) * 1_000_000n)
    encoder.record(time.seconds, time.nanos, time.seconds, time.nanos + 1, 9 + (n % 3) * 4)
    encoder.severityText(['info', 'warning', 'err'][n % 3] ?? '')
    encoder.body(lineOf(n))
    encoder.attribute('syslog.hostname', device)
    encoder.attribute('syslog.appname', words[n % 16] ?? '')
    encoder.attribute('syslog.procid', String(1000 + (n % 500)))
    encoder.attribute('syslog.msgid', 'ID47')
    encoder.attribute('syslog.facility', n % 24)
    encoder.attribute('net.peer', `10.0.${n % 256}.${(n >> 8) % 256}`)
    encoder.end()
  }
  const { bytes } = encoder.finish(device, 'log')
  const header = headerOf(device, 'log', Math.floor(number / devices) + 1)
  return {
    header,
    signal: 'logs',
    value: sealBatch(header, 'logs', [bytes]).bytes,
    arrivedUnixNano: base + BigInt(number) * 500_000_000n,
  }
}

/** One reading of 500 gauges of a device. */
function pointBatch(number: number): StoreBatch {
  const device = `dpu-${number % devices}`
  const time = base + BigInt(Math.floor(number / devices)) * 10n * second
  const readings = new Readings({
    scope: { name: 'system' },
    declared: { 'hw.sensor': { kind: 'gauge', unit: 'Cel', class: 'resource' } },
    device,
    resource: encodeResource({ 'host.id': device, 'service.name': 'dpulse' }),
    timeUnixNano: time,
  })
  for (let index = 0; index < perBatch; index++) {
    const value = 40 + Math.round(8 * Math.sin(number / 50 + index)) / 4
    readings.add('hw.sensor', value, { id: `sensor-${index}` })
  }
  const parts = readings.finish().map(({ bytes }) => bytes)
  const header = headerOf(device, 'resource', Math.floor(number / devices) + 1)
  return {
    header,
    signal: 'metrics',
    value: sealBatch(header, 'metrics', parts).bytes,
    arrivedUnixNano: time,
  }
}

interface Line {
  what: string
  rate: string
  cpu: string
  note: string
}
const lines: Line[] = []

const cpuOf = (from: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(from)
  return user + system
}

/** Makes batches outside the clock, writes them inside. */
async function measureWrites(
  store: DuckStore,
  what: string,
  make: (n: number) => StoreBatch,
): Promise<number> {
  let micros = 0
  let ms = 0
  let slowest = 0
  const warmUp = 2
  for (let write = 0; write < warmUp + total / perWrite; write++) {
    const first = (write * perWrite) / perBatch
    const batches = Array.from({ length: perWrite / perBatch }, (_, index) => make(first + index))
    if (write === warmUp) micros = ms = slowest = 0
    const cpu = process.cpuUsage()
    const began = performance.now()
    await store.write(batches, { position: { 'otlp_logs/0': first }, streams: new Map() })
    slowest = Math.max(slowest, performance.now() - began)
    ms += performance.now() - began
    micros += cpuOf(cpu)
  }
  lines.push({
    what,
    rate: `${Math.round(total / ms)} k rows/s`,
    cpu: (micros / total).toFixed(2),
    note: `slowest write of ${perWrite} rows ${Math.round(slowest)} ms`,
  })
  return total / ms
}

async function measureRowAppender(directory: string): Promise<void> {
  const instance = await DuckDBInstance.create(join(directory, 'rows.duckdb'), { threads: '2' })
  const connection = await instance.connect()
  await connection.run(
    'CREATE TABLE l (ts BIGINT, arrival BIGINT, device UINTEGER, severity INTEGER, stream UINTEGER, seq BIGINT, idx UINTEGER, body VARCHAR, severity_text VARCHAR, attributes VARCHAR)',
  )
  const rows = Math.min(total, 300_000)
  const cpu = process.cpuUsage()
  const began = performance.now()
  for (let first = 0; first < rows; first += perWrite) {
    await connection.run('BEGIN')
    const appender = await connection.createAppender('l')
    for (let n = first; n < Math.min(rows, first + perWrite); n++) {
      appender.appendBigInt(base + BigInt(n))
      appender.appendBigInt(base)
      appender.appendUInteger(n % devices)
      appender.appendInteger(9)
      appender.appendUInteger(1)
      appender.appendBigInt(BigInt(n >> 9))
      appender.appendUInteger(n % 500)
      appender.appendVarchar(lineOf(n))
      appender.appendVarchar('info')
      appender.appendVarchar(
        `{"syslog.hostname":"dpu-${n % 64}","syslog.appname":"${words[n % 16]}","syslog.procid":"${n % 500}","syslog.msgid":"ID47","syslog.facility":${n % 24},"net.peer":"10.0.${n % 256}.1"}`,
      )
      appender.endRow()
    }
    appender.closeSync()
    await connection.run('COMMIT')
  }
  const ms = performance.now() - began
  lines.push({
    what: 'row appender of DuckDB, rows ready made',
    rate: `${Math.round(rows / ms)} k rows/s`,
    cpu: (cpuOf(cpu) / rows).toFixed(2),
    note: 'ten columns, no decoding, no account',
  })
  connection.closeSync()
  instance.closeSync()
}

async function measureQuery(what: string, ask: () => Promise<unknown>): Promise<void> {
  const times: number[] = []
  let note = ''
  for (let run = 0; run < 3; run++) {
    const began = performance.now()
    const answer = await ask()
    times.push(performance.now() - began)
    note = Array.isArray(answer) ? `${answer.length} in the answer` : ''
  }
  lines.push({ what, rate: `${times.map((ms) => Math.round(ms)).join(' / ')} ms`, cpu: '', note })
}

async function measureQueries(store: DuckStore, when: string): Promise<void> {
  const { queries } = store
  const logs = (query: object) => async () =>
    (await queries.logs({ limit: 1000, where: [], ...query }, never)).records
  const sensor = {
    metric: 'hw.sensor',
    where: [],
    sinceUnixNano: base,
    untilUnixNano: base + 7200n * second,
    limit: 200_000,
  }
  await measureQuery(`${when}: newest 1000 lines`, logs({}))
  await measureQuery(`${when}: newest 1000 lines of one device`, logs({ device: ['dpu-7'] }))
  await measureQuery(`${when}: a text that occurs once`, logs({ text: `${Math.floor(total / 2)} ON PORT` }))
  await measureQuery(`${when}: a frequent text`, logs({ text: 'firmware' }))
  await measureQuery(
    `${when}: where net.peer=10.0.7.9`,
    logs({ where: [{ key: 'net.peer', value: '10.0.7.9' }] }),
  )
  await measureQuery(`${when}: one series, step 1m`, () =>
    queries.query(
      { ...sensor, device: ['dpu-3'], where: [{ key: 'id', value: 'sensor-9' }], stepNano: 60n * second },
      never,
    ),
  )
  await measureQuery(`${when}: all series by device, mean`, () =>
    queries.query({ ...sensor, by: ['device'], aggregate: 'mean', stepNano: 60n * second }, never),
  )
  await measureQuery(`${when}: increase of all series by device`, () =>
    queries.query({ ...sensor, by: ['device'], aggregate: 'increase', stepNano: 60n * second }, never),
  )
  await measureQuery(`${when}: newest values of a device`, () => queries.latest('dpu-3', never))
  await measureQuery(`${when}: count, all rows`, () => store.count())
}

const directory = flags.keep ?? (await mkdtemp(join(tmpdir(), 'bench-store-')))
const settings = { log: quiet, maintenanceMs: 0, segmentRows: { logs: 1_000_000, metrics: 4_000_000 } }
let store = await openDuckStore(join(directory, 'store'), settings)
try {
  await measureWrites(store, `${total} log records of six attributes`, logBatch)
  await measureWrites(store, `${total} gauge points, 32,000 series`, pointBatch)
  const hot = await store.status()
  await measureRowAppender(directory)
  if (flags.only !== 'write') {
    await measureQueries(store, 'hot')
    const cpu = process.cpuUsage()
    const began = performance.now()
    await store.maintain({ seal: 'all' })
    const ms = performance.now() - began
    const sealed = await store.status()
    lines.push({
      what: 'sealing all of it',
      rate: `${Math.round((2 * total) / ms)} k rows/s`,
      cpu: (cpuOf(cpu) / 2 / total).toFixed(2),
      note: `${sealed.files} files; directory ${Math.round(hot.bytes / 1e6)} → ${Math.round(sealed.bytes / 1e6)} MB`,
    })
    for (const [signal, bytes] of await fileBytes()) {
      lines.push({
        what: `sealed ${signal}`,
        rate: `${(bytes / (total + 200_000)).toFixed(2)} B/row`,
        cpu: '',
        note: '',
      })
    }
    await measureQueries(store, 'sealed')
  }
  await store[Symbol.asyncDispose]()
  const began = performance.now()
  store = await openDuckStore(join(directory, 'store'), settings)
  lines.push({
    what: 'opening it again',
    rate: `${Math.round(performance.now() - began)} ms`,
    cpu: '',
    note: '',
  })
} finally {
  await store[Symbol.asyncDispose]()
  if (flags.keep === undefined) await rm(directory, { recursive: true, force: true })
}

async function fileBytes(): Promise<Map<string, number>> {
  const { readdir, stat } = await import('node:fs/promises')
  const sums = new Map<string, number>()
  for (const name of await readdir(join(directory, 'store', 'files'))) {
    const signal = name.split('-')[0] ?? ''
    sums.set(signal, (sums.get(signal) ?? 0) + (await stat(join(directory, 'store', 'files', name))).size)
  }
  return sums
}

const memory = Math.round(process.resourceUsage().maxRSS / 1024)
console.log(`\n${'what'.padEnd(44)}${'result'.padEnd(20)}${'CPU µs/row'.padEnd(12)}note`)
for (const { what, rate, cpu, note } of lines)
  console.log(`${what.padEnd(44)}${rate.padEnd(20)}${cpu.padEnd(12)}${note}`)
console.log(`\nlargest resident memory ${memory} MB, Node ${process.version}`)
