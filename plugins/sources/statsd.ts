// StatsD over UDP, Unix datagrams and TCP: lines are added up where they arrive, and what they add up to is emitted at each
// interval. Totals are cumulative, so a full buffer delays a reading and loses none of what it counted.
import { isUtf8 } from 'node:buffer'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import * as z from 'zod'
import type { Records } from '../contract/batch.ts'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { PermanentError, codeOf } from '../contract/errors.ts'
import { ports } from '../contract/options.ts'
import { portTaken } from '../contract/ports.ts'
import { address, duration, size } from '../contract/settings.ts'
import type { Address } from '../contract/settings.ts'
import type { Class } from '../contract/signal.ts'
import { ListenError, datagramSender, longestPath, receiveDatagrams } from '../protocols/native/index.ts'
import type { DatagramListen, DatagramOptions, DatagramReceiver } from '../protocols/native/index.ts'
import { listenAll, loopback, printHost } from '../protocols/otlp/listen.ts'
import { accountOf } from '../protocols/quota.ts'
import { LogGroups } from '../protocols/records/log-groups.ts'
import { MetricGroups } from '../protocols/records/metric-groups.ts'
import { StatsdSeries, StatsdStreams, classOf, readEvent, serviceOf } from '../protocols/statsd/index.ts'

const longestIdleMs = 20 * 86_400_000

const config = z.strictObject({
  udp: address.optional().describe('UDP address. Without any listener key: port 8125 of loopback.'),
  tcp: address.optional().describe('TCP address, for lines that end with a newline.'),
  unix_datagram: z
    .string()
    .startsWith('/')
    .refine((value) => Buffer.byteLength(value) <= longestPath, `expected at most ${longestPath} bytes`)
    .optional()
    .describe('Path of a Unix datagram socket, as clients of DogStatsD use it.'),
  socket_mode: z
    .string()
    .regex(/^0?[0-7]{3}$/, 'expected an octal mode such as 0666')
    .default('0666')
    .describe('Permissions of the Unix socket.'),
  interval: duration
    .refine((ms) => ms >= 100 && ms <= 3_600_000, 'expected 100ms to 1h')
    .prefault('10s')
    .describe('Time between readings; a set counts its members within it.'),
  buckets: z
    .array(z.number())
    .min(1)
    .max(200)
    .refine((bounds) => bounds.every((bound, index) => index === 0 || bound > (bounds[index - 1] ?? 0)), {
      message: 'expected ascending numbers',
    })
    .default([0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000])
    .describe('Upper bounds of the histograms that timings and distributions become.'),
  max_series: z.int().min(1).max(1_000_000).default(20_000).describe('Most series at once.'),
  expire: duration
    .refine((ms) => ms >= 1000, 'expected 1s or more')
    .prefault('1h')
    .describe('Series without a line for so long are forgotten; they begin anew when they come back.'),
  receive_buffer: size.prefault('4MiB').describe('What the kernel may hold for each socket of datagrams.'),
  max_connections: z.int().min(1).max(10_000).default(256).describe('Most TCP connections at once.'),
  idle_timeout: duration
    .refine((ms) => ms >= 1000 && ms <= longestIdleMs, 'expected 1s to 20d')
    .prefault('1d')
    .describe('TCP connections that send nothing for so long are closed.'),
})
type Config = z.output<typeof config>

const longestDatagram = 64 * 1024
const longestLine = 8 * 1024
/** Events that wait for the next reading. */
const mostEvents = 5000
const newline = 0x0a
const underscore = 0x5f

