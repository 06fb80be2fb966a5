// What a filter costs on the fused syslog path: 20 rules, then three body patterns and a redaction on top, beside the same
// rules in an OpenTelemetry Collector's filter and transform processors. Run it with `npm run bench filter`.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { encodeResource } from '../plugins/contract/index.ts'
import type { Records } from '../plugins/contract/index.ts'
import { Filter, filterSettings } from '../plugins/protocols/filter/index.ts'
import { SyslogParser, encodeAttribute } from '../plugins/protocols/syslog/index.ts'
import type { Origin } from '../plugins/protocols/syslog/index.ts'
import { cpuSeconds, printTable } from './measure/process.ts'

const resource = encodeResource({ 'host.id': 'bench', 'service.name': 'syslog' })
const origin: Origin = { local: false, peer: encodeAttribute('network.peer.address', '127.0.0.1') }
const lines = 20_000
const rounds = 120

// 25 programs on 8 hosts, four facilities, all severities; each twentieth line has something to look at in its body.
const bodies = [
  'accepted password=hunter2 for root from 10.0.0.7 port 22',
  'link down on port p1, carrier lost after 17 ms',
  'failed login for user admin from 10.1.2.3',
  'segfault at 7f00deadbeef ip 000055 error 4',
]
function line(index: number): string {
  const time = new Date(1_795_000_000_000 + index).toISOString()
  // Even, and the same in each run.
  let state = Math.imul(index + 1, 0x9e3779b1) >>> 0
  const any = (of: number): number => {
    state = (Math.imul(state ^ (state >>> 15), 0x85ebca6b) ^ 0x5bd1e995) >>> 0
    return (state >>> 8) % of
  }
  const priority = (16 + any(4)) * 8 + any(8)
  const head = `<${priority}>1 ${time} dpu-r12-s${any(8)}.example.com app${any(25)} ${4000 + any(8)} ID${any(40)} -`
  const text =
    any(20) === 0
      ? `${bodies[any(bodies.length)]}, request ${index}`
      : `interface p${index % 2} changed state, request ${index * 7919}, queue depth is within limits`
  return `${head} ${text}`
}

