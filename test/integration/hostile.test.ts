// What a sender or reader may do to the listeners of `dpulse up` without harm to others: connections without number,
// requests that never end, messages that claim or unpack to more than anyone has, readers that do not read.
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ports } from '../../plugins/contract/options.ts'
import { residentMiB } from '../support/fleet.ts'
import { childrenOf, eventually, healthy, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { post } from '../support/senders.ts'
import { ledgerOf, sendOverTcp, syslogLines } from '../support/traffic.ts'

const portOffset = 8400
const data = mkdtempSync(join(tmpdir(), 'dpulse-hostile-'))
const listeners = {
  syslog: ports.syslog,
  'OTLP over gRPC': 4317,
  'OTLP over HTTP': 4318,
  'the aggregator’s OTLP over gRPC': ports.aggregatorOtlpGrpc,
  'the aggregator’s OTLP over HTTP': ports.aggregatorOtlpHttp,
  MQTT: ports.mqtt,
  'the API': ports.api,
  'the collector’s API': ports.collectorApi,
}
const httpPort = 4318 + portOffset

let up: Program
const pids: Record<string, number> = {}
const peaks: Record<string, number> = {}
let watch: NodeJS.Timeout
const measure = () => {
  for (const [name, pid] of Object.entries(pids)) peaks[name] = Math.max(peaks[name] ?? 0, residentMiB(pid))
}
/** Highest resident memory of both while something is done, in MiB. */
async function peakOf(work: () => Promise<void>): Promise<{ collector: number; aggregator: number }> {
  for (const name of Object.keys(pids)) peaks[name] = 0
  measure()
  await work()
  measure()
  return { collector: Math.round(peaks.collector ?? 0), aggregator: Math.round(peaks.aggregator ?? 0) }
}

beforeAll(async () => {
  up = startProgram('up', { data, portOffset })
  await eventually('both are up', 90, () => healthy(portOffset))
  for (const { pid, program } of childrenOf(up.child.pid ?? 0)) pids[program] = pid
  watch = setInterval(measure, 20)
})
afterAll(async () => {
  clearInterval(watch)
  await up.stop()
  rmSync(data, { recursive: true, force: true })
})

function open(port: number, first?: string | Buffer): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.resume()
  if (first !== undefined) socket.write(first)
  return socket
}

let serial = 0
/** A record is taken and a question answered, soon. */
async function worksForOthers(): Promise<void> {
  const body = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hostile ${serial++}"}}]}]}]}`
  const began = performance.now()
  expect((await post(httpPort, '/v1/logs', body)).status).toBe(200)
  expect(await healthy(portOffset)).toBe(true)
  expect(performance.now() - began).toBeLessThan(3000)
}

