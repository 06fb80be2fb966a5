// `dpulse logs`: pages back through /api/logs until --limit is filled, prints oldest first; --follow then tails.
import process from 'node:process'
import { once } from 'node:events'
import { LogPage } from './answers.ts'
import type { LogRecord } from './answers.ts'
import { ask } from './asking.ts'
import type { Parameters } from './asking.ts'
import type { ChoiceOptions } from './devices.ts'
import { follow } from './follow.ts'
import { createPages } from './pages.ts'
import { fitted, note, printable, styled, terminalWidth, textOf } from './terminal.ts'
import type { Style } from './terminal.ts'

export interface LogOptions extends ChoiceOptions {
  severity?: string
  since?: string
  until?: string
  where?: readonly string[]
  limit?: number
  follow?: boolean
}

const mostOnPage = 5000

export async function logs(text: string | undefined, options: LogOptions): Promise<void> {
  const { device, selector, severity, where } = options
  const filter: Parameters = { text, device, selector, severity, where }
  if (options.follow === true) return follow(filter, options, format(options))
  // Both ends are fixed now, so that paging through a store that grows ends where it began.
  const range = { since: options.since, until: options.until }
  const count = await printHistory({ ...filter, ...range }, options.limit ?? 1000, options)
  if (count === 0) note('no records fit')
  return undefined
}

async function printHistory(filter: Parameters, limit: number, options: LogOptions): Promise<number> {
  const line = format(options)
  using pages = createPages()
  let count = 0
  for (let before: string | undefined; count < limit;) {
    const asked = Math.min(mostOnPage, limit - count)
    const page = await ask(options, '/api/logs', { ...filter, limit: asked, next: before }, LogPage)
    if (page.records.length > 0)
      pages.push(page.records.map(line).join(options.output === 'json' ? ',\n' : '\n'))
    count += page.records.length
    before = page.next
    if (before === undefined) break
  }
  if (options.output === 'json') await write('[')
  let separator = ''
  for (const page of pages.drain()) {
    await write(separator + page)
    separator = options.output === 'json' ? ',\n' : '\n'
  }
  if (options.output === 'json') await write(']\n')
  else if (count > 0) await write('\n')
  return count
}

async function write(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain')
}

/** One record as one line, as JSON or for people. */
export function format(options: LogOptions): (record: LogRecord) => string {
  if (options.output === 'json') return (record) => JSON.stringify(record)
  const width = terminalWidth()
  return (record) => formatLine(record, width)
}

export function formatLine(record: LogRecord, width: number | undefined): string {
  const time = `${record.time.slice(0, 10)} ${record.time.slice(11, 23)}Z`
  const severity = severityName(record.severityNumber, record.severityText).padEnd(6)
  const device = printable(record.device).padEnd(12)
  const program = printable(programOf(record))
  const head = `${time} ${severity} ${device} `
  const body = printable(textOf(record.body) || record.eventName)
  const text = program === '' ? body : `${program}: ${body}`
  const shown = width === undefined ? text : fitted(text, Math.max(20, width - head.length))
  const style = severityStyle(record.severityNumber)
  return `${styled('dim', time)} ${styled(style, severity)} ${styled('cyan', device)} ${shown}`
}

function programOf({ attributes, resource }: LogRecord): string {
  return textOf(attributes['syslog.appname'] ?? resource['service.name'] ?? '')
}

/** Short and of one vocabulary, whatever the device called it. */
export function severityName(number: number, text: string): string {
  if (number === 0) return printable(text.toLowerCase()).slice(0, 6)
  return ['trace', 'debug', 'info', 'warn', 'error', 'fatal'][Math.floor((number - 1) / 4)] ?? ''
}

function severityStyle(number: number): Style {
  if (number >= 17) return 'red'
  if (number >= 13) return 'yellow'
  return number > 0 && number < 9 ? 'dim' : 'green'
}
