// `dpulse simulate --to file:…`: what a seed decides, byte for byte, and that what is emitted is what real sources emit.
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { plugins } from '../../plugins/index.ts'
import { faultKinds } from '../../simulator/faults/index.ts'
import { makeFleet } from '../../simulator/fleet.ts'
import { kinds } from '../../simulator/kinds/index.ts'
import { dpulse } from '../support/command-line.ts'

interface KeyValue {
  key: string
  value: Record<string, unknown>
}
interface Metric {
  name: string
  unit: string
  gauge?: { dataPoints: { attributes?: KeyValue[] }[] }
  sum?: { dataPoints: { attributes?: KeyValue[] }[]; isMonotonic?: boolean }
}
interface Line {
  resourceMetrics?: {
    resource: { attributes: KeyValue[] }
    scopeMetrics: { scope: { name: string }; metrics: Metric[] }[]
  }[]
  resourceLogs?: {
    resource: { attributes: KeyValue[] }
    scopeLogs: { scope: { name: string }; logRecords: { attributes?: KeyValue[]; eventName?: string }[] }[]
  }[]
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'dpulse-simulator-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  return path
}

async function simulate(directory: string, name: string, ...line: string[]): Promise<Buffer> {
  const file = join(directory, name)
  const ended = await dpulse(['simulate', '--to', `file:${file}`, ...line], {})
  expect(ended).toMatchObject({ code: 0 })
  return readFileSync(file)
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

describe('a run into a file', () => {
  test('writes the same bytes for the same seed, and the same truth; others for another', async () => {
    const directory = folder()
    const line = ['--devices', '8', '--duration', '2m', '--faults', 'all']
    const truth = (name: string) => ['--truth', join(directory, name)]
    const [one, same, other] = await Promise.all([
      simulate(directory, 'one', ...line, ...truth('truth-1'), '--seed', '7'),
      simulate(directory, 'same', ...line, ...truth('truth-2'), '--seed', '7', '--speed', '5'),
      simulate(directory, 'other', ...line, '--seed', '8'),
    ])
    expect(one.length).toBeGreaterThan(1_000_000)
    expect(digest(same)).toBe(digest(one))
    expect(digest(other)).not.toBe(digest(one))
    const read = (name: string) => readFileSync(join(directory, name), 'utf8')
    expect(read('truth-2')).toBe(read('truth-1'))
  })

  test('emits only what a real source declares, and nothing that names a fault or the simulation', async () => {
    const directory = folder()
    const faults = faultKinds.map(({ name }) => `${name}:900/hour`).join(',')
    const truth = join(directory, 'truth')
    const line = ['--devices', '16', '--duration', '3m', '--faults', faults, '--truth', truth]
    const text = (await simulate(directory, 'out', ...line)).toString()
    const lines = text
      .trimEnd()
      .split('\n')
      .map((one) => JSON.parse(one) as Line)
    const names = new Set<string>()
    for (const { resourceMetrics = [], resourceLogs = [] } of lines) {
      for (const { resource, scopeMetrics } of resourceMetrics) {
        for (const { key } of resource.attributes) names.add(key)
        for (const { scope, metrics } of scopeMetrics) metrics.forEach((metric) => seen(scope.name, metric))
      }
      for (const { resource, scopeLogs } of resourceLogs) {
        for (const { key } of resource.attributes) names.add(key)
        for (const { scope, logRecords } of scopeLogs) {
          expect(sourceOf(scope.name).signals).toContain('logs')
          for (const { attributes = [], eventName = '' } of logRecords) {
            names.add(eventName)
            for (const { key } of attributes) names.add(key)
          }
        }
      }
    }
    function seen(scope: string, metric: Metric): void {
      const declared = sourceOf(scope).emits[metric.name]
      const kind = metric.gauge ? 'gauge' : metric.sum?.isMonotonic === true ? 'counter' : 'updowncounter'
      expect({ name: metric.name, kind: declared?.kind, unit: declared?.unit }).toEqual({
        name: metric.name,
        kind,
        unit: metric.unit,
      })
      for (const { attributes = [] } of (metric.gauge ?? metric.sum)?.dataPoints ?? []) {
        for (const { key } of attributes) names.add(key)
      }
    }
    const begun = new Set(
      readFileSync(truth, 'utf8')
        .trimEnd()
        .split('\n')
        .map((one) => (JSON.parse(one) as { fault: string }).fault),
    )
    expect(begun.size).toBeGreaterThan(faultKinds.length / 2)
    const betraying = [...faultKinds.map(({ name }) => name), 'simulat', 'inject']
    expect([...names].filter((name) => betraying.some((word) => name.includes(word)))).toEqual([])
    expect(['simulat', 'inject', '"fault"'].filter((word) => text.toLowerCase().includes(word))).toEqual([])
  })

  test('is not written over what is there', async () => {
    const directory = folder()
    const line = ['--devices', '1', '--duration', '10s']
    await simulate(directory, 'out', ...line)
    const again = await dpulse(['simulate', ...line, '--to', `file:${join(directory, 'out')}`], {})
    expect(again.code).toBe(2)
    expect(again.stderr).toContain('is there already')
  })
})

function sourceOf(name: string) {
  const found = plugins.find((one) => one.kind === 'source' && one.name === name)
  if (found?.kind !== 'source') throw new Error(`there is no source ${name}`)
  return { signals: found.signals, emits: found.emits as Record<string, { kind: string; unit: string }> }
}

describe('a fleet', () => {
  const fleet = (devices: number | ReadonlyMap<string, number>, seed: number) =>
    makeFleet({ devices, seed, epochMs: 0, kinds })

  test('of one seed is the same, and one device more changes none of the others', () => {
    const facts = (devices: ReturnType<typeof makeFleet>) =>
      devices.map(({ id, uuid, serial, placement, state }) => ({
        id,
        uuid,
        serial,
        placement,
        state: { ...state, inner: undefined },
      }))
    expect(facts(fleet(40, 3))).toEqual(facts(fleet(40, 3)))
    expect(facts(fleet(41, 3)).slice(0, 40)).toEqual(facts(fleet(40, 3)))
    expect(facts(fleet(40, 4))).not.toEqual(facts(fleet(40, 3)))
  })

  test('has one or two cards a host, names and serial numbers of their own, and all kinds', () => {
    const devices = fleet(2000, 1)
    for (const key of ['id', 'serial', 'uuid'] as const) {
      expect(new Set(devices.map((device) => device[key])).size).toBe(2000)
    }
    const cards = Map.groupBy(devices, ({ placement }) => placement.host)
    expect(new Set([...cards.values()].map(({ length }) => length))).toEqual(new Set([1, 2]))
    const twins = [...cards.values()].filter(({ length }) => length === 2)
    expect(twins.every(([a, b]) => a?.placement.slot !== b?.placement.slot)).toBe(true)
    expect(new Set(devices.map(({ kind }) => kind.name))).toEqual(new Set(kinds.map(({ name }) => name)))
  })

  test('can be of chosen kinds, and of none that there is not', () => {
    const [kind] = kinds
    const name = kind?.name ?? ''
    expect(fleet(new Map([[name, 3]]), 1).map((device) => device.kind.name)).toEqual([name, name, name])
    expect(() => fleet(new Map([['toaster', 1]]), 1)).toThrow(
      /no kind of device toaster; there is .*bluefield-3/,
    )
  })
})