export default defineSource({
  name: 'statsd',
  summary: 'Counters, gauges, timings and sets of StatsD, with the tags of DogStatsD and Telegraf.',
  config,
  signals: ['metrics', 'logs'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  detect: async () => ({ leftOut: 'takes what programs send to its port, which only a configuration opens' }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const intake = new StatsdIntake(config, context)
  const receiver = await openSockets(config, context, intake)
  const { admission } = context
  const isWholeCharged = () => admission.hasQuota() && admission.senderBy() === 'address'
  const streams = new StatsdStreams({
    // A connection waits as a whole; lines of one service among those of others on it cannot.
    take: (bytes, start, end, wasCut, peer) =>
      intake.line(bytes, start, end, wasCut, isWholeCharged() ? undefined : peer),
    account: (peer) => (isWholeCharged() ? admission.sender(peer) : undefined),
    longest: longestLine,
    mostConnections: config.max_connections,
    idleMs: config.idle_timeout,
    log: context.log,
    clock: context.clock,
  })
  const emitAll = async (): Promise<void> => {
    await Promise.all(intake.reading().map((records) => emit(records)))
  }
  try {
    const opened = (receiver?.listen ?? []).map(urlOf)
    if (config.tcp !== undefined) opened.push(...(await openStreams(config.tcp, streams)))
    context.ready(opened.join(', '))
    const every = context.clock.every(config.interval, signal, emitAll)
    await Promise.race([every, ...(receiver ? [receiver.failed] : [])])
  } finally {
    await Promise.all([streams.close(), receiver?.stop()])
    await emitAll().catch((error: unknown) => {
      // The program stops: nobody takes the last reading any more.
      if (codeOf(error) !== 'STOPPING') throw error
    })
  }
}

async function openStreams(at: Address, streams: StatsdStreams): Promise<string[]> {
  const servers = await listenAll(
    'StatsD',
    [at],
    createServer,
    '--port-offset N or the address of the source',
  )
  for (const server of servers) streams.serve(server)
  return servers.map((server) => {
    const { address: host, port } = server.address() as AddressInfo
    return `tcp://${printHost(host)}:${port}`
  })
}

/** Adds datagrams up, and tells what they add up to. */
export class StatsdIntake {
  readonly #context: Context
  readonly #series: StatsdSeries
  readonly #metrics: MetricGroups
  readonly #logs: LogGroups
  #records: Records[] = []
  #events = 0
  #refused = 0
  #lost = 0
  readonly #beyond = new Map<Class, number>()
  #first: { reason: string; line: string } | undefined

  constructor(config: Config, context: Context) {
    this.#context = context
    this.#series = new StatsdSeries({
      bounds: config.buckets,
      mostSeries: config.max_series,
      expireMs: config.expire,
      nowUnixNano: () => context.clock.nowUnixNano(),
    })
    const options = {
      scope: { name: 'statsd' },
      device: context.device,
      resource: context.resource({ 'service.name': 'statsd' }),
      take: (records: Records) => void this.#records.push(records),
    }
    this.#metrics = new MetricGroups(options)
    this.#logs = new LogGroups(options)
  }

  /** Takes the lines of one datagram; those of `peer` beyond its quota are dropped and counted. */
  take(bytes: Buffer, start: number, end: number, ascii: boolean, peer?: string): void {
    const limited = this.#context.admission.hasQuota() ? peer : undefined
    const isValid = ascii || isUtf8(bytes.subarray(start, end))
    const text = isValid ? bytes : Buffer.from(bytes.toString('utf8', start, end))
    const last = isValid ? end : text.length
    const nowMs = this.#context.clock.elapsedMs()
    for (let at = isValid ? start : 0; at < last;) {
      const found = text.indexOf(newline, at)
      const next = found < 0 || found > last ? last : found
      const lineEnd = next > at && text[next - 1] === 0x0d ? next - 1 : next
      const isTaken = lineEnd > at && (limited === undefined || this.#admits(limited, text, at, lineEnd))
      if (isTaken) this.#line(text, at, lineEnd, nowMs)
      at = next + 1
    }
  }

  /** Takes one line of a stream; one that was cut says something else than was meant. */
  line(bytes: Buffer, start: number, end: number, wasCut: boolean, peer?: string): void {
    if (!wasCut) return this.take(bytes, start, end, false, peer)
    this.#refuse('it is too long', bytes, start, end)
  }

  #admits(peer: string, bytes: Buffer, start: number, end: number): boolean {
    const text = bytes.toString('utf8', start, end)
    const sender = accountOf(this.#context.admission, peer, () => serviceOf(text))
    const name = classOf(text)
    if (sender === undefined || sender.admits(name, 1, end - start)) return true
    this.#beyond.set(name, (this.#beyond.get(name) ?? 0) + 1)
    return false
  }

  #line(bytes: Buffer, start: number, end: number, nowMs: number): void {
    const isEvent = bytes[start] === underscore && (bytes[start + 1] === 0x65 || bytes[start + 2] === 0x63)
    const reason = isEvent ? this.#event(bytes, start, end) : this.#series.take(bytes, start, end, nowMs)
    if (reason !== undefined) this.#refuse(reason, bytes, start, end)
  }

  #refuse(reason: string, bytes: Buffer, start: number, end: number): void {
    this.#refused++
    this.#first ??= { reason, line: bytes.toString('utf8', start, Math.min(end, start + 100)) }
  }

  #event(bytes: Buffer, start: number, end: number): string | undefined {
    const text = bytes.toString('utf8', start, end)
    if (!text.startsWith('_e{') && !text.startsWith('_sc|')) {
      return this.#series.take(bytes, start, end, this.#context.clock.elapsedMs())
    }
    const event = readEvent(text)
    if (typeof event === 'string') return event
    if (this.#events >= mostEvents) {
      this.#lost++
      return undefined
    }
    this.#events++
    const now = this.#context.clock.nowUnixNano()
    const seconds = Number(now / 1_000_000_000n)
    const nanos = Number(now % 1_000_000_000n)
    const claimed = event.seconds ?? seconds
    const record = this.#logs.begin(
      event.severity,
      claimed,
      event.seconds === undefined ? nanos : 0,
      seconds,
      nanos,
    )
    record.body(event.body)
    for (const [key, value] of Object.entries(event.attributes)) record.attribute(key, value)
    this.#logs.end(record)
    return undefined
  }

  /** Everything since the last reading. */
  reading(): Records[] {
    this.#series.write(this.#metrics, this.#context.clock.elapsedMs())
    this.#metrics.flush()
    this.#logs.flush()
    this.#report()
    const records = this.#records
    this.#records = []
    this.#events = 0
    return records
  }

  #report(): void {
    for (const [name, count] of this.#beyond) this.#context.dropped(name, 'budget', count)
    this.#beyond.clear()
    if (this.#lost > 0) this.#context.dropped('log', 'overflow', this.#lost)
    if (this.#refused > 0) {
      this.#context.dropped('resource', 'invalid', this.#refused)
      this.#context.log.warn('StatsD lines were refused', { count: this.#refused, ...this.#first })
    }
    this.#lost = this.#refused = 0
    this.#first = undefined
  }
}

