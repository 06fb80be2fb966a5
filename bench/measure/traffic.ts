// The records of `bench servers`, the same in two languages: OTLP requests as programs send them, and line protocol for
// Telegraf. All are distinct; record `n` can be told from its number alone.
import { Agent, request } from 'node:http'
import { LogsEncoder } from '../../plugins/contract/encoder.ts'
import { Readings } from '../../plugins/contract/readings.ts'
import { encodeResource } from '../../plugins/contract/values.ts'

export type Kind = 'logs' | 'points'
/** Of one request and of one MQTT message. */
export const perRequest = 500
export const devices = 16

const words = 'queue port link flow rule offload table session path mirror volume bucket lane credit'.split(
  ' ',
)
const scope = { name: 'bench' }
const service = 'flowd'
const second = 1_000_000_000n
const states = ['user', 'system', 'idle', 'iowait', 'irq'] as const

/** Which device request number `index` speaks of. */
export const deviceOf = (index: number): string => `dpu-${index % devices}`

/** The body of line `n`: distinct, about 120 bytes. */
export function bodyOf(n: number): string {
  const word = (shift: number) => words[(n >>> shift) % words.length] ?? ''
  const hash = Math.imul(n, 2_654_435_761) >>> 0
  return `${word(0)} ${word(3)} ${hash.toString(16).padStart(8, '0')} changed after ${hash % 9973} us, record ${n} of the ${word(5)} in domain ${word(7)}`
}

const isError = (n: number): boolean => n % 50 === 0

/** Line `n` happened so many microseconds after the first. */
export const logTimeOf = (base: bigint, n: number): bigint => base + BigInt(n) * 1000n

function logRequest(base: bigint, index: number): Buffer {
  const device = deviceOf(index)
  const encoder = new LogsEncoder(scope)
  encoder.begin(encodeResource({ 'host.id': device, 'service.name': service }))
  const first = logTimeOf(base, index * perRequest)
  const seconds = Number(first / second)
  const nanos = Number(first % second)
  for (let at = 0; at < perRequest; at++) {
    const n = index * perRequest + at
    // 500 µs at most: a request begins on a multiple of it, so none crosses a second.
    encoder.record(seconds, nanos + at * 1000, seconds, nanos + at * 1000, isError(n) ? 17 : 9)
    encoder.severityText(isError(n) ? 'err' : 'info')
    encoder.body(bodyOf(n))
    encoder.attribute('syslog.hostname', device)
    encoder.attribute('syslog.appname', service)
    encoder.attribute('syslog.procid', String(1000 + (n % 16)))
    encoder.attribute('syslog.msgid', 'ID47')
    encoder.end()
  }
  return Buffer.from(encoder.finish(device, 'log').bytes)
}

/** The same as points of InfluxDB, named as the store beside it names them, without what only that store needs. */
function logLines(base: bigint, index: number): string {
  const device = deviceOf(index)
  const lines: string[] = []
  for (let at = 0; at < perRequest; at++) {
    const n = index * perRequest + at
    const [level, text, number] = isError(n) ? ['error', 'err', 17] : ['info', 'info', 9]
    lines.push(
      `logs,host.id=${device},service.name=${service},severity=${level} severity_number=${number}i,severity_text="${text}",body="${bodyOf(n)}",syslog.hostname="${device}",syslog.procid="${1000 + (n % 16)}",syslog.msgid="ID47" ${logTimeOf(base, n)}`,
    )
  }
  return lines.join('\n')
}

/** Readings of one device follow each other by a second. */
const pointTimeOf = (base: bigint, index: number): bigint =>
  base + BigInt(Math.floor(index / devices)) * second

/** Half of a reading is the share of each state of 50 processors, half the octets of 125 interfaces. */
const shareOf = (index: number, at: number): number => ((index * 31 + at * 17) % 1000) / 1000
const octetsOf = (index: number, at: number): bigint => BigInt(index) * 1_000_003n + BigInt(at) * 7919n

function pointRequest(base: bigint, index: number): Buffer {
  const device = deviceOf(index)
  const readings = new Readings({
    scope,
    declared: {
      'system.cpu.utilization': { kind: 'gauge', unit: '1' },
      'system.network.io': { kind: 'counter', unit: 'By' },
    },
    device,
    resource: encodeResource({ 'host.id': device, 'service.name': service }),
    timeUnixNano: pointTimeOf(base, index),
    startUnixNano: base - 3600n * second,
  })
  for (let at = 0; at < perRequest / 2; at++) {
    readings.add('system.cpu.utilization', shareOf(index, at), {
      'cpu.logical_number': Math.floor(at / states.length),
      'cpu.mode': states[at % states.length] ?? '',
    })
  }
  for (let at = 0; at < perRequest / 2; at++) {
    readings.add('system.network.io', octetsOf(index, at), {
      'network.interface.name': `p${at >>> 1}`,
      'network.io.direction': at % 2 === 0 ? 'receive' : 'transmit',
    })
  }
  return Buffer.concat(readings.finish().map(({ bytes }) => bytes))
}

function pointLines(base: bigint, index: number): string {
  const tags = `host.id=${deviceOf(index)},service.name=${service}`
  const time = pointTimeOf(base, index)
  const lines: string[] = []
  for (let at = 0; at < perRequest / 2; at++) {
    const labels = `cpu.logical_number=${Math.floor(at / states.length)},cpu.mode=${states[at % states.length]}`
    lines.push(`system.cpu.utilization,${labels},${tags} gauge=${shareOf(index, at)} ${time}`)
  }
  for (let at = 0; at < perRequest / 2; at++) {
    const labels = `network.interface.name=p${at >>> 1},network.io.direction=${at % 2 === 0 ? 'receive' : 'transmit'}`
    lines.push(`system.network.io,${labels},${tags} counter_int=${octetsOf(index, at)}i ${time}`)
  }
  return lines.join('\n')
}

export const otlpOf = (kind: Kind, base: bigint, index: number): Buffer =>
  kind === 'logs' ? logRequest(base, index) : pointRequest(base, index)
export const linesOf = (kind: Kind, base: bigint, index: number): string =>
  kind === 'logs' ? logLines(base, index) : pointLines(base, index)

/** Sends requests [from, to), so many at once; resolves when all are answered. @throws when one is refused. */
export async function postRequests(
  port: number,
  kind: Kind,
  base: bigint,
  range: { from: number; to: number },
): Promise<void> {
  const atOnce = 64
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  let next = range.from
  const post = (body: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      const path = kind === 'logs' ? '/v1/logs' : '/v1/metrics'
      const headers = { 'content-type': 'application/x-protobuf', 'content-length': body.length }
      const sent = request({ host: '127.0.0.1', port, path, method: 'POST', agent, headers }, (answer) => {
        answer.resume()
        answer.once('end', () =>
          answer.statusCode === 200 ? resolve() : reject(new Error(`OTLP answers ${answer.statusCode}`)),
        )
      })
      sent.on('error', reject)
      sent.end(body)
    })
  try {
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        while (next < range.to) await post(otlpOf(kind, base, next++))
      }),
    )
  } finally {
    agent.destroy()
  }
}
