// The two datagrams of DogStatsD that are no metric, as log records.
//
//   _e{<title bytes>,<text bytes>}:<title>|<text>[|d:<Unix s>][|h:<host>][|p:<priority>][|t:<kind>][|k:<key>][|s:<source>][|#tags]
//   _sc|<name>|<0 ok, 1 warning, 2 critical, 3 unknown>[|d:<Unix s>][|h:<host>][|#tags][|m:<message>]
import type { Attributes } from '../../contract/values.ts'
import { tagsOf } from './line.ts'

export interface StatsdEvent {
  readonly body: string
  readonly severity: number
  /** Unix seconds that it claims. */
  readonly seconds: number | undefined
  readonly attributes: Attributes
}

const kinds: Readonly<Record<string, number>> = { error: 17, warning: 13, info: 9, success: 9 }
const statuses = [
  ['ok', 9],
  ['warning', 13],
  ['critical', 17],
  ['unknown', 13],
] as const
/** Letters of sections, and the attributes that they become. */
const names: Readonly<Record<string, string>> = {
  h: 'host',
  p: 'priority',
  t: 'alert_type',
  k: 'aggregation_key',
  s: 'source_type_name',
}

/** An event or service check; the reason as text where it is malformed. */
export function readEvent(text: string): StatsdEvent | string {
  return text.startsWith('_e{') ? readTitled(text) : readCheck(text)
}

function readTitled(text: string): StatsdEvent | string {
  const head = /^_e\{(\d{1,6}),(\d{1,6})\}:/.exec(text)
  if (!head) return 'an event without _e{title length,text length}:'
  const rest = Buffer.from(text.slice(head[0].length))
  const titleBytes = Number(head[1])
  const textBytes = Number(head[2])
  const end = titleBytes + 1 + textBytes
  if (rest.length < end || rest[titleBytes] !== 0x7c)
    return 'an event whose lengths do not fit its title and text'
  const title = rest.toString('utf8', 0, titleBytes)
  const body = rest.toString('utf8', titleBytes + 1, end).replaceAll(/\\{1,2}n/g, '\n')
  const { attributes, seconds } = sections(rest.toString('utf8', end).split('|').slice(1))
  const severity = kinds[attributes.alert_type ?? 'info'] ?? 9
  return {
    body: body === '' ? title : body,
    severity,
    seconds,
    attributes: { 'event.title': title, ...attributes },
  }
}

function readCheck(text: string): StatsdEvent | string {
  const [, name = '', status = '', ...rest] = text.split('|')
  const known = statuses[Number(status)]
  if (!/^\d$/.test(status) || name === '' || !known)
    return 'a service check without a name and a status from 0 to 3'
  const { attributes, seconds, message } = sections(rest)
  return {
    body: message ?? `${name} ${known[0]}`,
    severity: known[1],
    seconds,
    attributes: { 'service_check.name': name, 'service_check.status': known[0], ...attributes },
  }
}

function sections(parts: readonly string[]): {
  attributes: Readonly<Record<string, string>>
  seconds: number | undefined
  message: string | undefined
} {
  const attributes: Record<string, string> = {}
  let seconds: number | undefined
  let message: string | undefined
  for (const part of parts) {
    const letter = part[0] ?? ''
    const value = part.slice(2)
    const name = part[1] === ':' ? names[letter] : undefined
    if (letter === '#') for (const [tag, of] of tagsOf(part.slice(1), ':')) attributes[tag] = of
    else if (part.startsWith('d:') && /^\d{1,10}$/.test(value)) seconds = Number(value)
    else if (part.startsWith('m:')) message = value
    else if (name !== undefined) attributes[name] = value
  }
  return { attributes, seconds, message }
}