describe('others are served, and the memory stays what it was, while somebody', () => {
  test.each(Object.entries(listeners))('has had 2,000 idle connections to %s', async (name, port) => {
    const sockets = Array.from({ length: 2000 }, () => open(port + portOffset))
    const before = {
      collector: residentMiB(pids.collector ?? 0),
      aggregator: residentMiB(pids.aggregator ?? 0),
    }
    const peak = await peakOf(async () => {
      await eventually('all were let in or refused', 40, () => sockets.every(({ connecting }) => !connecting))
      if (!name.includes('OTLP over HTTP') && !name.includes('API')) await worksForOthers()
    })
    for (const socket of sockets) socket.destroy()
    await eventually('others are served afterwards', 40, async () => {
      await worksForOthers()
      return true
    })
    expect(peak.collector - before.collector).toBeLessThan(100)
    expect(peak.aggregator - before.aggregator).toBeLessThan(100)
  })

  test('begins a request on every listener and does not go on', async () => {
    const beginnings: [number, string | Buffer][] = [
      [5514, '999999 <13>1 - '],
      [5514, '<13>1 - no newline'],
      [4317, 'PRI * HTTP/2.0\r\n'],
      [4318, 'POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-'],
      [4327, 'PRI * HTTP/2.0\r\n'],
      [4328, 'POST /v1/logs HTTP/1.1\r\n'],
      [1883, Buffer.from([0x10, 0xff])],
      [8600, 'GET /api/health HTTP/1.1\r\nHost: local'],
      [8601, 'GET / HTTP/1.1\r\nHost'],
    ]
    const sockets = beginnings.flatMap(([port, text]) =>
      [1, 2, 3, 4, 5].map(() => open(port + portOffset, text)),
    )
    const closed = Promise.all(
      sockets.slice(-15).map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    )
    await worksForOthers()
    // MQTT and both APIs let nobody wait for long.
    await closed
    for (const socket of sockets) socket.destroy()
  }, 120_000)

  test('announces bodies that never come: what they claim keeps nobody out', async () => {
    const head =
      'POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16777216\r\n\r\n{'
    const sockets = Array.from({ length: 50 }, () => open(httpPort, head))
    await eventually('all are connected', 30, () => sockets.every(({ connecting }) => !connecting))
    const text = 'x'.repeat(900_000)
    const body = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"${text}"}}]}]}]}`
    expect((await post(httpPort, '/v1/logs', body)).status).toBe(200)
    for (const socket of sockets) socket.destroy()
  })

  test('sends frames that claim or hold more than is allowed', async () => {
    const peak = await peakOf(async () => {
      const claims = [
        open(5514 + portOffset, '99999999999999 <13>1 - '),
        open(1883 + portOffset, Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])),
        open(
          httpPort,
          'POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n',
        ),
      ]
      const line = open(5514 + portOffset)
      for (let left = 100; left > 0 && !line.destroyed; left--) {
        await new Promise((resolve) => line.write(Buffer.alloc(1 << 20, 97), resolve))
      }
      line.destroy()
      await worksForOthers()
      for (const socket of claims) socket.destroy()
    })
    expect(peak.collector).toBeLessThan(600)
  })

  test.each([
    ['zstd', zstdCompressSync(Buffer.alloc((16 << 20) - 10))],
    ['gzip', gzipSync(Buffer.alloc((16 << 20) - 10))],
  ] as const)(
    'sends 200 small messages at once that unpack to 16 MiB each, in %s',
    async (encoding, bytes) => {
      const headers = { 'content-type': 'application/x-protobuf', 'content-encoding': encoding }
      const peak = await peakOf(async () => {
        const answers = await Promise.all(
          Array.from({ length: 200 }, () => post(httpPort, '/v1/logs', bytes, headers)),
        )
        expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([400]))
        await worksForOthers()
      })
      process.stdout.write(`200 bombs in ${encoding}: ${JSON.stringify(peak)} MiB\n`)
      expect(peak.collector).toBeLessThan(900)
    },
  )

  test('subscribes to everything, over MQTT and to the live tail, and reads nothing during a flood', async () => {
    const connectPacket = Buffer.from('101000044d51545404020000000464656166', 'hex')
    const subscribePacket = Buffer.concat([
      Buffer.from([0x82, 13, 0, 1, 0, 8]),
      Buffer.from('dpulse/#'),
      Buffer.from([0]),
    ])
    const deaf = connect(1883 + portOffset, '127.0.0.1')
    const tail = connect(8600 + portOffset, '127.0.0.1')
    for (const socket of [deaf, tail]) socket.on('error', () => undefined).pause()
    deaf.write(Buffer.concat([connectPacket, subscribePacket]))
    tail.write('GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const peak = await peakOf(async () => {
      const chunks = (function* () {
        for (let index = 0; index < 300; index++) yield syslogLines(index * 1000, 1000)
      })()
      await sendOverTcp(5514 + portOffset, chunks)
      await worksForOthers()
    })
    process.stdout.write(`flood beside deaf readers: ${JSON.stringify(peak)} MiB\n`)
    expect(peak.collector).toBeLessThan(1024)
    expect(peak.aggregator).toBeLessThan(2048)
    deaf.destroy()
    tail.destroy()
    const ledger = await eventually('all is stored', 120, async () => {
      const found = await ledgerOf(portOffset)
      return found.inFlight === 0 && found.stored >= 300_000 && found
    })
    expect(ledger).toMatchObject({ balanced: true, unknown: 0 })
  }, 240_000)
})
