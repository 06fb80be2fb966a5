// What syslog costs: parsing into OTLP bytes beside a plain parser that builds objects, TCP into a null emit, and the
// rate at which UDP loses nothing, by recvmmsg and by node:dgram. One table; run it with `npm run bench syslog`.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../collector/clock.ts'
import { encodeResource, unlimited } from '../plugins/contract/index.ts'
import type { Records } from '../plugins/contract/index.ts'
import { inetAddress, receiveDatagrams, receivePlain } from '../plugins/protocols/native/index.ts'
import { Connections, Intake, SyslogParser, encodeAttribute } from '../plugins/protocols/syslog/index.ts'
import type { Origin } from '../plugins/protocols/syslog/index.ts'
import { printTable } from './measure/process.ts'

const log = { error: console.error, warn: console.error, info: () => undefined, debug: () => undefined }
const resource = encodeResource({ 'host.id': 'bench', 'service.name': 'syslog' })
const maxLength = 256 * 1024
const nowUnixNano = (): bigint => BigInt(Date.now()) * 1_000_000n
const origin: Origin = { local: false, peer: encodeAttribute('network.peer.address', '127.0.0.1') }

/** 204 bytes on average, from eight programs, each with its own text and number. */
function modern(index: number): string {
  const time = new Date(1_795_000_000_000 + index).toISOString()
  const host = `dpu-r12-s${index % 8}.example.com`
  const data = `[meta sequenceId="${index}" sysUpTime="3700" language="en"]`
  const text = `interface p${index % 2} changed state, request ${index * 7919}, queue depth within limits`
  return `<${134 + (index % 4)}>1 ${time} ${host} app${index % 8} ${4000 + (index % 8)} ID47 ${data} ${text}`
}
const old = (index: number): string =>
  `<30>Nov 21 10:${String(Math.floor(index / 6000) % 60).padStart(2, '0')}:${String(Math.floor(index / 100) % 60).padStart(2, '0')} ` +
  `dpu-r12-s${index % 8} app${index % 8}[${4000 + (index % 8)}]: request ${index * 7919} was served in time`

const modernPattern =
  /^<(\d{1,3})>(\d{1,3}) (\S+) (\S+) (\S+) (\S+) (\S+) (-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: (?:\ufeff)?([\s\S]*))?$/
const oldPattern = /^<(\d{1,3})>(\w{3} [ \d]\d \d\d:\d\d:\d\d) (\S+) ([^\s:[]+)(?:\[(\d+)\])?: ([\s\S]*)$/
const paramPattern = /(\S+)="((?:[^"\\]|\\.)*)"/g

/** What one would write first: text, two patterns, an object with a map of the structured data. */
function plainParse(bytes: Buffer): object {
  const text = bytes.toString()
  const found = modernPattern.exec(text)
  if (found === null) {
    const [, pri, time, host, app, proc, message] = oldPattern.exec(text) ?? []
    return { pri: Number(pri), time: Date.parse(`${time} 2026`), host, app, proc, message }
  }
  const [, pri, version, time = '', host, app, proc, id, data = '', message] = found
  const params = Object.fromEntries([...data.matchAll(paramPattern)].map(([, name, value]) => [name, value]))
  return { pri: Number(pri), version, time: Date.parse(time), host, app, proc, id, params, message }
}

const lines = 20_000
const rounds = 25

const rows: string[][] = [['', 'records/s', 'µs CPU/record', '']]
function row(what: string, perSecond: number, micros: number, note: string): void {
  rows.push([what, Math.round(perSecond).toLocaleString('en'), micros.toFixed(2), note])
}

/** Microseconds of CPU per call of `each`: the best of several rounds, so that other work of the machine counts less. */
function measure(each: (round: number) => void, calls: number): number {
  let best = Infinity
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage()
    each(round)
    const { user, system } = process.cpuUsage(before)
    if (round > 4) best = Math.min(best, (user + system) / calls)
  }
  return best
}