// Each rule matches at least one record in a hundred, of those that the rules before it leave.
const app = (...names: string[]) => ({ 'syslog.appname': names })
/** The match, the same as a condition of OTTL, and the team that is set where it is not dropped. */
const pairs: readonly [match: object, condition: string, team?: string][] = [
  [
    { class: 'log', severity: { below: 'info' }, attributes: app('app1', 'app2', 'app16') },
    'severity_number < SEVERITY_NUMBER_INFO and (attributes["syslog.appname"] == "app1" or attributes["syslog.appname"] == "app2" or attributes["syslog.appname"] == "app16")',
  ],
  [
    { class: 'log_error', attributes: app('app1') },
    'severity_number >= SEVERITY_NUMBER_ERROR and attributes["syslog.appname"] == "app1"',
  ],
  [
    { class: 'log', attributes: app('app3') },
    'severity_number < SEVERITY_NUMBER_ERROR and attributes["syslog.appname"] == "app3"',
  ],
  [
    { severity: { below: 'info' }, attributes: { 'syslog.facility': 17 } },
    'severity_number < SEVERITY_NUMBER_INFO and attributes["syslog.facility"] == 17',
  ],
  [
    { severity: { at_least: 'fatal' }, attributes: { 'syslog.facility': [18, 19] } },
    'severity_number >= SEVERITY_NUMBER_FATAL and (attributes["syslog.facility"] == 18 or attributes["syslog.facility"] == 19)',
  ],
  [
    { attributes: { 'syslog.hostname': 'dpu-r12-s3.*', ...app('app4', 'app5', 'app6') } },
    'HasPrefix(attributes["syslog.hostname"], "dpu-r12-s3.") and (attributes["syslog.appname"] == "app4" or attributes["syslog.appname"] == "app5" or attributes["syslog.appname"] == "app6")',
  ],
  [
    { name: '!dpu.*', attributes: { 'syslog.msgid': 'ID3' } },
    'not HasPrefix(event_name, "dpu.") and attributes["syslog.msgid"] == "ID3"',
  ],
  [
    { name: '!dpu.*', attributes: { 'syslog.msgid': ['ID10', 'ID11'] } },
    'not HasPrefix(event_name, "dpu.") and (attributes["syslog.msgid"] == "ID10" or attributes["syslog.msgid"] == "ID11")',
  ],
  [
    { attributes: { 'syslog.procid': 4001, ...app('app6', 'app7', 'app8') } },
    'attributes["syslog.procid"] == "4001" and (attributes["syslog.appname"] == "app6" or attributes["syslog.appname"] == "app7" or attributes["syslog.appname"] == "app8")',
  ],
  [
    { class: 'log_error', attributes: app('app9', 'app10') },
    'severity_number >= SEVERITY_NUMBER_ERROR and (attributes["syslog.appname"] == "app9" or attributes["syslog.appname"] == "app10")',
  ],
  [
    { class: 'log', attributes: app('app9', 'app10') },
    'severity_number < SEVERITY_NUMBER_ERROR and (attributes["syslog.appname"] == "app9" or attributes["syslog.appname"] == "app10")',
  ],
  [
    { attributes: { 'syslog.msgid': 'ID2?', 'syslog.facility': 16 } },
    'IsMatch(attributes["syslog.msgid"], "^ID2.$") and attributes["syslog.facility"] == 16',
  ],
  [
    { severity: { below: 'warn' }, attributes: { 'syslog.hostname': '*s5.example.com' } },
    'severity_number < SEVERITY_NUMBER_WARN and HasSuffix(attributes["syslog.hostname"], "s5.example.com")',
  ],
  [{ attributes: app('app12') }, 'attributes["syslog.appname"] == "app12"', 'storage'],
  [
    { class: 'log', attributes: app('app13') },
    'severity_number < SEVERITY_NUMBER_ERROR and attributes["syslog.appname"] == "app13"',
    'network',
  ],
  [
    { class: 'log', attributes: { 'syslog.procid': { at_least: 4007 } } },
    'severity_number < SEVERITY_NUMBER_ERROR and Int(attributes["syslog.procid"]) >= 4007',
  ],
  [
    { attributes: { ...app('app14'), 'network.peer.address': '127.*' } },
    'attributes["syslog.appname"] == "app14" and HasPrefix(attributes["network.peer.address"], "127.")',
  ],
  [
    { class: ['log', 'log_error'], attributes: { 'syslog.msgid': ['ID1', 'ID30'] } },
    'attributes["syslog.msgid"] == "ID1" or attributes["syslog.msgid"] == "ID30"',
  ],
  [
    { severity: { at_least: 'warn', below: 'fatal' }, attributes: app('app20', 'app21') },
    'severity_number >= SEVERITY_NUMBER_WARN and severity_number < SEVERITY_NUMBER_FATAL and (attributes["syslog.appname"] == "app20" or attributes["syslog.appname"] == "app21")',
  ],
  [
    { attributes: app('app22', 'app23') },
    'attributes["syslog.appname"] == "app22" or attributes["syslog.appname"] == "app23"',
  ],
]
const rules = pairs.map(([match, , team]) => ({
  match,
  ...(team === undefined ? { drop: true } : { set: { attributes: { team } } }),
}))
const patterns = [
  { match: { body: { matches: 'link (up|down) on port p[0-9]+' } }, set: { attributes: { kind: 'link' } } },
  { match: { body: { matches: '(?i)failed login for user \\w+' } }, set: { attributes: { kind: 'login' } } },
  { match: { body: { matches: 'segfault at [0-9a-f]+' } }, set: { attributes: { kind: 'crash' } } },
  { redact: { patterns: 'password=\\S+', body: true } },
]

const messages = Array.from({ length: lines }, (_, index) => Buffer.from(line(index)))

function recordsOf(): Records[] {
  const list: Records[] = []
  const parser = new SyslogParser(
    { device: 'bench', resource, maxLength: 262_144, timezone: 'UTC' },
    (records) => void list.push(records),
  )
  parser.observedAt(1_795_000_000_000_000_000n)
  for (const message of messages) parser.parse(message, 0, message.length, origin, true, false)
  parser.flush()
  return list
}

/** Microseconds of CPU a record: the best of several rounds, so that other work of the machine counts less. */
function measure(run: () => void): number {
  let best = Infinity
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage()
    run()
    const { user, system } = process.cpuUsage(before)
    if (round > 4) best = Math.min(best, (user + system) / lines)
  }
  return best
}

const rows: string[][] = [['', 'µs CPU/record', 'left', '']]

function ours(name: string, given: unknown[], limit: number): void {
  const filter = new Filter(filterSettings.parse({ rules: given }), () => performance.now())
  const records = recordsOf()
  let left = 0
  const micros = measure(() => {
    left = 0
    for (const one of records) for (const { count } of filter.pass(one).kept) left += count
  })
  const least = Math.min(...filter.counts().map(({ matched }) => matched / lines / rounds))
  const note = `limit ${limit}; each rule matches ${(least * 100).toFixed(1)} % or more`
  rows.push([name, micros.toFixed(3), `${Math.round((left / lines) * 100)} %`, note])
}

