// The whole path: syslog over TCP → collector → MQTT → aggregator → journal → DuckDB, in separate processes.
//
// Default configuration: every batch is durable in the journal before it is acknowledged, de-duplicated and in the
// ledger. All bodies are distinct. The clock runs from the first byte sent until the ledger counts every record in
// the store. 1,000 stored lines, spread over all, are compared byte for byte. Beside it, where one is installed, an
// OpenTelemetry Collector takes the same bytes and throws them away: its parser alone, nothing kept.
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { cpuSeconds, peakBytes, printTable } from './measure/process.ts'

const { values } = parseArgs({
  options: {
    records: { type: 'string', default: '2000000' },
    offset: { type: 'string', default: '21000' },
    connections: { type: 'string', default: '1' },
  },
})
const records = Number(values.records)
const portOffset = Number(values.offset)
const connections = Number(values.connections)
const root = resolve(import.meta.dirname, '..')
const api = `http://127.0.0.1:${8600 + portOffset}`
const data = mkdtempSync(join(tmpdir(), 'dpulse-bench-'))

const words = 'queue port link flow rule offload table session path mirror volume bucket lane credit'.split(
  ' ',
)

/** The body of line `index`: distinct, about 120 bytes. */
function body(index: number): string {
  const word = (shift: number) => words[(index >>> shift) % words.length] ?? ''
  const hash = Math.imul(index, 2_654_435_761) >>> 0
  return `${word(0)} ${word(3)} ${hash.toString(16).padStart(8, '0')} changed after ${hash % 9973} us, record ${index} of the ${word(5)} in domain ${word(7)}`
}

/** When line `index` claims to have happened: one microsecond after the one before it. */
function timestamp(baseSeconds: number, index: number): string {
  const seconds = new Date((baseSeconds + Math.floor(index / 1e6)) * 1000).toISOString().slice(0, 19)
  return `${seconds}.${String(index % 1e6).padStart(6, '0')}Z`
}

/** Lines [from, to) as RFC 5424, octet-counted. */
function chunk(from: number, to: number, baseSeconds: number): Buffer {
  const lines: string[] = []
  const time = timestamp(baseSeconds, from).slice(0, 20)
  for (let index = from; index < to; index++) {
    const text = `<${index % 50 === 0 ? 131 : 134}>1 ${time}${String(index % 1e6).padStart(6, '0')}Z dpu-7 flowd ${1000 + (index % 16)} ID47 [meta@32473 seq="${index}"] ${body(index)}`
    lines.push(`${text.length} ${text}`)
  }
  return Buffer.from(lines.join(''), 'latin1')
}

async function send(port: number, baseSeconds: number): Promise<void> {
  // A multiple of a chunk, so that no chunk crosses a second.
  const each = Math.ceil(records / connections / 1000) * 1000
  await Promise.all(
    Array.from({ length: connections }, async (_, connection) => {
      const socket = createConnection({ port, host: '127.0.0.1' })
      await once(socket, 'connect')
      const end = Math.min(records, (connection + 1) * each)
      for (let from = connection * each; from < end; from += 1000) {
        if (!socket.write(chunk(from, Math.min(end, from + 1000), baseSeconds))) await once(socket, 'drain')
      }
      socket.end()
      await once(socket, 'close')
    }),
  )
}

