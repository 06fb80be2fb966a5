// What the collector's API says of log records: `/api/logs`, the newest that are in memory. Parameters and answers are those
// of the aggregator's API (DESIGN §9).
import type { LogFilter, Match } from '../plugins/protocols/log-json.ts'
import { parseSeverity, parseTime, takes } from '../plugins/protocols/log-question.ts'
import type { Tail, TailQuery } from './tail.ts'

/** A parameter is wrong; the message says what it takes. */
export class BadParameter extends Error {
  override readonly name = 'BadParameter'
  readonly parameter: string
  constructor(parameter: string, message: string) {
    super(`${parameter}: ${message}`)
    this.parameter = parameter
  }
}

const mostRecords = 10_000
const filterNames = ['text', 'device', 'severity', 'where']

/** @throws BadParameter */
export function logsPage(tail: Tail, parameters: URLSearchParams): { records: object[] } {
  const query: TailQuery = { ...filterOf(parameters, ['since', 'until', 'limit']), limit: 1000 }
  const now = BigInt(Date.now()) * 1_000_000n
  for (const name of ['since', 'until'] as const) {
    const text = single(parameters, name)
    if (text === undefined) continue
    const time = parseTime(text, now)
    if (time === undefined) throw new BadParameter(name, takes.time)
    query[name] = time
  }
  const limit = single(parameters, 'limit')
  if (limit !== undefined) {
    query.limit = /^\d{1,6}$/.test(limit) ? Number(limit) : 0
    if (query.limit < 1 || query.limit > mostRecords)
      throw new BadParameter('limit', `takes a whole number from 1 to ${mostRecords}`)
  }
  return { records: tail.recent(query) }
}

/** @throws BadParameter where the parameter is not known, or not what it takes. */
export function filterOf(parameters: URLSearchParams, more: readonly string[]): LogFilter {
  const known = [...filterNames, ...more]
  for (const name of parameters.keys()) {
    if (!known.includes(name)) throw new BadParameter(name, `a collector knows only ${known.join(', ')}`)
  }
  const filter: LogFilter = { where: parameters.getAll('where').map(matchOf) }
  const text = single(parameters, 'text')
  if (text !== undefined) filter.text = text
  const device = parameters.getAll('device').flatMap((names) => names.toLowerCase().split(','))
  if (device.length > 0) filter.device = device
  const severity = single(parameters, 'severity')
  if (severity !== undefined) {
    const number = parseSeverity(severity)
    if (number === undefined) throw new BadParameter('severity', takes.severity)
    filter.severity = number
  }
  return filter
}

export function single(parameters: URLSearchParams, name: string): string | undefined {
  const [value, ...more] = parameters.getAll(name)
  if (more.length > 0) throw new BadParameter(name, 'takes one value; give it once')
  return value
}

function matchOf(text: string): Match {
  const at = text.indexOf('=')
  if (at < 1) throw new BadParameter('where', 'takes key=value')
  return { key: text.slice(0, at), value: text.slice(at + 1) }
}
