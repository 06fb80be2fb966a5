// Traffic for tests of failures against real programs: floods of syslog lines, and a probe that sends precious records
// at a steady pace and notes how long each took to the aggregator's journal and to its store.
import { once } from 'node:events'
import { connect } from 'node:net'
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { LogCursor } from '../../plugins/contract/log-cursor.ts'
import { PointCursor } from '../../plugins/contract/point-cursor.ts'
import { decompressSync } from '../../plugins/protocols/compression.ts'
import { apiUrl } from './programs.ts'

/** `count` distinct RFC 5424 lines from number `first` on, octet-counted. */
export function syslogLines(first: number, count: number, name = 'flood'): Buffer {
  const time = `${new Date().toISOString().slice(0, 19)}.000000Z`
  const lines: string[] = []
  for (let index = first; index < first + count; index++) {
    const text = `<134>1 ${time} dpu-7 ${name} 100 ID1 [meta@32473 seq="${index}"] flow ${index} of queue ${index % 97} was offloaded to the port`
    lines.push(`${text.length} ${text}`)
  }
  return Buffer.from(lines.join(''), 'latin1')
}

/** Sends the chunks over one TCP connection, one each `everyMs`, each as soon as the one before has gone. */
export async function sendOverTcp(port: number, chunks: Iterable<Buffer>, everyMs = 0): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const began = performance.now()
  let sent = 0
  for (const chunk of chunks) {
    const waitMs = began + sent++ * everyMs - performance.now()
    if (waitMs > 1) await new Promise((resume) => setTimeout(resume, waitMs))
    if (!socket.write(chunk)) await once(socket, 'drain')
  }
  socket.end()
  await once(socket, 'close')
}

export interface Ledger {
  produced: number
  stored: number
  inFlight: number
  unknown: number
  dropped: Record<string, number>
  balanced: boolean
  streams: {
    collector: string
    device: string
    session: string
    class: string
    produced: number
    stored: number
    inFlight: number
    unknown: number
    dropped: Record<string, number>
    balanced: boolean
  }[]
}

export const ledgerOf = async (portOffset: number): Promise<Ledger> =>
  (await (await fetch(`${apiUrl(portOffset)}/api/ledger`)).json()) as Ledger

