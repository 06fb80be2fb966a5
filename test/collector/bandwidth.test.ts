// A limit of bandwidth in a running collector: what leaves, in which order, and what becomes of the rest.
import { expect, onTestFinished, test, vi } from 'vitest'
import { ledgerOf } from '../../collector/api.ts'
import { parseConfig } from '../../collector/config.ts'
import { Logger } from '../../collector/logger.ts'
import { Runtime } from '../../collector/runtime.ts'
import type { Batch, Emit } from '../../plugins/contract/index.ts'
import { FakeClock, settle } from '../support/clock.ts'
import { driven, identity, memory } from './fixtures.ts'
import { fresh, recordsOf } from './records.ts'

const rate = 64 * 1024

async function start() {
  const clock = new FakeClock()
  const logger = new Logger({ write: () => undefined })
  const runtime = new Runtime({ identity, log: undefined, clock, logger, disk: 1 << 28 })
  onTestFinished(async () => {
    const stopped = runtime.stop()
    await clock.advance(60_000)
    await stopped
  })
  const emits = new Map<string, Emit>()
  const taken = new Map<string, Batch[]>()
  const text = `
limits: { bandwidth: 64KiB }
sources: { s: { type: driven } }
exporters: { x: { type: memory, buffer: { memory: 1MiB, disk: 0B } } }
pipelines: { all: { sources: [s], exporters: [x] } }
`
  const { config, problems } = await parseConfig(text, '/nowhere/c.yaml', [driven(emits), memory(taken)])
  if (!config) throw new Error(JSON.stringify(problems))
  await runtime.apply(config)
  await vi.waitFor(() => expect(emits.get('s')).toBeDefined(), { interval: 5, timeout: 30_000 })
  const emit = emits.get('s')
  if (!emit) throw new Error('the source does not run')
  return { clock, runtime, emit, sent: () => taken.get('x') ?? [] }
}

test('a flood leaves at the limit of bandwidth and no faster, an event goes ahead, the rest is counted as budget', async () => {
  const { clock, runtime, emit, sent } = await start()
  const seconds = 60
  let eventMs = Infinity
  for (let atMs = 0; atMs < seconds * 1000; atMs += 100) {
    for (let count = 0; count < 3; count++) void emit(recordsOf(fresh(500)), { wait: false })
    if (atMs === 30_000) {
      const event = emit({ ...recordsOf(fresh(1)), class: 'event' })
      void event.then(() => (eventMs = clock.elapsedMs()))
      eventMs = Infinity
    }
    await clock.advance(100)
    await settle()
    if (atMs === 32_000) expect(eventMs).toBeLessThan(Infinity)
  }
  const bytes = sent().reduce((sum, batch) => sum + batch.bytes.length, 0)
  const largest = Math.max(...sent().map((batch) => batch.bytes.length))
  expect(bytes).toBeLessThanOrEqual(rate * (seconds + 1) + largest)
  expect(bytes).toBeGreaterThan(rate * seconds * 0.8)
  const { produced, dropped, balanced } = ledgerOf(runtime)
  expect(produced).toBe(seconds * 10 * 3 * 500 + 1)
  expect(balanced).toBe(true)
  expect(Object.keys(dropped)).toEqual(['budget'])
})