async function openSockets(
  config: Config,
  context: Context,
  intake: StatsdIntake,
): Promise<DatagramReceiver | undefined> {
  const isDefault = [config.udp, config.unix_datagram, config.tcp].every((one) => one === undefined)
  const udp: Address[] = config.udp
    ? [{ ...config.udp, host: config.udp.host || '0.0.0.0' }]
    : isDefault
      ? loopback(ports.statsd + context.portOffset)
      : []
  const unix: DatagramListen[] =
    config.unix_datagram === undefined
      ? []
      : [{ path: config.unix_datagram, mode: parseInt(config.socket_mode, 8) }]
  const options: Omit<DatagramOptions<string>, 'listen'> = {
    receiveBuffer: config.receive_buffer,
    longest: longestDatagram,
    log: context.log,
    peer: (host, credentials) => datagramSender(host, credentials, context.admission),
    take: (bytes, start, end, peer, ascii) => intake.take(bytes, start, end, ascii, peer),
    pause: () => undefined,
    dropped: (count) => context.dropped('resource', 'overflow', count),
  }
  if (udp.length + unix.length === 0) return undefined
  try {
    return await receiveDatagrams({ ...options, listen: [...udp, ...unix] })
  } catch (error) {
    if (!(error instanceof ListenError)) throw error
    const failed = error.listen
    // A machine without IPv6 is no reason to fail while IPv4 works.
    if (isDefault && 'host' in failed && failed.host === '::1' && error.code !== 'EADDRINUSE')
      return receiveDatagrams({ ...options, listen: udp.slice(0, 1) })
    throw refusal(error)
  }
}

function refusal(cause: ListenError): PermanentError {
  const at = cause.listen
  if (cause.code === 'EADDRINUSE') {
    const text =
      'path' in at
        ? `${at.path} for StatsD is taken; choose another path`
        : portTaken('StatsD', at.port, 'udp', '--port-offset N or the address of the source')
    return new PermanentError('ADDRESS_IN_USE', text, { cause })
  }
  const code = cause.code === 'EACCES' || cause.code === 'EPERM' ? 'PERMISSION_DENIED' : 'CONFIG_INVALID'
  return new PermanentError(code, `StatsD cannot listen on ${urlOf(at)}`, { cause })
}

const urlOf = (listen: DatagramListen): string =>
  'path' in listen ? `unix-datagram:${listen.path}` : `udp://${printHost(listen.host)}:${listen.port}`
