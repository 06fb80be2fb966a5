import { mkdtemp, open, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openLogJournal } from '../../../aggregator/journal/log.ts'
import type { JournalDamage } from '../../../aggregator/journal/journal.ts'
import { conformsToJournal } from '../../support/journal.ts'

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'dpulse-journal-'))
  onTestFinished(async () => rm(path, { recursive: true, force: true }))
  return path
}

conformsToJournal('the embedded log', async () => {
  const path = await directory()
  return { open: () => openLogJournal(path) }
})

describe('openLogJournal', () => {
  test('entries whose bytes were damaged on disk are passed over and named', async () => {
    const path = await directory()
    {
      await using journal = await openLogJournal(path)
      for (let index = 0; index < 10; index++) {
        await journal.append([{ topic: 'otlp_logs', key: 'd', value: Buffer.alloc(1000, index) }], [])
      }
    }
    const files = (await readdir(path)).filter((name) => name.includes('otlp_logs'))
    const file = await open(join(path, files[0] ?? ''), 'r+')
    const { size } = await stat(join(path, files[0] ?? ''))
    await file.write(Buffer.alloc(10, 0xff), 0, 10, Math.floor(size / 2))
    await file.close()

    const damage: JournalDamage[] = []
    await using journal = await openLogJournal(path, { onDamage: (found) => damage.push(found) })
    const read = await journal.read({}, { entries: 100, bytes: 1 << 20 }, AbortSignal.timeout(10_000))
    expect(read.entries).toHaveLength(9)
    expect(read.damage).toHaveLength(1)
    const [lost] = read.damage
    expect(lost).toMatchObject({ topic: 'otlp_logs', partition: 0, to: (lost?.from ?? 0) + 1 })
    expect(read.next['otlp_logs/0']).toBe(10)
    expect(damage.length).toBeGreaterThan(0)
  })

  test('a position that lies before what is kept tells what is gone', async () => {
    const path = await directory()
    await using journal = await openLogJournal(path)
    for (const text of ['a', 'b', 'c']) {
      await journal.append([{ topic: 'otlp_spans', key: 'd', value: Buffer.from(text) }], [])
    }
    await journal.stored({ 'otlp_spans/0': 2 })
    const read = await journal.read({}, { entries: 100, bytes: 1 << 20 }, AbortSignal.timeout(10_000))
    expect(read.entries.map(({ offset }) => offset)).toEqual([2])
    expect(read.damage).toEqual([{ topic: 'otlp_spans', partition: 0, from: 0, to: 2 }])
  })

  test('refuses what exceeds its share of the disk with DISK_FULL, and works again when there is room', async () => {
    const path = await directory()
    await using journal = await openLogJournal(path, { maxBytes: 64 * 1024, segmentBytes: 16 * 1024 })
    const value = Buffer.alloc(8000)
    const append = () => journal.append([{ topic: 'otlp_logs', key: 'd', value }], [])
    const refused = (async () => {
      for (;;) await append()
    })()
    await expect(refused).rejects.toMatchObject({ name: 'RetryableError', code: 'DISK_FULL' })
    await journal.stored(journal.end())
    await append()
  })
})