const collectorConfig = (port: number, processors: readonly string[]) => {
  const drops = pairs.filter(([, , team]) => team === undefined).map(([, condition]) => condition)
  const sets = pairs.flatMap(([, condition, team]) =>
    team === undefined ? [] : [`set(attributes["team"], "${team}") where ${condition}`],
  )
  const bodies = [
    'set(attributes["kind"], "link") where IsMatch(body.string, "link (up|down) on port p[0-9]+")',
    'set(attributes["kind"], "login") where IsMatch(body.string, "(?i)failed login for user \\\\w+")',
    'set(attributes["kind"], "crash") where IsMatch(body.string, "segfault at [0-9a-f]+")',
    'replace_pattern(body, "password=\\\\S+", "[redacted]")',
  ]
  const transform = (statements: readonly string[]) => ({
    error_mode: 'propagate',
    log_statements: [
      {
        context: 'log',
        statements: statements.map((one) =>
          one
            .replaceAll('attributes[', 'log.attributes[')
            .replaceAll(/(?<!\.)\b(severity_number|body|event_name)\b/g, 'log.$1'),
        ),
      },
    ],
  })
  return JSON.stringify({
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    processors: {
      filter: { error_mode: 'propagate', logs: { log_record: drops } },
      'transform/sets': transform(sets),
      'transform/bodies': transform(bodies),
    },
    exporters: { nop: {} },
    service: {
      telemetry: { metrics: { level: 'none' }, logs: { level: 'error' } },
      pipelines: { logs: { receivers: ['otlp'], processors, exporters: ['nop'] } },
    },
  })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await once(server.close(), 'close')
  return port
}

/** CPU of a whole OpenTelemetry Collector that takes the records and exports them nowhere, µs a record. */
async function theirs(binary: string, processors: readonly string[]): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-bench-'))
  const port = await freePort()
  const file = join(directory, 'config.yaml')
  writeFileSync(file, collectorConfig(port, processors))
  const child = spawn(binary, ['--config', file], { stdio: ['ignore', 'inherit', 'inherit'] })
  try {
    const requests = recordsOf().map(({ bytes }) => new Uint8Array(bytes))
    const post = async (body: Uint8Array<ArrayBuffer>) => {
      const headers = { 'Content-Type': 'application/x-protobuf' }
      const response = await fetch(`http://127.0.0.1:${port}/v1/logs`, { method: 'POST', headers, body })
      if (response.status !== 200)
        throw new Error(`otelcol answers ${response.status}: ${await response.text()}`)
      await response.arrayBuffer()
    }
    for (let tries = 0; !(await isOpen(port)); tries++) {
      if (tries > 600 || child.exitCode !== null) throw new Error('otelcol does not listen')
      await new Promise((resume) => setTimeout(resume, 50))
    }
    for (const body of requests) await post(body)
    let best = Infinity
    for (let round = 0; round < 5; round++) {
      const before = cpuSeconds(child.pid ?? 0)
      for (let turn = 0; turn < 4; turn++) for (const body of requests) await post(body)
      best = Math.min(best, ((cpuSeconds(child.pid ?? 0) - before) * 1e6) / (4 * lines))
    }
    return best
  } finally {
    child.kill('SIGTERM')
    rmSync(directory, { recursive: true, force: true })
  }
}

async function isOpen(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

// What comes before the filter: on a busy machine both cost more.
rows.push(['dpulse, parsing alone', measure(() => void recordsOf()).toFixed(3), '', ''])
ours('dpulse, 20 rules', rules, 0.3)
ours('dpulse, 20 rules, 3 patterns, 1 redaction', [...rules, ...patterns], 0.7)
const services = resolve(import.meta.dirname, '../../shared/services/services')
const found = existsSync(services)
  ? spawnSync(services, ['path', 'otelcol'], { encoding: 'utf8' })
  : undefined
const binary = found?.status === 0 ? found.stdout.trim() : ''
if (binary === '')
  rows.push(['OpenTelemetry Collector', '–', '', 'not there: ../shared/services can install it'])
else {
  const base = await theirs(binary, [])
  const note = (own: number) => `${own.toFixed(2)} with receiving; processors alone`
  const some = await theirs(binary, ['filter', 'transform/sets'])
  rows.push(['OpenTelemetry Collector, 20 rules', (some - base).toFixed(3), '', note(some)])
  const all = await theirs(binary, ['filter', 'transform/sets', 'transform/bodies'])
  rows.push(['OpenTelemetry Collector, with patterns and redaction', (all - base).toFixed(3), '', note(all)])
}
printTable(rows)
