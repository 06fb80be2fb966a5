// One collector among programs that know nothing of it: a Telegraf, mosquitto_pub and a Prometheus give to it, a Prometheus,
// an OpenTelemetry Collector and rsyslog take from it, each in its own protocol and with its usual configuration.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectPlain } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { jsonToRequest } from '../../plugins/protocols/otlp/json.ts'
import { createAuthority } from '../support/certificates.ts'
import type { Authority } from '../support/certificates.ts'
import { mosquittoIsHere, mosquittoOf, whyNoMosquitto } from '../support/mosquitto.ts'
import { freePorts } from '../support/ports.ts'
import { eventually, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { collectLogs, collectPoints } from '../support/records.ts'
import type { PlainLog, PlainPoint } from '../support/records.ts'

const portOffset = 18_300
const services = resolve(import.meta.dirname, '../../../shared/services/services')
const pathOf = (name: string): string => {
  const found = existsSync(services) ? spawnSync(services, ['path', name], { encoding: 'utf8' }) : undefined
  return found?.status === 0 ? found.stdout.trim() : ''
}
const programs = {
  telegraf: pathOf('telegraf'),
  otelcol: pathOf('otelcol'),
  prometheus: pathOf('prometheus'),
  rsyslogd: ['/usr/sbin/rsyslogd'].find((path) => existsSync(path)) ?? '',
}
const why = (name: keyof typeof programs): string => `no ${name}: ../shared/services can install it`

const directory = mkdtempSync(join(tmpdir(), 'dpulse-neighbours-'))
const out = join(directory, 'out.jsonl')
const ends: (() => Promise<void> | void)[] = []
const later = (task: () => Promise<void>): void => void ends.push(task)
let port: Record<
  'influx' | 'otlp' | 'exposed' | 'forwarded' | 'relayed' | 'mqtt' | 'prometheus' | 'plain',
  number
>
let authority: Authority
let collector: Program

/** A neighbour, ended with the tests; `said` is what it wrote. */
function start(program: string, ...line: string[]): { child: ChildProcess; said: () => string } {
  const child = spawn(program, line, { stdio: ['ignore', 'pipe', 'pipe'], cwd: directory })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text = (text + chunk.toString()).slice(-20_000)))
  later(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return { child, said: () => text }
}

function file(name: string, text: string): string {
  const path = join(directory, name)
  writeFileSync(path, text)
  return path
}

/** Everything that the collector has written to its file. */
function written(): { points: PlainPoint[]; logs: PlainLog[] } {
  const lines = existsSync(out) ? readFileSync(out, 'utf8').split('\n').slice(0, -1) : []
  const points: PlainPoint[] = []
  const logs: PlainLog[] = []
  for (const line of lines) {
    if (line.startsWith('{"resourceMetrics')) points.push(...collectPoints(jsonToRequest('metrics', line)))
    else logs.push(...collectLogs(jsonToRequest('logs', line)))
  }
  return { points, logs }
}

async function post(body: string, severityNumber = 17): Promise<void> {
  const logRecords = [{ timeUnixNano: '1790000000123456789', severityNumber, body: { stringValue: body } }]
  const { status } = await fetch(`http://127.0.0.1:${port.otlp}/v1/logs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] }),
  })
  expect(status).toBe(200)
}

beforeAll(async () => {
  const names = ['influx', 'otlp', 'exposed', 'forwarded', 'relayed', 'mqtt', 'prometheus', 'plain'] as const
  const found = await freePorts(names.length)
  port = Object.fromEntries(names.map((name, index) => [name, found[index] ?? 0])) as typeof port
  authority = createAuthority()
  if (mosquittoIsHere) {
    const broker = mosquittoOf({ port: port.mqtt, onTestFinished: later })
    await broker.start()
  }
  const at = (name: keyof typeof port): string => `127.0.0.1:${port[name]}`
  const config = {
    collector: { id: 'neighbour' },
    sources: {
      telegraf: { type: 'influx', listen: at('influx') },
      broker: { type: 'mqtt', urls: [`mqtt://${at('mqtt')}`], topics: ['local/#'], name: 'local' },
      scraped: { type: 'prometheus', targets: [`http://${at('prometheus')}`], interval: '1s', job: 'prom' },
      otlp: { type: 'otlp', http: at('otlp'), grpc: false },
    },
    exporters: {
      out: { type: 'file', path: out },
      exposed: { type: 'prometheus', listen: at('exposed') },
      forwarded: { type: 'fluent', endpoint: at('forwarded') },
      relayed: { type: 'syslog', endpoint: at('relayed'), tls: { ca: authority.ca } },
    },
    pipelines: {
      all: { sources: ['telegraf', 'broker', 'scraped', 'otlp'], exporters: ['out', 'exposed'] },
      lines: { sources: ['otlp'], exporters: ['forwarded', 'relayed'] },
    },
  }
  // YAML takes JSON.
  const path = file('dpulse.yaml', JSON.stringify(config))
  collector = startProgram('collector', {
    data: join(directory, 'data'),
    portOffset,
    arguments: ['--config', path],
  })
  ends.push(() => collector.stop())
  await eventually('the collector takes OTLP', 30, async () => {
    await post('hello', 9)
    return true
  }).catch((cause: unknown) => {
    throw new Error(collector.output(), { cause })
  })
}, 60_000)

