// What `dpulse up` says once all is ready: what runs and where, what was left out and why, where the data is,
// how to send to it and how to look at it. The ports are those that the programs really listen on.
import process from 'node:process'
import { ports } from '../plugins/contract/options.ts'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import type { LeftOut, Part, ReadyMessage } from '../plugins/contract/parent.ts'
import { printable, styled } from './terminal.ts'

export interface Started {
  aggregator: ReadyMessage
  collector: ReadyMessage
}

export function summary(options: ProgramOptions, version: string, started: Started): string {
  const url = `http://127.0.0.1:${ports.api + options.portOffset}`
  const limit = options.maxDisk === undefined ? '' : `, at most ${inGiB(options.maxDisk)}`
  const leftOut = [...started.collector.leftOut, ...started.aggregator.leftOut]
  const sections = [
    `\n${styled('bold', `dpulse ${version} is up`)}\n`,
    rows([
      ['console', url],
      ['data', `${options.data}${limit}`],
    ]),
    section('collector', partRows(started.collector.parts)),
    section('aggregator', partRows(started.aggregator.parts)),
    section('left out', leftOut.map(leftOutRow)),
    section(
      'Send something:',
      sendExamples(started.collector.parts).map((line) => [line]),
    ),
    section(
      'Look at it:',
      lookExamples(options).map((line) => [line]),
    ),
    styled('dim', 'Ctrl-C stops it.\n'),
  ]
  return `${sections.filter((text) => text !== '').join('\n')}\n`
}

function section(title: string, lines: readonly (readonly string[])[]): string {
  return lines.length === 0 ? '' : `${styled('bold', title)}\n${rows(lines)}`
}

function rows(lines: readonly (readonly string[])[]): string {
  const width = lines.reduce((most, line) => Math.max(most, line.length > 1 ? (line[0]?.length ?? 0) : 0), 10)
  return lines
    .map(([first = '', ...rest]) => `  ${[first.padEnd(width), ...rest].join('  ').trimEnd()}\n`)
    .join('')
}

// One row for each name. What listens on IPv4 and IPv6 alike is said once.
function partRows(parts: readonly Part[]): string[][] {
  const rows = new Map<string, Set<string>>()
  for (const { name, address, note } of parts) {
    const texts = rows.get(name) ?? new Set()
    rows.set(name, texts)
    for (const text of addressesOf(address)) texts.add(text)
    if (note !== undefined && note !== '') texts.add(note)
  }
  return [...rows].map(([name, texts]) => {
    const shown = [...texts].filter(
      (text) => !texts.has(text.replace('[::1]', '127.0.0.1')) || !text.includes('[::1]'),
    )
    return [name, printable(shown.join('  '))]
  })
}

function addressesOf(address: string | undefined): string[] {
  return (address ?? '').split(/[,\s]+/).filter((text) => text !== '')
}

function leftOutRow({ name, reason }: LeftOut): string[] {
  return [name, printable(reason)]
}

// Offered only where something listens: a configuration may have moved or left out the one or the other.
function sendExamples(parts: readonly Part[]): string[] {
  const lines: string[] = []
  const tcp = portOf(parts, 'syslog', /^(tcp:|\D*tcp)/)
  const udp = portOf(parts, 'syslog', /^(udp:|\D*udp)/)
  const http = portOf(parts, 'otlp', /^http:/)
  if (tcp !== undefined)
    lines.push(`logger -n 127.0.0.1 -P ${tcp} --tcp --octet-count --rfc5424 'hello from logger'`)
  if (udp !== undefined) lines.push(`logger -n 127.0.0.1 -P ${udp} --udp --rfc5424 'hello by UDP'`)
  if (http !== undefined) {
    const record = '{"severityNumber":9,"body":{"stringValue":"hello from curl"}}'
    lines.push(
      `curl http://127.0.0.1:${http}/v1/logs -H 'Content-Type: application/json' \\`,
      `  -d '{"resourceLogs":[{"scopeLogs":[{"logRecords":[${record}]}]}]}'`,
    )
  }
  return lines
}

function portOf(parts: readonly Part[], name: string, address: RegExp): string | undefined {
  const mine = parts.filter((part) => part.name.toLowerCase().includes(name))
  for (const text of mine.flatMap((part) => addressesOf(part.address))) {
    const port = /:(\d+)(?:\/\S*)?$/.exec(text)?.[1]
    if (address.test(text) && port !== undefined) return port
  }
  return undefined
}

function lookExamples({ portOffset }: ProgramOptions): string[] {
  const run = runsFromClone() ? 'npx dpulse' : 'dpulse'
  const offset = portOffset === 0 ? '' : ` --port-offset ${portOffset}`
  return [
    `${run} logs hello --since 15m${offset}`,
    `${run} query system.cpu.utilization --since 15m${offset}`,
    `${run} ledger${offset}`,
    `${run} top${offset}`,
  ]
}

function runsFromClone(): boolean {
  return process.argv[1]?.endsWith('.ts') === true || process.env.npm_lifecycle_event !== undefined
}

function inGiB(bytes: number): string {
  return bytes >= 2 ** 30
    ? `${Number((bytes / 2 ** 30).toFixed(1))} GiB`
    : `${Math.round(bytes / 2 ** 20)} MiB`
}
