// `dpulse logs --follow`: server-sent events from /api/live. The tail is opened before history is asked for, so that
// nothing falls between; when the connection breaks it comes back and asks for what passed meanwhile.
import process from 'node:process'
import { LogPage, LogRecord } from './answers.ts'
import { ask, openStream } from './asking.ts'
import type { Parameters } from './asking.ts'
import { CommandFailure } from './failure.ts'
import type { LogOptions } from './logs.ts'
import { note } from './terminal.ts'

const mostIds = 20_000

export async function follow(
  filter: Parameters,
  options: LogOptions,
  line: (record: LogRecord) => string,
): Promise<void> {
  if (options.until !== undefined) throw new CommandFailure('--follow has no end: leave out --until', 2)
  const seen = new Set<string>()
  let newest: string | undefined
  const show = (record: LogRecord) => {
    if (seen.has(record.id)) return
    seen.add(record.id)
    if (seen.size > mostIds) for (const id of [...seen].slice(0, mostIds / 2)) seen.delete(id)
    if (newest === undefined || record.time > newest) newest = record.time
    process.stdout.write(`${line(record)}\n`)
  }
  let history: Parameters = {
    since: options.since,
    limit: options.limit ?? (options.since === undefined ? 10 : 1000),
  }
  for (let failures = 0; ;) {
    try {
      const stream = await openStream(options, '/api/live', filter, new AbortController().signal)
      const page = await ask(options, '/api/logs', { ...filter, ...history }, LogPage)
      for (const record of page.records) show(record)
      failures = 0
      for await (const event of eventsOf(stream)) {
        if (event.name === 'record') show(LogRecord.parse(JSON.parse(event.data)))
        if (event.name === 'missed')
          note(`more came than could be shown: ${missedOf(event.data)} records left out here`)
      }
      note('the connection ended; connecting again')
    } catch (error) {
      // At the first attempt the person should know; later the aggregator may be restarting.
      if (newest === undefined && failures === 0 && seen.size === 0) throw error
      if (error instanceof CommandFailure && error.exitCode === 2) throw error
      if (failures === 0) note('the connection was lost; trying again until it is back')
      failures += 1
    }
    history = { since: newest ?? 'now', limit: 10_000 }
    await new Promise((resolve) => setTimeout(resolve, Math.min(5000, 250 * 2 ** failures)))
  }
}

interface ServerEvent {
  name: string
  data: string
}

/** Server-sent events (WHATWG HTML §9.2), as far as this API uses them: `event` and one line of `data`. */
export async function* eventsOf(stream: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  let name = 'message'
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true })
    if (rest.length > 64 * 1024 * 1024) throw new CommandFailure('the live tail sent a line without end', 1)
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('event: ')) name = line.slice(7)
      if (line.startsWith('data: ')) yield { name, data: line.slice(6) }
      if (line === '') name = 'message'
    }
  }
}

function missedOf(data: string): string {
  const { missed } = JSON.parse(data) as { missed?: unknown }
  return String(missed)
}
