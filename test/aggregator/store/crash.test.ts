// SIGKILL at any instant of writing, sealing and recovery leaves every row once, and rows and position equal.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import { recordLog } from './batches.ts'

const perBatch = 60
const rounds = Number(process.env.DPULSE_SOAK ?? 4)
const program = new URL('crash-child.ts', import.meta.url).pathname
let directory = ''
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'store-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** A sequence that a failed run can be repeated with. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/** Runs the writer until it has acknowledged so many writes, and some moments more; the last number it told. */
async function killAfter(
  mode: string,
  before: number,
  acknowledged: number,
  moreMs: number,
): Promise<number> {
  const child = spawn(process.execPath, [program, directory, mode], { stdio: ['ignore', 'pipe', 'inherit'] })
  // Not its exit: what it told before may still be on its way through the pipe then.
  const ended = once(child, 'close')
  let last = before
  let seen = 0
  const lines = createInterface({ input: child.stdout })
  lines.on('line', (line) => {
    last = Number(line)
    if (++seen === acknowledged) setTimeout(() => child.kill('SIGKILL'), moreMs)
  })
  await ended
  return last
}

async function expectEveryRowOnce(acknowledged: number): Promise<void> {
  await using store = await openDuckStore(directory, { log: recordLog(), maintenanceMs: 0 })
  const { position, streams } = await store.load()
  const written = position['otlp_logs/0'] ?? 0
  // The last write may have been committed and not yet been told.
  expect([acknowledged, acknowledged + 1]).toContain(written)
  expect(Buffer.from(streams.get('stream') ?? []).toString()).toBe(String(written))
  const counts = await store.count()
  expect(counts.map(({ stored, rejected, damaged }) => ({ stored, rejected, damaged }))).toEqual([
    { stored: written * perBatch, rejected: 0, damaged: [] },
    { stored: written * perBatch, rejected: 0, damaged: [] },
  ])
  const { rows } = await store.status()
  expect(rows).toBe(2 * written * perBatch)
  const { records } = await store.queries.logs({ limit: 10_000, where: [] }, new AbortController().signal)
  const bodies = new Set(records.map(({ body }) => body))
  expect(bodies.size).toBe(Math.min(10_000, written * perBatch))
  // Only files that the manifest names are left.
  const files = await readdir(join(directory, 'files'))
  expect(files.filter((name) => name.endsWith('.tmp'))).toEqual([])
  expect(files).toHaveLength((await store.status()).files)
  for (const name of files) expect((await stat(join(directory, 'files', name))).size).toBeGreaterThan(0)
}

describe.each(['seal', 'append'])('killed again and again while it does %s', (mode) => {
  test(
    'the store has each row exactly once and knows its position',
    async () => {
      const random = seeded(mode === 'seal' ? 7 : 11)
      let last = 0
      for (let round = 0; round < rounds; round++) {
        last = await killAfter(mode, last, 1 + Math.floor(random() * 12), random() * 60)
        await expectEveryRowOnce(last)
      }
    },
    60_000 + rounds * 20_000,
  )
})