function start(program: string): ChildProcess {
  const child = spawn(
    process.execPath,
    ['dpulse.ts', program, '--data', data, '--port-offset', String(portOffset)],
    { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
  )
  return child
}

async function answered<T>(ask: () => Promise<T | undefined>, seconds: number, what: string): Promise<T> {
  const until = performance.now() + seconds * 1000
  for (;;) {
    const answer = await ask().catch(() => undefined)
    if (answer !== undefined) return answer
    if (performance.now() > until) throw new Error(`${what} did not happen within ${seconds} s`)
    await new Promise((resume) => setTimeout(resume, 50))
  }
}

const json = async (path: string): Promise<unknown> => (await fetch(api + path)).json()

interface LedgerAnswer {
  balanced: boolean
  streams: { class: string; stored: number; produced: number }[]
}
async function storedLines(): Promise<number> {
  const ledger = (await json('/api/ledger')) as LedgerAnswer
  return ledger.streams
    .filter((stream) => stream.class === 'log' || stream.class === 'log_error')
    .reduce((all, stream) => all + stream.stored, 0)
}

/** What the writer has committed to the store: asking this costs nothing, while the ledger counts rows. */
async function writtenRecords(): Promise<number> {
  const text = await (await fetch(`${api}/metrics`)).text()
  return Number(/^dpulse_aggregator_writer_records_total (\d+)$/m.exec(text)?.[1] ?? 0)
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

async function compareLines(baseSeconds: number): Promise<number> {
  let equal = 0
  for (let sample = 0; sample < 1000; sample++) {
    const index = Math.floor((sample * records) / 1000)
    const range = `since=${timestamp(baseSeconds, index)}&until=${timestamp(baseSeconds, index + 1)}`
    const page = (await json(`/api/logs?${range}&limit=5&where=syslog.appname=flowd`)) as {
      records: { body: string }[]
    }
    if (page.records.length === 1 && page.records[0]?.body === body(index)) equal++
  }
  return equal
}

async function measurePath(): Promise<number> {
  const aggregator = start('aggregator')
  const collector = start('collector')
  try {
    await answered(async () => (await fetch(`${api}/api/health`)).ok || undefined, 30, 'start')
    const port = 5514 + portOffset
    await answered(
      async () => {
        const probe = createConnection({ port, host: '127.0.0.1' })
        await once(probe, 'connect')
        probe.destroy()
        return true
      },
      30,
      'the syslog listener',
    )
    const pids = { collector: collector.pid ?? 0, aggregator: aggregator.pid ?? 0 }
    const before = { collector: cpuSeconds(pids.collector), aggregator: cpuSeconds(pids.aggregator) }
    const already = await storedLines()
    const written = await writtenRecords()
    const baseSeconds = Math.floor(Date.now() / 1000) - 60
    const began = performance.now()
    await send(port, baseSeconds)
    const sent = (performance.now() - began) / 1000
    await answered(async () => (await writtenRecords()) - written >= records || undefined, 300, 'storing')
    await answered(async () => (await storedLines()) - already >= records || undefined, 60, 'counting')
    const seconds = (performance.now() - began) / 1000
    const cpu = (name: keyof typeof pids) => ((cpuSeconds(pids[name]) - before[name]) / records) * 1e6
    printTable([
      ['process', 'CPU µs/record', 'peak MB'],
      ...(['collector', 'aggregator'] as const).map((name) => [
        name,
        cpu(name).toFixed(2),
        (peakBytes(pids[name]) / 1e6).toFixed(0),
      ]),
    ])
    const ledger = (await json('/api/ledger')) as LedgerAnswer
    const rate = records / seconds
    process.stdout.write(
      `\n${records} distinct records sent in ${sent.toFixed(2)} s, all stored after ${seconds.toFixed(2)} s: ` +
        `${Math.round(rate).toLocaleString('en')} records/s; ledger ${ledger.balanced ? 'balanced' : 'NOT BALANCED'}\n`,
    )
    process.stdout.write(`${await compareLines(baseSeconds)} of 1000 stored lines equal what was sent\n`)
    return rate
  } finally {
    await stop(collector)
    await stop(aggregator)
    rmSync(data, { recursive: true, force: true })
  }
}

/** The peer's parser on the same bytes; undefined where it is not installed. */
async function measurePeer(): Promise<number | undefined> {
  const services = resolve(root, '../shared/services/services')
  if (!existsSync(services)) return undefined
  const path = spawnSync(services, ['path', 'otelcol'], { encoding: 'utf8' })
  if (path.status !== 0) return undefined
  const port = 5515 + portOffset
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-peer-'))
  writeFileSync(
    join(directory, 'config.yaml'),
    `receivers: { syslog: { protocol: rfc5424, enable_octet_counting: true, tcp: { listen_address: '127.0.0.1:${port}' } } }
exporters: { nop: {} }
service:
  telemetry: { metrics: { level: none } }
  pipelines: { logs: { receivers: [syslog], exporters: [nop] } }
`,
  )
  const peer = spawn(path.stdout.trim(), ['--config', join(directory, 'config.yaml')], { stdio: 'ignore' })
  try {
    await answered(
      async () => {
        const probe = createConnection({ port, host: '127.0.0.1' })
        await once(probe, 'connect')
        probe.destroy()
        return true
      },
      30,
      'the peer',
    )
    const pid = peer.pid ?? 0
    const before = cpuSeconds(pid)
    const began = performance.now()
    await send(port, Math.floor(Date.now() / 1000))
    // Its own buffers empty when it stops using the processor.
    let last = cpuSeconds(pid)
    await answered(
      async () => {
        const now = cpuSeconds(pid)
        const idle = now - last < 0.01
        last = now
        return idle || undefined
      },
      120,
      'the peer becoming idle',
    )
    const rate = records / ((performance.now() - began) / 1000)
    process.stdout.write(
      `\nOpenTelemetry Collector, syslog TCP → nothing: ${Math.round(rate).toLocaleString('en')} records/s, ` +
        `${(((cpuSeconds(pid) - before) / records) * 1e6).toFixed(2)} µs CPU a record, ${(peakBytes(pid) / 1e6).toFixed(0)} MB\n`,
    )
    return rate
  } finally {
    await stop(peer)
    rmSync(directory, { recursive: true, force: true })
  }
}

const ours = await measurePath()
const theirs = await measurePeer()
if (theirs !== undefined) process.stdout.write(`ratio: ${(ours / theirs).toFixed(2)} times the peer's rate\n`)
