// A rollout in stages over three real collectors: it outlives a kill of the aggregator, and stops where one refuses.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { rolloutsOf } from '../support/changing.ts'
import type { Change } from '../support/changing.ts'
import { dpulse } from '../support/command-line.ts'
import { fleetOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { apiUrl, eventually } from '../support/programs.ts'

/** `filter` allows for plugins of the device's own; the third has none. */
const common = (portOffset: number, severity: string, plugins: string) => `
processors: { floor: { type: severity, minimum: ${severity} } }
exporters: { fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:${1883 + portOffset}'] } }
pipelines: { all: { sources: [machine], processors: [floor], exporters: [fleet] } }
sources: { machine: { type: system, interval: 1s } }
${plugins}`

const plugin = `export default { kind: 'exporter', name: 'nowhere', summary: 'Nowhere.', config: { safeParse: () => ({ success: true, data: {} }), parse: () => ({}) }, create: () => ({ export: async () => ({ rejected: 0 }) }) }`

function threeOf(portOffset: number): Fleet[] {
  return [0, 1, 2].map((at) => {
    const place = fleetOf({ portOffset, onTestFinished })
    const module = join(place.data, 'own.mjs')
    writeFileSync(module, plugin)
    const api = 8602 + portOffset + at
    const own = `
collector: { id: dpu-${at}, trial: 8s, labels_file: /nonexistent/labels.yaml, labels: { rack: r12 } }
api: { listen: ['127.0.0.1:${api}'] }
${common(portOffset, 'info', at < 2 ? 'plugins: [./own.mjs]' : '')}`
    return fleetOf({ portOffset, collectorApi: api, collector: own, data: place.data, onTestFinished })
  })
}

const changesOf = async (portOffset: number) =>
  (await (await fetch(`${apiUrl(portOffset)}/api/config`)).json()) as Change[]
const rolloutOf = async (portOffset: number) => (await rolloutsOf({ portOffset }))[0]

async function begin(portOffset: number) {
  const aggregator = fleetOf({ portOffset, onTestFinished })
  aggregator.start('aggregator')
  await aggregator.aggregatorAnswers()
  const collectors = threeOf(portOffset)
  for (const one of collectors) {
    one.start('collector')
    await one.collectorListens()
  }
  await eventually('all three are known', 60, async () => {
    const list = await changesOf(portOffset)
    return list.filter(({ online }) => online).length === 3
  })
  const apply = (text: string, ...more: string[]) => {
    const file = join(aggregator.data, 'applied.yaml')
    writeFileSync(file, text)
    const line = ['apply', '-f', file, '--selector', 'dpu.rack=r12', '--soak', '2s', ...more]
    return dpulse(line, { url: apiUrl(portOffset) })
  }
  return { aggregator, apply }
}

test('a rollout goes on over a kill of the aggregator, until all have the configuration in force', async () => {
  const portOffset = 18_450
  const { aggregator, apply } = await begin(portOffset)
  const begun = await apply(common(portOffset, 'warn', ''), '--stages', '33%,66%,100%', '--wait', '0')
  expect({ code: begun.code, stderr: begun.stderr }).toMatchObject({ code: 0 })
  await eventually('the first is reached', 60, async () => ((await rolloutOf(portOffset))?.reached ?? 0) >= 1)
  await aggregator.kill('aggregator')
  aggregator.start('aggregator')
  await aggregator.aggregatorAnswers()
  const done = await eventually('it is done', 120, async () => {
    const found = await rolloutOf(portOffset)
    return found?.state !== 'running' && found
  })
  expect(done).toMatchObject({ state: 'done', reached: 3, devices: 3 })
  expect((await changesOf(portOffset)).map(({ state }) => state)).toEqual([
    'in_force',
    'in_force',
    'in_force',
  ])
  const undone = await dpulse(['delete', 'config', '--all'], { url: apiUrl(portOffset) })
  expect(undone.code).toBe(0)
  expect((await changesOf(portOffset)).map(({ state }) => state)).toEqual(['own', 'own', 'own'])
}, 240_000)

test('a rollout stops at the stage in which a device refuses, and the command says which and why', async () => {
  const portOffset = 18_500
  const { apply } = await begin(portOffset)
  // The third knows no such module.
  const ended = await apply(common(portOffset, 'warn', 'plugins: [./own.mjs]'), '--stages', '33%,66%,100%')
  expect(ended.code).toBe(1)
  expect(ended.stderr).toContain('dpu-2: refused: plugins.0')
  const stopped = await rolloutOf(portOffset)
  expect(stopped).toMatchObject({ state: 'stopped' })
  const list = await changesOf(portOffset)
  // Whoever was not reached was told nothing.
  expect(list.filter(({ desired }) => desired?.configuration !== undefined)).toHaveLength(
    stopped?.reached ?? -1,
  )
  expect(list.find(({ device }) => device === 'dpu-2')?.state).toBe('refused')
  const shown = await dpulse(['apply', '--status'], { url: apiUrl(portOffset) })
  expect(shown.stdout).toContain('stopped')
}, 240_000)