afterAll(async () => {
  for (const end of ends.toReversed()) await end()
  authority.remove()
  rmSync(directory, { recursive: true, force: true })
})

describe('a collector among others', () => {
  test('takes what a Telegraf sends to its InfluxDB', async ({ skip }) => {
    if (programs.telegraf === '') skip(why('telegraf'))
    const config = file(
      'telegraf.conf',
      `
[agent]
  interval = "300ms"
  flush_interval = "300ms"
  hostname = "dpu-7"
[[outputs.influxdb_v2]]
  urls = ["http://127.0.0.1:${port.influx}"]
  token = "any"
  organization = "org"
  bucket = "telegraf"
[[inputs.mem]]
[[inputs.cpu]]
[[inputs.system]]
`,
    )
    const { said } = start(programs.telegraf, '--config', config)
    const wanted = ['mem_available', 'cpu_usage_idle', 'system_load1']
    await eventually('all three inputs arrive', 30, () => {
      const names = new Set(written().points.map(({ name }) => name))
      return wanted.every((name) => names.has(name))
    })
    const memory = written().points.find(({ name }) => name === 'mem_available')
    expect(memory?.attributes).toEqual({ host: 'dpu-7' })
    expect(typeof memory?.value).toBe('bigint')
    expect(said()).not.toMatch(/ E! /)
  }, 60_000)

  test('takes what mosquitto_pub publishes', async ({ skip }) => {
    if (!mosquittoIsHere || !existsSync('/usr/bin/mosquitto_pub')) skip(whyNoMosquitto)
    const publish = (topic: string, message: string): void =>
      void execFileSync('mosquitto_pub', ['-p', String(port.mqtt), '-q', '1', '-t', topic, '-m', message])
    await eventually('a number arrives', 30, () => {
      publish('local/rack1/temperature', '21.5')
      return written().points.some(({ name, value }) => name === 'local.temperature' && value === 21.5)
    })
    publish('local/app', '{"msg":"fan stopped","level":"error","fan":2}')
    const line = await eventually('a line arrives', 30, () =>
      written().logs.find(({ body }) => body === 'fan stopped'),
    )
    expect(line).toMatchObject({
      severityNumber: 17,
      attributes: { fan: 2, 'messaging.destination.name': 'local/app' },
    })
  }, 60_000)

  test('scrapes a Prometheus, and is scraped by it', async ({ skip }) => {
    if (programs.prometheus === '') skip(why('prometheus'))
    const config = file(
      'prometheus.yml',
      `
global: { scrape_interval: 1s }
scrape_configs:
  - job_name: dpulse
    static_configs: [{ targets: ['127.0.0.1:${port.exposed}'] }]
`,
    )
    start(
      programs.prometheus,
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(directory, 'tsdb')}`,
      `--web.listen-address=127.0.0.1:${port.prometheus}`,
      '--log.level=warn',
    )
    const isScraped = (name: string) => written().points.some((point) => point.name === name)
    await eventually('its own metrics arrive', 40, () => isScraped('prometheus_build_info'))
    const kinds = await eventually('its histograms and summaries arrive', 20, () => {
      const types = new Set(written().points.map(({ type }) => type))
      return types.has('histogram') && types.has('summary') && types
    })
    expect([...kinds].toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['gauge', 'histogram', 'sum', 'summary'])
    const info = written().points.find(({ name }) => name === 'prometheus_build_info')
    expect(info?.resource['service.name']).toBe('prom')
    const query = async (promql: string): Promise<[unknown, string][]> => {
      const url = `http://127.0.0.1:${port.prometheus}/api/v1/query?query=${encodeURIComponent(promql)}`
      const answer = (await (await fetch(url)).json()) as { data: { result: { value: [unknown, string] }[] } }
      return answer.data.result.map(({ value }) => value)
    }
    const up = await eventually('it has scraped us', 40, async () => {
      const [value] = await query('up{job="dpulse"} == 1')
      return value
    })
    expect(up[1]).toBe('1')
    // What it exposed to us it reads back from us, under the name that it gave.
    const [count] = await eventually('it has its own', 20, async () => {
      const values = await query('prometheus_build_info{exported_job="prom"}')
      return values.length > 0 && values
    })
    expect(count?.[1]).toBe('1')
    expect((await query('log_records_total{severity="info"} > 0')).length).toBeGreaterThan(0)
  }, 120_000)

  test('forwards log records to an OpenTelemetry Collector over the Fluent protocol', async ({ skip }) => {
    if (programs.otelcol === '') skip(why('otelcol'))
    const received = join(directory, 'forwarded.json')
    const config = file(
      'otelcol.yaml',
      JSON.stringify({
        receivers: { fluent_forward: { endpoint: `127.0.0.1:${port.forwarded}` } },
        exporters: { file: { path: received, flush_interval: '100ms' } },
        service: {
          telemetry: { metrics: { level: 'none' } },
          pipelines: { logs: { receivers: ['fluent_forward'], exporters: ['file'] } },
        },
      }),
    )
    const { said } = start(programs.otelcol, '--config', config)
    await post('forwarded ünïcödé')
    const record = await eventually('it arrives', 40, () => {
      const text = existsSync(received) ? readFileSync(received, 'utf8') : ''
      return text
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .flatMap((line) => collectLogs(jsonToRequest('logs', line)))
        .find(({ body }) => body === 'forwarded ünïcödé')
    }).catch((cause: unknown) => {
      throw new Error(said() + collector.output(), { cause })
    })
    expect(record.time).toBe(1_790_000_000_123_456_789n)
    expect(record.attributes).toMatchObject({ 'fluent.tag': 'dpulse.logs.log_error', level: 'ERROR' })
  }, 90_000)

  test('relays log records to rsyslog over TLS', async ({ skip }) => {
    if (programs.rsyslogd === '') skip(why('rsyslogd'))
    const received = join(directory, 'relayed.log')
    const { cert, key } = authority.certificate('collector-log')
    // Debian has the TLS driver in a package of its own; without it TLS ends before rsyslog.
    const driver = globSync('/usr/lib/*/rsyslog/lmnsd_ossl.so').length > 0
    const tls = `streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon"`
    const config = file(
      'rsyslog.conf',
      `
global(workDirectory="${directory}" defaultNetstreamDriverCAFile="${authority.ca}"
  defaultNetstreamDriverCertFile="${cert}" defaultNetstreamDriverKeyFile="${key}")
module(load="imtcp" ${driver ? tls : ''})
template(name="whole" type="string" string="%pri%|%timegenerated:::date-rfc3339%|%timestamp:::date-rfc3339%|%hostname%|%app-name%|%structured-data%|%msg%\\n")
input(type="imtcp" address="127.0.0.1" port="${driver ? port.relayed : port.plain}" supportOctetCountedFraming="on")
action(type="omfile" file="${received}" template="whole")
`,
    )
    if (!driver) {
      const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, (socket) => {
        const plain = connectPlain(port.plain, '127.0.0.1')
        for (const one of [socket, plain]) one.on('error', () => undefined)
        socket.pipe(plain)
      }).listen(port.relayed, '127.0.0.1')
      ends.push(() => void server.close())
    }
    const { said } = start(programs.rsyslogd, '-n', '-f', config, '-i', join(directory, 'rsyslog.pid'))
    await eventually('rsyslog listens', 20, async () => {
      const socket = connectPlain(driver ? port.relayed : port.plain, '127.0.0.1')
      await once(socket, 'connect')
      socket.destroy()
      return true
    })
    await post('relayed\nover two lines', 18)
    const line = await eventually(
      'it arrives',
      40,
      () =>
        existsSync(received) &&
        readFileSync(received, 'utf8')
          .split('\n')
          .find((one) => one.includes('relayed')),
    ).catch((cause: unknown) => {
      throw new Error(said() + collector.output(), { cause })
    })
    const [pri, , time, , , structured, message] = line.split('|')
    // local0.crit; rsyslog writes control characters in octal.
    expect([pri, time?.slice(0, 26)]).toEqual(['130', '2026-09-21T14:13:20.123456'])
    expect(structured).toBe('[dpulse@32473 host.id="neighbour"]')
    expect(message?.trim()).toBe('relayed#012over two lines')
  }, 90_000)
})
