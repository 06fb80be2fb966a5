// What the bundled collector takes of a device when it watches all that can be watched: memory and CPU of the process and
// of every helper that it runs.
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { inputOf } from '../../bench/measure/inputs.ts'
import { cpuSeconds, familyBytes, familyOf, helperCpuSeconds } from '../../bench/measure/process.ts'
import { detectConfig } from '../../collector/detect.ts'
import { ports } from '../../plugins/contract/options.ts'
import { plugins } from '../../plugins/index.ts'
import { packInto } from '../support/packed.ts'
import type { Packed } from '../support/packed.ts'
import { freeOffset } from '../support/ports.ts'
import { eventually, healthy, startProgram } from '../support/programs.ts'

const interval = '10s'
/** Readings of the first half minute teach a source what there is, and V8 how large its heap has to be. */
const settleMs = 30_000
const measureMs = 20_000

let directory = ''
let packed: Packed
/** A copy of Node: of what several programs map, each is charged a part, and on a device there is but this one. */
let node = ''
const open = new AsyncDisposableStack()

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpulse-footprint-'))
  packed = packInto(directory)
  node = join(directory, 'node')
  copyFileSync(process.execPath, node)
}, 240_000)

afterAll(async () => {
  await open.disposeAsync()
  rmSync(directory, { recursive: true, force: true })
})

type Settings = Record<string, unknown>

/** Readings at the interval; what looks for new lines or samples oftener by default goes on doing so. */
function oftener(name: string, settings: Settings): Settings {
  const source = plugins.find((one) => one.kind === 'source' && one.name === name)
  const parsed = source?.config.parse(settings) as { interval?: number } | undefined
  return (parsed?.interval ?? 0) < 10_000 ? settings : { ...settings, interval }
}

/** What `dpulse up` would start here. */
async function detected(): Promise<Record<string, Settings>> {
  const { config } = await detectConfig(plugins, { broker: 'embedded' })
  return Object.fromEntries(config.sources.map(({ id, written }) => [id, JSON.parse(written) as Settings]))
}

/** All of that, and each of the rest over a capture or beside a peer that is here. */
async function everything(): Promise<Record<string, Settings>> {
  const found = await detected()
  const rest: Record<string, Settings> = {}
  for (const { kind, name } of plugins) {
    if (kind !== 'source' || name in found) continue
    const input = await inputOf(name, join(directory, name), open)
    if (typeof input !== 'string') rest[name] = input.config
  }
  return { ...found, ...rest }
}

interface Footprint {
  bytes: number
  /** Of a core. */
  share: number
  processes: number
}

/** With an aggregator that acknowledges, as in life. */
async function footprintOf(sources: Record<string, Settings>): Promise<Footprint> {
  const portOffset = await freeOffset()
  const data = mkdtempSync(join(directory, 'data-'))
  mkdirSync(join(data, 'aggregator'))
  const aggregator = startProgram('aggregator', { data: join(data, 'aggregator'), portOffset })
  onTestFinished(() => aggregator.stop())
  await eventually('the aggregator', 90, () => healthy(portOffset))
  const read = Object.entries(sources).map(([name, settings]) => [
    name,
    { type: name, ...oftener(name, settings) },
  ])
  const all = { ...Object.fromEntries(read), dpulse: { type: 'dpulse' } } as Settings
  const file = join(data, 'collector.yaml')
  const config = {
    sources: all,
    exporters: { fleet: { type: 'mqtt', urls: [`mqtt://127.0.0.1:${ports.mqtt + portOffset}`] } },
    pipelines: { all: { sources: Object.keys(all), exporters: ['fleet'] } },
  }
  writeFileSync(file, JSON.stringify(config))
  const collector = startProgram('collector', {
    data: join(data, 'collector'),
    portOffset,
    arguments: ['--config', file],
    command: [node, join(packed.directory, 'dist/collector.js')],
  })
  onTestFinished(() => collector.stop())
  const health = `http://127.0.0.1:${ports.collectorApi + portOffset}/api/health`
  await eventually('the collector', 90, async () => (await fetch(health)).ok).catch((cause: unknown) => {
    throw new Error(collector.output(), { cause })
  })
  const pid = collector.child.pid ?? 0
  const used = () => cpuSeconds(pid) + helperCpuSeconds(pid)
  // What is measured is a length of time, not something that happens.
  await sleep(settleMs)
  const before = { at: performance.now(), used: used() }
  await sleep(measureMs)
  const share = ((used() - before.used) * 1000) / (performance.now() - before.at)
  return { bytes: familyBytes(pid), share, processes: familyOf(pid).length }
}

describe('the bundled collector, with readings every 10 s', () => {
  test.each([
    ['140 MB', 'all that this machine supports', 140e6, detected],
    // No device has all of them. Two of the processes are those of journalctl and ipmitool.
    ['180 MB', 'every source that there is', 180e6, everything],
  ] as const)('takes at most %s and 3 % of a core for %s', async (_, __, most, choose) => {
    const sources = await choose()
    const { bytes, share, processes } = await footprintOf(sources)
    const figures = `${(bytes / 1e6).toFixed(1)} MB, ${(share * 100).toFixed(2)} % of a core`
    process.stdout.write(`${Object.keys(sources).length} sources, ${processes} processes: ${figures}\n`)
    expect(bytes).toBeLessThanOrEqual(most)
    expect(share).toBeLessThanOrEqual(0.03)
  })
})
