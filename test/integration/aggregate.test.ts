// Windows and classes of the aggregator's filter over kill -9: what collectors were told is stored is in what the windows
// made, once, and the ledger says so, on either store.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ulid } from 'ulid'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Readings, encodeResource, sealBatch } from '../../plugins/contract/index.ts'
import type { Header } from '../../plugins/contract/index.ts'
import { influx, newBucket, removeBuckets } from '../aggregator/store/influx.ts'
import { askingOf } from '../support/asking.ts'
import type { Queried } from '../support/asking.ts'
import { eventually, healthy, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { sampleLogs } from '../support/records.ts'

const portOffset = 19_900
const devices = ['dpu-1', 'dpu-2', 'dpu-3']
const session = ulid()
const kills = 3
const rules = `filter:
  rules:
    - { name: level, match: { name: 'test.*' }, aggregate: { interval: 1s, to: [count, max] } }
    - { name: urgent, match: { body: { contains: urgent } }, class: event }
    - { name: spare, match: { body: { contains: spare } }, drop: true }
`

/** One reading of each of four series; every third batch tells of ten minutes ago, as after an outage. */
function readings(device: string, seq: number): Uint8Array {
  const pastMs = seq % 3 === 0 ? 600_000 : 0
  const one = new Readings({
    scope: { name: 'test' },
    declared: { 'test.level': { kind: 'gauge', unit: '1' } },
    device,
    resource: encodeResource({ 'host.id': device }),
    timeUnixNano: BigInt(Date.now() - pastMs) * 1_000_000n,
  })
  for (let series = 0; series < 4; series++) one.add('test.level', seq, { series })
  return one.finish()[0]?.bytes ?? Buffer.of()
}

const logs = (): Uint8Array =>
  sampleLogs(['an urgent line', 'a spare line', 'a line'].map((body) => ({ body }))).bytes

/** A device that sends its batches one after the other, each until it is acknowledged. */
async function send(device: string, over: AbortSignal): Promise<number> {
  let seq = 0
  while (!over.aborted) {
    seq++
    await Promise.all([
      deliver({ device, class: 'resource', seq, count: 4 }, 'metrics', readings(device, seq)),
      deliver({ device, class: 'log', seq, count: 3 }, 'logs', logs()),
    ])
  }
  return seq
}

async function deliver(
  one: Pick<Header, 'device' | 'class' | 'seq' | 'count'>,
  signal: 'logs' | 'metrics',
  request: Uint8Array,
): Promise<void> {
  const header: Header = {
    ...one,
    collector: one.device,
    session,
    from: 0n,
    to: 0n,
    produced: one.seq * one.count,
    dropped: {},
  }
  const { bytes } = sealBatch(header, signal, [request])
  await eventually('a batch is acknowledged', 60, async () => {
    const answer = await fetch(`http://127.0.0.1:${4328 + portOffset}/v1/${signal}`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-protobuf' },
      body: new Uint8Array(bytes),
    })
    return answer.ok
  })
}

async function run(store: readonly string[]) {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-aggregate-'))
  const config = join(data, 'aggregator.yaml')
  writeFileSync(config, rules)
  let aggregator: Program | undefined
  const start = async () => {
    aggregator = startProgram('aggregator', { data, portOffset, arguments: ['--config', config, ...store] })
    await eventually('the aggregator is up', 40, () => healthy(portOffset))
  }
  onTestFinished(async () => {
    await aggregator?.stop()
    rmSync(data, { recursive: true, force: true })
  })
  await start()
  const stopping = new AbortController()
  const sending = Promise.all(devices.map((device) => send(device, stopping.signal)))
  for (let kill = 0; kill < kills; kill++) {
    // Between the commits of readings, at the end of a window, while what it made is stored: somewhere.
    await new Promise((resume) => setTimeout(resume, 900 + kill * 283))
    aggregator?.child.kill('SIGKILL')
    await start()
  }
  stopping.abort()
  const batches = (await sending).reduce((sum, seq) => sum + seq, 0)
  return { batches, asking: askingOf(portOffset) }
}

async function expectAll({ batches, asking }: Awaited<ReturnType<typeof run>>): Promise<void> {
  expect(batches).toBeGreaterThan(50)
  const taken = batches * 4
  const query = (metric: string) =>
    asking.get<Queried[]>('/api/query', { metric, since: '1h', limit: '100000' })
  const sumOf = (series: readonly Queried[]) =>
    series.flatMap(({ points }) => points).reduce((sum, [, value]) => sum + Number(value), 0)
  await eventually('all windows are stored', 30, async () => sumOf(await query('test.level.count')) >= taken)
  const counts = await query('test.level.count')
  expect(sumOf(counts)).toBe(taken)
  const maxima = await query('test.level.max')
  const made = [...counts, ...maxima].flatMap(({ points }) => points).length
  // Of each series the greatest value is the last.
  const greatest = maxima.map(({ points }) => Math.max(...points.map(([, value]) => Number(value))))
  expect(greatest.reduce((sum, value) => sum + value, 0)).toBe(taken)
  const ledger = await asking.settled()
  const dropped = { aggregated: taken, filter: batches }
  const produced = taken + batches * 3 + made
  expect(ledger).toMatchObject({ balanced: true, unknown: 0, produced, stored: batches * 2 + made, dropped })
  const own = ledger.streams.filter(({ collector }) => collector === 'filter')
  expect(own.map(({ device }) => device)).toEqual(devices)
  expect(own.every(({ produced: all, stored }) => all === stored)).toBe(true)
}

describe('the filter of an aggregator that is killed', () => {
  test('has every reading in what its windows made, once, and every record in its class', async () => {
    await expectAll(await run([]))
  }, 120_000)

  test('does so on InfluxDB, which takes what is written again as one', async ({ skip }) => {
    if (!influx) skip('INFLUX_URL names no InfluxDB')
    const bucket = newBucket()
    onTestFinished(() => removeBuckets(bucket))
    const { host } = new URL(influx?.url ?? '')
    await expectAll(await run(['--store', `influxdb://${host}/${influx?.org}/${bucket}`]))
  }, 120_000)
})
