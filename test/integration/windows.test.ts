// A window over kill -9: readings that were answered come out exactly once in what the window makes of them, and the
// account says so, wherever the end came.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { Readings, encodeResource, findHeader, streamKey } from '../../plugins/contract/index.ts'
import type { Header } from '../../plugins/contract/index.ts'
import { startOtlpServer } from '../../plugins/protocols/otlp/server.ts'
import { eventually, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { collectPoints } from '../support/records.ts'

const portOffset = 9700
const directory = mkdtempSync(join(tmpdir(), 'dpulse-windows-'))
const stopping = new AbortController()
let collector: Program | undefined

afterAll(async () => {
  stopping.abort()
  collector?.child.kill('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

/** Each batch once, as an aggregator takes them: by stream and number. */
async function peer() {
  const seen = new Set<string>()
  const newest = new Map<string, Header>()
  let counted = 0
  let windows = 0
  const server = await startOtlpServer({
    http: [{ host: '127.0.0.1', port: 0 }],
    handle: async ({ bytes }) => {
      const header = findHeader(bytes)
      if (!header) throw new Error('a batch has no header')
      const stream = streamKey(header)
      if (seen.has(`${stream}/${header.seq}`)) return { rejected: 0 }
      seen.add(`${stream}/${header.seq}`)
      if ((newest.get(stream)?.seq ?? 0) < header.seq) newest.set(stream, header)
      for (const { name, value } of collectPoints(bytes)) {
        expect(name).toBe('test.level.count')
        counted += Number(value)
        windows++
      }
      return { rejected: 0 }
    },
    signal: stopping.signal,
  })
  const sum = (pick: (header: Header) => number) =>
    [...newest.values()].reduce((total, header) => total + pick(header), 0)
  return {
    address: server.addresses[0] ?? '',
    counted: () => counted,
    windows: () => windows,
    produced: () => sum(({ produced }) => produced),
    aggregated: () => sum(({ dropped }) => dropped.aggregated ?? 0),
  }
}

/** One reading of one of eight series. */
function reading(index: number): Uint8Array {
  const readings = new Readings({
    scope: { name: 'test' },
    declared: { 'test.level': { kind: 'gauge', unit: '1' } },
    device: 'dpu-1',
    resource: encodeResource({ 'host.id': 'dpu-1' }),
    timeUnixNano: 1_790_000_000_000_000_000n + BigInt(index) * 1_000_000n,
  })
  readings.add('test.level', index, { 'test.series': index % 8 })
  return readings.finish()[0]?.bytes ?? Buffer.alloc(0)
}

async function send(index: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${4318 + portOffset}/v1/metrics`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-protobuf' },
      body: new Uint8Array(reading(index)),
    })
    return response.status === 200
  } catch {
    return false
  }
}

const isUp = async () => (await fetch(`http://127.0.0.1:${8601 + portOffset}/api/health`)).ok

describe('a window', () => {
  test('loses no reading and no count over kill -9, and makes nothing twice', async () => {
    const sink = await peer()
    const config = join(directory, 'collector.yaml')
    writeFileSync(
      config,
      `
collector: { id: dpu-1 }
sources: { in: { type: otlp, grpc: false } }
processors:
  windows:
    type: filter
    rules: [{ name: level, match: { name: 'test.*' }, aggregate: { interval: 1s, to: [count] } }]
exporters: { out: { type: otlp, endpoint: '${sink.address}', protocol: http } }
pipelines: { p: { sources: [in], processors: [windows], exporters: [out] } }
`,
    )
    const start = async () => {
      collector = startProgram('collector', { data: directory, portOffset, arguments: ['--config', config] })
      await eventually('the collector is up', 20, isUp)
    }
    let answered = 0
    let unknown = 0
    for (let round = 0, index = 0; round < 8; round++) {
      await start()
      const child = collector?.child
      // Between the commits of readings, at the end of a window, while its batch is written and sent: somewhere.
      const timer = setTimeout(() => child?.kill('SIGKILL'), 500 + round * 283)
      const isAlive = () => child?.signalCode === null && child.exitCode === null
      const lane = async () => {
        while (isAlive()) {
          if (await send(index++)) answered++
          else unknown++
        }
      }
      await Promise.all([lane(), lane(), lane(), lane()])
      clearTimeout(timer)
    }
    await start()
    await eventually('all windows are told', 30, () => sink.counted() >= answered)
    await collector?.stop()
    // What the stop left in the log is sent by the next start.
    await start()
    await eventually('the account is told', 10, () => sink.produced() === sink.counted())
    await collector?.stop()
    expect(sink.counted()).toBeGreaterThanOrEqual(answered)
    expect(sink.counted()).toBeLessThanOrEqual(answered + unknown)
    expect(sink.produced()).toBe(sink.counted())
    expect(sink.aggregated()).toBe(sink.counted() - sink.windows())
    expect(answered).toBeGreaterThan(50)
  }, 180_000)
})