function parsing(name: string, make: (index: number) => string): void {
  const messages = Array.from({ length: lines }, (_, index) => Buffer.from(make(index)))
  const size = messages.reduce((sum, message) => sum + message.length, 0) / lines
  let encoded = 0
  const parser = new SyslogParser({ device: 'bench', resource, maxLength, timezone: 'UTC' }, (records) => {
    encoded += records.bytes.length
  })
  const region = Buffer.concat(messages)
  const fused = measure(() => {
    parser.observedAt(nowUnixNano())
    let at = 0
    for (const message of messages) {
      parser.parse(region, at, at + message.length, origin, true, false)
      at += message.length
    }
    parser.flush()
  }, lines)
  let kept: object = {}
  const plain = measure(() => {
    for (const message of messages) kept = plainParse(message)
  }, lines)
  if (Object.keys(kept).length < 6) throw new Error('the plain parser read nothing')
  const each = Math.round(encoded / rounds / lines)
  row(`parse ${name} into OTLP`, 1e6 / fused, fused, `${Math.round(size)} B become ${each} B`)
  row(`parse ${name} by patterns into an object`, 1e6 / plain, plain, 'not encoded yet')
}

const intakeOf = (canWait: boolean, emit: (records: Records) => void, dropped: (count: number) => void) =>
  new Intake({
    device: 'bench',
    resource,
    maxLength,
    timezone: 'UTC',
    canWait,
    queue: 16 * 1024 * 1024,
    log,
    admission: unlimited,
    nowUnixNano,
    emit: async (records) => emit(records),
    dropped: (_name, _reason, count) => dropped(count),
  })

