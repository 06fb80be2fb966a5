// A collector alone on its device, without an aggregator: what programs and people of this machine read there.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { dpulse } from '../support/command-line.ts'
import { eventually, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { sendStream } from '../support/senders.ts'

const portOffset = 18_420
const api = `http://127.0.0.1:${8601 + portOffset}`
const environment = { DPULSE_COLLECTOR_URL: api }
const data = mkdtempSync(join(tmpdir(), 'dpulse-local-'))
const configuration = `
sources:
  messages: { type: syslog, tcp: ['127.0.0.1:${5514 + portOffset}'] }
  machine: { type: system, interval: 1s }
processors:
  no_debug: { type: severity, minimum: info }
exporters:
  fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:9'] }
subscribers:
  bus: { type: mqtt, unix: ${data}/mqtt }
  filtered: { type: file, path: ${data}/filtered.jsonl, pipelines: [lines] }
pipelines:
  lines: { sources: [messages], processors: [no_debug], exporters: [fleet] }
  readings: { sources: [machine, dpulse], exporters: [fleet] }
`
let collector: Program

beforeAll(async () => {
  const file = join(data, 'collector.yaml')
  writeFileSync(file, configuration)
  collector = startProgram('collector', { data, portOffset, arguments: ['--config', file] })
  await eventually('the collector is healthy', 60, async () => (await fetch(`${api}/api/health`)).ok)
}, 90_000)

afterAll(async () => {
  await collector.stop()
  rmSync(data, { recursive: true, force: true })
}, 60_000)

const say = (severity: number, text: string): Promise<void> =>
  sendStream(5514 + portOffset, `<${8 + severity}>1 2026-11-21T10:00:00Z dpu app - - - ${text}\n`)

const local = async <T>(...line: string[]): Promise<T> => {
  const { stdout, stderr, code } = await dpulse([...line, '--local', '-o', 'json'], { environment })
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as T
}

describe('a collector without its aggregator', () => {
  test('answers logs, top and ledger with --local, and says what waits', async () => {
    await say(3, 'disk failing')
    await say(7, 'only noise')
    const found = await eventually('both lines', 10, async () => {
      const list = await local<{ body: string }[]>('logs', '--where', 'syslog.appname=app')
      return list.length === 2 && list
    })
    // The tail shows what sources hand over, before any processor.
    expect(found.map(({ body }) => body)).toEqual(['disk failing', 'only noise'])
    expect(await local<object[]>('logs', '--severity', 'error')).toHaveLength(1)
    interface Book {
      balanced: boolean
      inFlight: number
      dropped: Record<string, number>
      streams: { device: string; class: string }[]
    }
    const book = await local<Book>('ledger')
    expect(book).toMatchObject({ balanced: true, dropped: { filter: 1 } })
    expect(book.inFlight).toBeGreaterThan(0)
    expect(book.streams.map((stream) => stream.class)).toContain('log_error')
    expect((await local<Book>('ledger', '--device', 'another')).streams).toEqual([])
    const top = await local<{ parts: { name: string; ready: boolean }[] }>('top')
    const ready = Object.fromEntries(top.parts.map((part) => [part.name, part.ready]))
    expect(ready).toMatchObject({ messages: true, machine: true, fleet: false, bus: true })
    const { stdout } = await dpulse(['top', '--local'], { environment })
    expect(stdout).toMatch(/^bus +mqtt subscriber/m)
  })

  test('has its readers served by MQTT, a file, events and Prometheus text', async () => {
    const client = await connectAsync(`mqtt://127.0.0.1:${1884 + portOffset}`, { reconnectPeriod: 0 })
    onTestFinished(() => void client.end(true))
    const heard: string[] = []
    client.on('message', (topic, payload) => heard.push(`${topic} ${String(payload)}`))
    await client.subscribeAsync('dpulse/local/json/#')
    const tail = await fetch(`${api}/api/live?signal=metrics&name=system.memory.*`)
    await say(3, 'for all readers')
    await say(7, 'not for the file')
    await eventually('line and reading over MQTT', 10, () =>
      [
        /^dpulse\/local\/json\/log_error\/logs .*for all readers/,
        /json\/log\/logs .*not for the file/,
        /\/metrics /,
      ].every((wanted) => heard.some((one) => wanted.test(one))),
    )
    const file = await eventually('the line in the file', 10, () => {
      const text = readFileSync(`${data}/filtered.jsonl`, 'utf8')
      return text.includes('for all readers') && text
    })
    expect(file).not.toContain('not for the file')
    let said = ''
    for await (const chunk of tail.body ?? []) {
      said += Buffer.from(chunk).toString()
      if (said.includes('event: point')) break
    }
    expect(said).toMatch(/data: .*"metric":"system\.memory\./)
    const values = await (await fetch(`${api}/metrics/values`)).text()
    expect(values).toMatch(/^system_cpu_time_seconds_total\{.*cpu_mode="user".*\} \d/m)
    expect(values).toMatch(/^dpulse_collector_records_in_total\{.*dpulse_component="messages"/m)
    const own = await (await fetch(`${api}/metrics`)).text()
    expect(own).toMatch(/^dpulse_collector_records_missed_total\{dpulse_component="bus",.*\} 0$/m)
  })
})
