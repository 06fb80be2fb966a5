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
const rounds = 40

// 25 programs on 8 hosts, four facilities, all severities; each twentieth line has something to look at in its body.
const programs = Array.from({ length: 25 }, (_, index) => `app${index}`)
const bodies = [
  'accepted password=hunter2 for root from 10.0.0.7 port 22',
  'link down on port p1, carrier lost after 17 ms',
  'failed login for user admin from 10.1.2.3',
  'segfault at 7f00deadbeef ip 000055 error 4',
]
function line(index: number): string {
  const time = new Date(1_795_000_000_000 + index).toISOString()
  const host = `dpu-r12-s${index % 8}.example.com`
  const app = programs[(index * 7) % programs.length]
  const text =
    index % 20 === 0
      ? `${bodies[(index / 20) % bodies.length]}, request ${index}`
      : `interface p${index % 2} changed state, request ${index * 7919}, queue depth is within limits`
  const priority = (16 + (index % 4)) * 8 + ((index * 3) % 8)
  return `<${priority}>1 ${time} ${host} ${app} ${4000 + (index % 8)} ID${index % 40} - ${text}`
}

/** Each matches at least one record in a hundred, of those that the rules before it leave. */
const app = (...names: string[]) => ({ 'syslog.appname': names })
const rules = [
  { match: { class: 'log', severity: { below: 'info' }, attributes: app('app1', 'app2') }, drop: true },
  { match: { class: 'log_error', attributes: app('app1') }, drop: true },
  { match: { class: 'log', attributes: app('app3') }, drop: true },
  { match: { severity: { below: 'info' }, attributes: { 'syslog.facility': 17 } }, drop: true },
  { match: { severity: { at_least: 'fatal' }, attributes: { 'syslog.facility': [18, 19] } }, keep: true },
  { match: { attributes: { 'syslog.hostname': 'dpu-r12-s3.*', ...app('app4', 'app5') } }, drop: true },
  { match: { name: '!dpu.*', attributes: { 'syslog.msgid': 'ID3' } }, drop: true },
  { match: { name: '!dpu.*', attributes: { 'syslog.msgid': ['ID10', 'ID11'] } }, drop: true },
  { match: { attributes: { 'syslog.procid': 4001, ...app('app6', 'app7', 'app8') } }, drop: true },
  { match: { class: 'log_error', attributes: app('app9', 'app10') }, keep: true },
  { match: { class: 'log', attributes: app('app9', 'app10') }, drop: true },
  { match: { attributes: { 'syslog.msgid': 'ID2?', 'syslog.facility': 16 } }, drop: true },
  {
    match: { attributes: { 'syslog.hostname': '*s5.example.com' }, severity: { below: 'info' } },
    drop: true,
  },
  { match: { attributes: app('app12') }, set: { attributes: { team: 'storage' } } },
  { match: { attributes: app('app13'), class: 'log' }, set: { attributes: { team: 'network' } } },
  { match: { attributes: { 'syslog.procid': { at_least: 4007 } }, class: 'log' }, drop: true },
  { match: { attributes: { ...app('app14'), 'network.peer.address': '127.*' } }, drop: true },
  { match: { class: ['log', 'log_error'], attributes: { 'syslog.msgid': ['ID1', 'ID30'] } }, drop: true },
  {
    match: { severity: { at_least: 'warn', below: 'error' }, attributes: app('app20', 'app21') },
    keep: true,
  },
  { match: { attributes: app('app22', 'app23') }, keep: true },
]
const patterns = [
  { match: { body: { matches: 'link (up|down) on port p[0-9]+' } }, set: { attributes: { kind: 'link' } } },
  { match: { body: { matches: '(?i)failed login for user \\w+' } }, set: { attributes: { kind: 'login' } } },
  { match: { body: { matches: 'segfault at [0-9a-f]+' } }, set: { attributes: { kind: 'crash' } } },
  { redact: { patterns: 'password=\\S+', body: true } },
]

function recordsOf(): Records[] {
  const list: Records[] = []
  const parser = new SyslogParser(
    { device: 'bench', resource, maxLength: 262_144, timezone: 'UTC' },
    (records) => void list.push(records),
  )
  parser.observedAt(1_795_000_000_000_000_000n)
  for (let index = 0; index < lines; index++) {
    const message = Buffer.from(line(index))
    parser.parse(message, 0, message.length, origin, true, false)
  }
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
  if (process.argv.includes('--counts'))
    console.log(
      filter
        .counts()
        .map(({ rule, matched }) => rule + ' ' + ((100 * matched) / lines / rounds).toFixed(1))
        .join('\n'),
    )
}
ours('dpulse, 20 rules', rules, 0.3)
ours('dpulse, 20 rules, 3 patterns, 1 redaction', [...rules, ...patterns], 0.7)
printTable(rows)