function child(...options: string[]): ChildProcess {
  return spawn(process.execPath, [fileURLToPath(import.meta.url), ...options], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
}

async function tcp(counted: boolean): Promise<void> {
  const total = 1_500_000
  let count = 0
  const done = Promise.withResolvers<void>()
  const intake = intakeOf(
    true,
    (records) => {
      count += records.count
      if (count >= total) done.resolve()
    },
    () => undefined,
  )
  const connections = new Connections({
    intake,
    maxLength,
    mostConnections: 10,
    idleMs: 60_000,
    log,
    clock: systemClock,
    admission: unlimited,
    kernelEvents: 'others',
    processOf: async () => undefined,
  })
  const server = createServer()
  connections.serve(server, 'connection', false)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = server.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  const first = once(server, 'connection')
  const sender = child('send-tcp', String(port), String(total), counted ? 'counted' : 'lines')
  await first
  const cpu = process.cpuUsage()
  const began = performance.now()
  await done.promise
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const framing = counted ? 'octet counting' : 'newlines'
  row(
    `TCP, ${framing}, null emit`,
    total / seconds,
    (user + system) / total,
    'one connection, all records taken',
  )
  if (sender.exitCode === null) await once(sender, 'exit')
  await connections.close()
}

async function sendTcp(port: number, total: number, counted: boolean): Promise<void> {
  const chunks: Buffer[] = []
  for (let at = 0; at < lines; at += 500) {
    const texts = Array.from({ length: 500 }, (_, index) => modern(at + index))
    chunks.push(Buffer.from(texts.map((text) => (counted ? `${text.length} ${text}` : `${text}\n`)).join('')))
  }
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  for (let sent = 0, index = 0; sent < total; sent += 500, index++) {
    if (!socket.write(chunks[index % chunks.length] ?? '')) await once(socket, 'drain')
  }
  socket.end()
  await once(socket, 'close')
}

async function udp(name: string, receive: typeof receiveDatagrams): Promise<void> {
  let best = 0
  let cost = 0
  let note = ''
  for (const rate of [25_000, 50_000, 100_000, 150_000, 200_000, 300_000, 400_000]) {
    const total = rate * 2
    let count = 0
    let lost = 0
    const intake = intakeOf(
      false,
      (records) => void (count += records.count),
      (dropped) => void (lost += dropped),
    )
    const receiver = await receive<Origin>({
      listen: [{ host: '127.0.0.1', port: 0 }],
      receiveBuffer: 16 * 1024 * 1024,
      longest: maxLength,
      log,
      peer: () => origin,
      take: (bytes, start, end, peer, ascii, truncated) =>
        intake.take(bytes, start, end, peer, ascii, truncated),
      pause: () => intake.flush(),
      dropped: (dropped) => void (lost += dropped),
    })
    const [listen] = receiver.listen
    const port = listen !== undefined && 'port' in listen ? listen.port : 0
    const cpu = process.cpuUsage()
    const sender = child('send-udp', String(port), String(total), String(rate))
    let reached = 0
    sender.on('message', (perSecond) => void (reached = Number(perSecond)))
    await once(sender, 'exit')
    await receiver.stop()
    await intake.end()
    const { user, system } = process.cpuUsage(cpu)
    if (count + lost !== total) throw new Error(`${total} sent, ${count} received, ${lost} counted as lost`)
    if (lost > 0) {
      note = `at ${rate.toLocaleString('en')}/s ${lost.toLocaleString('en')} of ${total.toLocaleString('en')} lost, all counted`
      break
    }
    // A busy machine may be too slow to send as fast as it should.
    best = Math.max(best, reached)
    cost = (user + system) / total
  }
  row(`UDP by ${name}, none lost`, best, cost, note)
}

// sendmmsg of 32, paced by the clock; a sender of Node's own would be the slowest part.
async function sendUdp(port: number, total: number, rate: number): Promise<void> {
  const { default: koffi } = await import('koffi')
  const libc = koffi.load(null)
  const socket = libc.func('int socket(int, int, int)') as unknown as (
    a: number,
    b: number,
    c: number,
  ) => number
  const join = libc.func('int connect(int, const void *, uint32_t)') as unknown as (
    fd: number,
    address: Uint8Array,
    size: number,
  ) => number
  const send = libc.func('int sendmmsg(int, void *, unsigned int, int)') as unknown as (
    fd: number,
    messages: Uint8Array,
    count: number,
    flags: number,
  ) => number
  const fd = socket(2, 2, 0)
  const address = inetAddress('127.0.0.1', port) ?? new Uint8Array(16)
  join(fd, address, address.length)
  const burst = 32
  const batches = Array.from({ length: 64 }, (_, batch) => {
    const texts = Array.from({ length: burst }, (_, index) => Buffer.from(modern(batch * burst + index)))
    const data = Buffer.concat(texts)
    const vectors = Buffer.alloc(burst * 16)
    const messages = Buffer.alloc(burst * 64)
    let at = 0
    for (const [index, text] of texts.entries()) {
      vectors.writeBigUInt64LE(koffi.address(data) + BigInt(at), index * 16)
      vectors.writeBigUInt64LE(BigInt(text.length), index * 16 + 8)
      messages.writeBigUInt64LE(koffi.address(vectors) + BigInt(index * 16), index * 64 + 16)
      messages.writeBigUInt64LE(1n, index * 64 + 24)
      at += text.length
    }
    // C holds the addresses of all three.
    return { data, vectors, messages }
  })
  const began = performance.now()
  const pause = new Int32Array(new SharedArrayBuffer(4))
  for (let sent = 0, index = 0; sent < total; index++) {
    const due = began + (sent / rate) * 1000
    if (performance.now() < due) Atomics.wait(pause, 0, 0, Math.max(0.05, due - performance.now()))
    const batch = batches[index % batches.length]
    if (batch === undefined) break
    sent += Math.max(0, send(fd, batch.messages, Math.min(burst, total - sent), 0))
  }
  process.send?.(total / ((performance.now() - began) / 1000))
}

const [, , role, port = '0', total = '0', how = ''] = process.argv
if (role === 'send-tcp') await sendTcp(Number(port), Number(total), how === 'counted')
else if (role === 'send-udp') await sendUdp(Number(port), Number(total), Number(how))
else {
  parsing('RFC 5424', modern)
  parsing('RFC 3164', old)
  await tcp(true)
  await tcp(false)
  await udp('recvmmsg', receiveDatagrams)
  await udp('node:dgram', receivePlain)
  printTable(rows)
}
