// Bytes of local programs, in the format that a configuration names, as Records: what `exec` reads from a program and
// `mqtt` from a broker.
import * as z from 'zod'
import type { Records } from '../../contract/batch.ts'
import type { Context } from '../../contract/define.ts'
import { PermanentError, messageOf } from '../../contract/errors.ts'

import type { Class, Signal } from '../../contract/signal.ts'
import { globList } from '../filter/globs.ts'
import { LineRecords, precisions } from '../line-protocol/index.ts'
import { jsonToRequest } from '../otlp/json.ts'
import { splitRequest } from '../otlp/split.ts'
import { JsonRecords } from './json.ts'
import { LogGroups } from './log-groups.ts'

/** `json` tells OTLP/JSON from other JSON by what it holds. */
export const formats = ['json', 'line_protocol', 'text', 'otlp'] as const
export type Format = (typeof formats)[number]

/** The keys of a configuration that say how JSON becomes records; spread into that of a plugin. */
export const jsonKeys = {
  message_keys: z
    .array(z.string().min(1).max(200))
    .max(20)
    .default(['message', 'msg', 'log', 'body'])
    .describe('Members of a JSON object that make it a log record, the preferred one first.'),
  counters: z
    .array(z.string().min(1).max(200))
    .max(200)
    .default([])
    .describe('Patterns (* and ?) of metrics from JSON that are totals.'),
}

export interface FormatOptions {
  /** The plugin. */
  readonly scope: string
  readonly format: Format
  /** service.name of what is read. */
  readonly service: string
  readonly messageKeys: readonly string[]
  /** Globs of the metrics that are totals. */
  readonly counters: readonly string[]
  /** Of protobuf, which does not say what it is. */
  readonly signal: Signal
}

export interface Decoded {
  readonly records: Records[]
  readonly refused: number
  readonly class: Class
  /** Why the first was refused. */
  readonly reason: string | undefined
}

const longestText = 256 * 1024
const otlpMembers = { resourceLogs: 'logs', resourceMetrics: 'metrics', resourceSpans: 'traces' } as const

export class FormatDecoder {
  readonly #options: FormatOptions
  readonly #context: Context
  readonly #lines: LineRecords
  readonly #json: JsonRecords
  readonly #texts: LogGroups
  #textRecords: Records[] = []

  constructor(options: FormatOptions, context: Context) {
    this.#options = options
    this.#context = context
    const { scope, service, messageKeys, counters } = options
    const resource = (device: string): Uint8Array =>
      context.resource({
        'service.name': service,
        ...(device === context.device ? {} : { 'host.id': device }),
      })
    const shared = { scope: { name: scope }, device: context.device, resource: resource(context.device) }
    this.#lines = new LineRecords({ scope, device: context.device, resource, deviceTag: undefined })
    const isTotal = globList(counters)
    this.#json = new JsonRecords({
      ...shared,
      messageKeys,
      isCounter: (name) => counters.length > 0 && isTotal(name),
    })
    this.#texts = new LogGroups({ ...shared, take: (records) => void this.#textRecords.push(records) })
  }

  /** `name` begins the names of metrics that JSON makes, `attributes` are put on all that are no line protocol. */
  take(payload: Buffer, name: string, attributes: Readonly<Record<string, string>> = {}): Decoded {
    const now = this.#context.clock.nowUnixNano()
    const { format } = this.#options
    switch (format) {
      case 'line_protocol': {
        const { records, refused, first } = this.#lines.take(payload, precisions.ns ?? 1e9, now)
        const reason = first && `line ${first.line}: ${first.reason} (${first.excerpt})`
        return { records, refused, class: 'resource', reason }
      }
      case 'otlp':
        return this.#otlp(this.#options.signal, payload)
      case 'text':
        return this.#text(payload, attributes, now)
      case 'json':
        return this.#documents(payload, name, attributes, now)
      default:
        return format satisfies never
    }
  }

  /** One document, or one a line. */
  #documents(
    payload: Buffer,
    name: string,
    attributes: Readonly<Record<string, string>>,
    now: bigint,
  ): Decoded {
    const text = payload.toString('utf8').trim()
    if (text === '') return { records: [], refused: 0, class: 'log', reason: undefined }
    const whole = parsed(text)
    const records: Records[] = []
    let refused = 0
    let reason: string | undefined
    const take = (document: unknown, source: string): void => {
      const signal = signalOf(document)
      const taken =
        signal === undefined
          ? this.#json.add(document, name, attributes, now)
          : this.#otlpJson(signal, source, records)
      refused += taken.refused
      reason ??= taken.reason
    }
    if (!(whole instanceof Error)) take(whole, text)
    else {
      for (const line of text.split('\n')) {
        if (line.trim() === '') continue
        const document = parsed(line)
        if (document instanceof Error) {
          refused++
          reason ??= `${document.message.slice(0, 200)}: ${line.slice(0, 100)}`
        } else take(document, line)
      }
    }
    records.push(...this.#json.flush())
    return { records, refused, class: 'log', reason }
  }

  #otlpJson(signal: Signal, text: string, into: Records[]): { refused: number; reason: string | undefined } {
    try {
      const { records, refused, reason } = this.#otlp(signal, jsonToRequest(signal, text))
      into.push(...records)
      return { refused, reason }
    } catch (error) {
      if (!(error instanceof PermanentError)) throw error
      return { refused: 1, reason: messageOf(error) }
    }
  }

  #otlp(signal: Signal, bytes: Uint8Array): Decoded {
    try {
      const { records, rejected } = splitRequest(signal, bytes, this.#context)
      const refused = rejected.reduce((sum, { count }) => sum + count, 0)
      return { records, refused, class: rejected[0]?.class ?? 'log', reason: rejected[0]?.reason }
    } catch (error) {
      if (!(error instanceof PermanentError)) throw error
      return { records: [], refused: 1, class: 'log', reason: messageOf(error) }
    }
  }

  #text(payload: Buffer, attributes: Readonly<Record<string, string>>, now: bigint): Decoded {
    const seconds = Number(now / 1_000_000_000n)
    const nanos = Number(now % 1_000_000_000n)
    for (const line of payload.toString('utf8').split('\n')) {
      const text = line.endsWith('\r') ? line.slice(0, -1) : line
      if (text === '') continue
      const record = this.#texts.begin(0, seconds, nanos, seconds, nanos)
      record.body(text.slice(0, longestText / 3))
      if (text.length > longestText / 3) record.attribute('dpulse.truncated', true)
      for (const [key, value] of Object.entries(attributes)) record.attribute(key, value)
      this.#texts.end(record)
    }
    this.#texts.flush()
    const records = this.#textRecords
    this.#textRecords = []
    return { records, refused: 0, class: 'log', reason: undefined }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    return error instanceof Error ? error : new Error('no JSON')
  }
}

function signalOf(document: unknown): Signal | undefined {
  if (typeof document !== 'object' || document === null) return undefined
  for (const [member, signal] of Object.entries(otlpMembers)) if (member in document) return signal
  return undefined
}