/** One figure of the aggregator's Prometheus text. */
export async function measureOf(portOffset: number, name: string): Promise<number> {
  const text = await (await fetch(`${apiUrl(portOffset)}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
}

/** Highest and 99th of 100, in milliseconds, and how many there are. */
export interface Delays {
  count: number
  p50: number
  p99: number
  max: number
}

export function delaysOf(values: Iterable<number>): Delays {
  const sorted = [...values].sort((one, other) => one - other)
  const at = (part: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN)
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

type Kind = 'event' | 'environment'

export interface Probe extends AsyncDisposable {
  /** Stops sending, and waits until everything that was sent has arrived everywhere. */
  finish(): Promise<Record<Kind, { sent: number; answered: Delays; journal: Delays; store: Delays }>>
}

/**
 * Sends an event and a reading of hw.temperature over OTLP to the collector every `everyMs`. Each carries its number, and
 * is timed by one clock, this process's, from before it is sent: `answered` until the source had its answer; `journal`
 * until the aggregator's broker passed it on to a subscriber, which it does once its journal has it; `store` until the
 * first question of the API was asked whose answer holds it, so that whoever asks later than that finds it. Questions
 * follow each other with pauses of 100 ms, and what this process itself is late by is inside all of them.
 */
export async function startProbe(portOffset: number, everyMs = 100): Promise<Probe> {
  const kinds: Record<Kind, Track> = { event: new Track(), environment: new Track() }
  const subscriber = await subscribe(portOffset, kinds)
  const over = new AbortController()
  const run = `probe-${process.pid}-${Date.now()}`
  const sending = sendProbes(portOffset, everyMs, run, kinds, over.signal)
  const stopped = new AbortController()
  const watching = [
    watchEvents(portOffset, run, kinds.event),
    watchReadings(portOffset, run, kinds.environment),
  ].map(async (look) => {
    while (!stopped.signal.aborted) {
      await look().catch(() => undefined)
      await new Promise((resume) => setTimeout(resume, 100))
    }
  })
  const end = async () => {
    over.abort()
    await sending
    stopped.abort()
    await Promise.all(watching)
    await subscriber.endAsync(true)
  }
  return {
    async finish() {
      over.abort()
      await sending
      const until = performance.now() + 20_000
      while (performance.now() < until && !Object.values(kinds).every((track) => track.isComplete)) {
        await new Promise((resume) => setTimeout(resume, 50))
      }
      await end()
      return { event: kinds.event.report(), environment: kinds.environment.report() }
    },
    [Symbol.asyncDispose]: end,
  }
}

/** When each of a kind was sent, and where it was seen first. */
class Track {
  readonly sent = new Map<number, number>()
  readonly answered = new Map<number, number>()
  readonly journal = new Map<number, number>()
  readonly store = new Map<number, number>()

  seen(where: 'answered' | 'journal' | 'store', number: number, atMs = performance.now()): void {
    const sentMs = this.sent.get(number)
    if (sentMs !== undefined && !this[where].has(number)) this[where].set(number, Math.max(0, atMs - sentMs))
  }

  get isComplete(): boolean {
    return this.journal.size === this.sent.size && this.store.size === this.sent.size
  }

  report() {
    const { sent, answered, journal, store } = this
    return {
      sent: sent.size,
      answered: delaysOf(answered.values()),
      journal: delaysOf(journal.values()),
      store: delaysOf(store.values()),
    }
  }
}

async function sendProbes(
  portOffset: number,
  everyMs: number,
  run: string,
  kinds: Record<Kind, Track>,
  over: AbortSignal,
): Promise<void> {
  const under: Promise<void>[] = []
  const began = performance.now()
  for (let number = 0; !over.aborted; number++) {
    const requests = {
      event: ['logs', eventRequest(run, number)],
      environment: ['metrics', readingRequest(run, number)],
    }
    for (const [kind, [path, body]] of Object.entries(requests) as [Kind, [string, unknown]][]) {
      kinds[kind].sent.set(number, performance.now())
      under.push(post(portOffset, path, body).then(() => kinds[kind].seen('answered', number)))
    }
    const waitMs = began + (number + 1) * everyMs - performance.now()
    await new Promise((resume) => setTimeout(resume, Math.max(0, waitMs)))
  }
  await Promise.all(under)
}

async function post(portOffset: number, path: string, body: unknown): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${4318 + portOffset}/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  await answer.arrayBuffer()
  if (!answer.ok) throw new Error(`the probe was refused: ${answer.status}`)
}

const text = (key: string, value: string) => ({ key, value: { stringValue: value } })
const nowNano = () => `${Date.now()}000000`

const eventRequest = (run: string, number: number) => ({
  resourceLogs: [
    {
      resource: { attributes: [text('service.name', run)] },
      scopeLogs: [
        {
          logRecords: [
            { timeUnixNano: nowNano(), eventName: 'probe', body: { stringValue: `${run} ${number}` } },
          ],
        },
      ],
    },
  ],
})

const readingRequest = (run: string, number: number) => ({
  resourceMetrics: [
    {
      resource: { attributes: [text('service.name', run)] },
      scopeMetrics: [
        {
          metrics: [
            {
              name: 'hw.temperature',
              unit: 'Cel',
              gauge: {
                dataPoints: [{ timeUnixNano: nowNano(), attributes: [text('hw.id', run)], asDouble: number }],
              },
            },
          ],
        },
      ],
    },
  ],
})

/** Hears of each batch from the aggregator's broker, which passes a batch on when the journal has it. */
async function subscribe(portOffset: number, kinds: Record<Kind, Track>): Promise<MqttClient> {
  const client = await connectAsync({ host: '127.0.0.1', port: 1883 + portOffset, reconnectPeriod: 200 })
  const [logs, points] = [new LogCursor(), new PointCursor()]
  client.on('message', (topic, payload) => {
    const bytes = decompressSync(payload, 1 << 24)
    if (topic.endsWith('logs')) {
      for (logs.reset(bytes); logs.next();) {
        const body = logs.bodyValue()
        if (typeof body === 'string') kinds.event.seen('journal', Number(body.split(' ')[1]))
      }
    } else {
      for (points.reset(bytes); points.next();) {
        if (points.text(points.name) === 'hw.temperature' && points.valueKind === 'double')
          kinds.environment.seen('journal', points.double)
      }
    }
  })
  await client.subscribeAsync(['dpulse/+/telemetry/event/logs', 'dpulse/+/telemetry/environment/metrics'])
  return client
}

const watchEvents = (portOffset: number, run: string, track: Track) => async () => {
  const parameters = new URLSearchParams({ since: '60s', limit: '1000', where: `service.name=${run}` })
  const askedMs = performance.now()
  const answer = await fetch(`${apiUrl(portOffset)}/api/logs?${parameters}`)
  const { records } = (await answer.json()) as { records: { body: string }[] }
  for (const { body } of records) track.seen('store', Number(body.split(' ')[1]), askedMs)
}

const watchReadings = (portOffset: number, run: string, track: Track) => async () => {
  const parameters = new URLSearchParams({ metric: 'hw.temperature', since: '60s', where: `hw.id=${run}` })
  const askedMs = performance.now()
  const answer = await fetch(`${apiUrl(portOffset)}/api/query?${parameters}`)
  const series = (await answer.json()) as { points: [string, number][] }[]
  for (const { points } of series) for (const [, value] of points) track.seen('store', value, askedMs)
}
