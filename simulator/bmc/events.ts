// Events of a BMC: a ring of the last ones, from which streams go on and subscriptions are served. New entries of the log become
// events; so do changes of tasks.
import type { ServerResponse } from 'node:http'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { Subscription } from './subscriptions.ts'

/** What a client wants to hear; what is undefined, it wants all of. */
export interface EventFilter {
  readonly messageIds?: readonly string[] | undefined
  readonly prefixes?: readonly string[] | undefined
}

export interface EventRecord {
  readonly messageId: string
  readonly message: string
  readonly args: readonly string[]
  readonly severity: string
  readonly timestamp: string
  /** The resource that it is about. */
  readonly origin: string | undefined
  /** Where a log has it. */
  readonly entry: string | undefined
}

interface RingEvent {
  readonly id: number
  readonly messageId: string
  readonly record: Json
}

interface Stream {
  readonly response: ServerResponse
  readonly filter: EventFilter
  lastMs: number
}

const mostRemembered = 100
export const mostStreams = 10
export const mostSubscriptions = 20
/** A client that reads no more has so much waiting for it when its stream ends. */
const mostWaiting = 256 * 1024
const heartbeatMs = 30_000

export class Events {
  readonly subscriptions = new Map<string, Subscription>()
  readonly #streams = new Set<Stream>()
  #ring: RingEvent[] = []
  #next = 1

  get isActive(): boolean {
    return this.#streams.size > 0 || this.subscriptions.size > 0
  }

  get streams(): number {
    return this.#streams.size
  }

  add({ messageId, message, args, severity, timestamp, origin, entry }: EventRecord): void {
    const id = this.#next++
    const record: Json = {
      '@odata.type': '#Event.v1_7_0.EventRecord',
      EventType: 'Event',
      EventId: String(id),
      EventTimestamp: timestamp,
      MemberId: '0',
      Message: message,
      MessageArgs: args,
      MessageId: messageId,
      MessageSeverity: severity,
      Severity: severity,
      ...(origin === undefined ? {} : { OriginOfCondition: { '@odata.id': origin } }),
      ...(entry === undefined ? {} : { LogEntry: { '@odata.id': entry } }),
    }
    const event = { id, messageId, record }
    this.#ring.push(event)
    if (this.#ring.length > mostRemembered) this.#ring = this.#ring.slice(-mostRemembered)
    for (const one of this.#streams) if (wants(one.filter, messageId)) this.#write(one, event)
    for (const one of this.subscriptions.values()) {
      if (wants(one.filter, messageId)) one.offer(payloadOf(event, one.context))
    }
  }

  /** @param after The last that the client has seen: it gets what came since, as far as that is remembered. */
  open(response: ServerResponse, filter: EventFilter, after: number | undefined): void {
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache',
      'OData-Version': '4.0',
    })
    response.write(': the stream of events\n\n')
    const stream: Stream = { response, filter, lastMs: performance.now() }
    this.#streams.add(stream)
    response.once('close', () => this.#streams.delete(stream))
    if (after === undefined) return
    // A number that was never given is of before a restart: then all is new.
    const since = after >= this.#next ? 0 : after
    for (const event of this.#ring)
      if (event.id > since && wants(filter, event.messageId)) this.#write(stream, event)
  }

  /** Sends what is due: heartbeats, and deliveries that are to be tried again. */
  advance(): void {
    for (const one of this.#streams) {
      if (performance.now() - one.lastMs < heartbeatMs) continue
      one.lastMs = performance.now()
      one.response.write(':\n\n')
    }
    for (const [id, one] of this.subscriptions) {
      one.advance()
      if (one.isOver) this.subscriptions.delete(id)
    }
  }

  /** As when the BMC restarts: streams break, numbers begin anew, subscriptions stay. */
  restart(): void {
    for (const { response } of this.#streams) response.destroy()
    this.#ring = []
    this.#next = 1
  }

  close(): void {
    this.restart()
    for (const one of this.subscriptions.values()) one.close()
    this.subscriptions.clear()
  }

  #write(stream: Stream, event: RingEvent): void {
    const { response } = stream
    stream.lastMs = performance.now()
    response.write(`id: ${event.id}\ndata: ${JSON.stringify(payloadOf(event, ''))}\n\n`)
    if (response.writableLength > mostWaiting) response.destroy()
  }
}

const payloadOf = ({ id, record }: RingEvent, context: string): Json => ({
  '@odata.type': '#Event.v1_7_0.Event',
  Id: String(id),
  Name: 'Event Log',
  Context: context,
  Events: [{ ...record, Context: context }],
})

/** `Base` of `Base.1.15.0.Success`. */
const prefixOf = (messageId: string): string => messageId.split('.')[0] ?? ''

/** Clients name messages with or without the registry's version. */
const bare = (messageId: string): string => messageId.replace(/(\.\d+)+(?=\.)/, '')

function wants({ messageIds, prefixes }: EventFilter, messageId: string): boolean {
  if (prefixes && !prefixes.includes(prefixOf(messageId))) return false
  return (
    !messageIds ||
    messageIds.some((one) => bare(one) === bare(messageId) || one === bare(messageId).split('.').at(-1))
  )
}

const filterable = { MessageId: 'messageIds', RegistryPrefix: 'prefixes' } as const

/**
 * `(RegistryPrefix eq 'Update' or RegistryPrefix eq 'TaskEvent')`: what DSP0266 §13.5.2 allows, of the properties that are
 * offered. Undefined where it is none of that.
 */
export function filterOf(given: string | null): EventFilter | undefined {
  const found: { messageIds?: string[]; prefixes?: string[] } = {}
  for (const term of (given ?? '').replaceAll(/[()]/g, ' ').split(/\s+(?:or|and)\s+/)) {
    if (term.trim() === '') continue
    const [, name = '', value = ''] = /^\s*(\w+)\s+eq\s+'?([^']*?)'?\s*$/.exec(term) ?? []
    if (name === 'EventFormatType' && value === 'Event') continue
    if (name !== 'MessageId' && name !== 'RegistryPrefix') return undefined
    const key = filterable[name]
    ;(found[key] ??= []).push(value)
  }
  return found
}

/** The header of a client that reconnects. */
export const lastEventIdOf = (given: unknown): number | undefined =>
  typeof given === 'string' && /^\d{1,12}$/.test(given) ? Number(given) : undefined
