// Rows that vanish behind the store's back are named; what retention and the limit on bytes remove stays counted.
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import type { DuckStore, DuckStoreOptions } from '../../../aggregator/store/duckdb.ts'
import { streamKey } from '../../../plugins/contract/batch.ts'
import type { Class } from '../../../plugins/contract/signal.ts'
import { headerOf, hourNano, logBatch, noState, nowNano, pointBatch, recordLog } from './batches.ts'
import type { RecordedLog } from './batches.ts'

let directory = ''
let store: DuckStore
let log: RecordedLog
const open = async (options: Partial<DuckStoreOptions> = {}): Promise<void> => {
  store = await openDuckStore(directory, { log, maintenanceMs: 0, ...options })
}
const close = () => store[Symbol.asyncDispose]()
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'store-'))
  log = recordLog()
  await open()
})
afterEach(async () => {
  await close()
  await rm(directory, { recursive: true, force: true })
})

const now = nowNano()
const never = new AbortController().signal
const record = (index: number) => ({ time: now - BigInt(index), body: `line ${index}` })
const batch = (seq: number, name: Class = 'log', arrived = now) =>
  logBatch(
    { seq, class: name, arrived },
    Array.from({ length: 10 }, (_, index) => record(index)),
  )
const stream = streamKey(headerOf({ seq: 1 }, 1))

async function meddle(sql: string): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  await connection.run(sql)
  connection.closeSync()
  instance.closeSync()
}
const inDatabase = (sql: string) =>
  meddle(`ATTACH '${join(directory, 'store.duckdb')}' AS store; USE store; ${sql}; USE memory; DETACH store`)
const files = async () =>
  (await readdir(join(directory, 'files'))).map((name) => join(directory, 'files', name))

describe('count', () => {
  test('names stream and batch when a recent row is deleted', async () => {
    await store.write([batch(1), batch(2), batch(3)], noState)
    await close()
    await inDatabase('DELETE FROM hot_1 WHERE seq = 2 AND idx = 4')
    await open()
    expect(await store.count()).toEqual([
      { stream, stored: 29, kept: 29, rejected: 0, damaged: [{ seq: 2, written: 10, found: 9 }] },
    ])
    // Sealing what is left does not make it whole.
    await store.maintain({ seal: 'all' })
    expect(await store.count()).toMatchObject([{ stored: 29, damaged: [{ seq: 2, written: 10, found: 9 }] }])
  })

  test('names them when a file is rewritten without a row, also while the store is open', async () => {
    await store.write([batch(1), batch(2)], noState)
    await store.maintain({ seal: 'all' })
    expect(await store.count()).toMatchObject([{ stored: 20, damaged: [] }])
    const [file = ''] = await files()
    await meddle(
      `COPY (SELECT * FROM read_parquet('${file}') WHERE NOT (seq = 1 AND idx >= 7)) TO '${directory}/other.parquet';
       COPY (SELECT * FROM read_parquet('${directory}/other.parquet')) TO '${file}' (FORMAT parquet, COMPRESSION zstd)`,
    )
    expect(await store.count()).toMatchObject([{ stored: 17, damaged: [{ seq: 1, written: 10, found: 7 }] }])
  })

  test('names every batch of a file that is gone, and queries answer from the rest', async () => {
    await store.write([batch(1), batch(2)], noState)
    await store.maintain({ seal: 'all' })
    await store.write([batch(3)], noState)
    const [file = ''] = await files()
    await rm(file)
    expect(await store.count()).toMatchObject([
      {
        stored: 10,
        damaged: [
          { seq: 1, written: 10, found: 0 },
          { seq: 2, written: 10, found: 0 },
        ],
      },
    ])
    const { records } = await store.queries.logs({ limit: 100, where: [] }, never)
    expect(records).toHaveLength(10)
  })

  test('of a file that became noise names its batches, and queries answer from the rest', async () => {
    await store.write([batch(1)], noState)
    await store.maintain({ seal: 'all' })
    await store.write([batch(2)], noState)
    const [file = ''] = await files()
    await writeFile(file, 'not a Parquet file at all')
    const { records } = await store.queries.logs({ limit: 100, where: [] }, never)
    expect(records).toHaveLength(10)
    expect(await store.count()).toMatchObject([{ stored: 10, damaged: [{ seq: 1, written: 10, found: 0 }] }])
    expect(log.lines.map(({ message }) => message)).toContain('segment cannot be read')
  })

  test('asks only for the device that was named', async () => {
    await store.write([batch(1), logBatch({ seq: 1, device: 'dpu-2' }, [record(1)])], noState)
    expect(await store.count('dpu-2')).toMatchObject([{ stored: 1 }])
    expect(await store.count('dpu-3')).toEqual([])
  })
})

describe('a database that is damaged', () => {
  test('is refused at the start with an error that names it, and is left as it is', async () => {
    await store.write([batch(1)], noState)
    await close()
    const path = join(directory, 'store.duckdb')
    const bytes = await readFile(path)
    bytes.fill(0x5a, 4096, 8192)
    bytes.fill(0x5a, 0, 64)
    await writeFile(path, bytes)
    await expect(open()).rejects.toMatchObject({ name: 'PermanentError', code: 'DATA_CORRUPTED' })
    await expect(open()).rejects.toThrow(directory)
    expect((await readFile(path)).equals(bytes)).toBe(true)
  })
})

describe('retention', () => {
  test('removes what is older than its class is kept, and only that; it stays counted', async () => {
    const old = now - 8n * 24n * hourNano
    await store.write([batch(1, 'log', old), batch(1, 'usage', old)], noState)
    await store.maintain({ seal: 'all' })
    await store.write([batch(2)], noState)
    await store.maintain()
    expect(await store.status()).toMatchObject({ rows: 20, files: 1 })
    const counts = async () => (await store.count()).map(({ stored, damaged }) => ({ stored, damaged }))
    const expected = [
      { stored: 20, damaged: [] },
      { stored: 10, damaged: [] },
    ]
    expect(await counts()).toEqual(expected)
    await close()
    await open()
    expect(await counts()).toEqual(expected)
    expect((await store.queries.logs({ limit: 100, where: [] }, never)).records).toHaveLength(20)
  })

  test('forgets series of which no point is left', async () => {
    const declared = {
      'old.level': { kind: 'gauge', unit: '1' },
      'new.level': { kind: 'gauge', unit: '1' },
    } as const
    const old = now - 8n * 24n * hourNano
    const points = (name: string, seq: number, time: bigint) =>
      pointBatch({ seq, arrived: time }, declared, [{ time, name, value: 1 }])
    await store.write([points('old.level', 1, old)], noState)
    await store.maintain({ seal: 'all' })
    await store.write([points('new.level', 2, now)], noState)
    await store.maintain()
    expect((await store.queries.metrics(undefined, never)).map(({ name }) => name)).toEqual(['new.level'])
    // One that comes back gets a number again.
    await store.write([points('old.level', 3, now)], noState)
    expect((await store.queries.latest('dpu-1', never)).map(({ metric }) => metric)).toEqual([
      'new.level',
      'old.level',
    ])
    expect(await store.count()).toMatchObject([{ stored: 3, damaged: [] }])
  })
})

describe('the limit on bytes', () => {
  const large = (seq: number, name: Class) =>
    logBatch(
      { seq, class: name },
      Array.from({ length: 2000 }, (_, index) => ({
        time: now,
        // Hardly compressible, so that files are large.
        body: Buffer.from(
          Array.from({ length: 90 }, (_, byte) => (seq * 31 + index * 17 + byte * byte * index) % 251),
        ).toString('base64'),
      })),
    )

  test('takes the oldest of the least precious class first, says so, and keeps it counted', async () => {
    for (let seq = 1; seq <= 3; seq++) {
      await store.write([large(seq, 'log'), large(seq, 'event')], noState)
      await store.maintain({ seal: 'all' })
    }
    // Closing writes DuckDB's log into its file, so the size that counts is that of a store just opened.
    await close()
    await open()
    const { bytes } = await store.status()
    await close()
    // A quarter is kept free for what is under way.
    await open({ maxBytes: Math.ceil(((bytes - 1000) * 4) / 3) })
    await store.maintain()
    const removed = log.lines.filter(
      ({ message }) => message === 'segment removed: the store is at its limit',
    )
    expect(removed).toMatchObject([{ level: 'warn', fields: { class: 'log', rows: 2000 } }])
    const { records } = await store.queries.logs({ limit: 10_000, where: [] }, never)
    const left = records.filter(({ id }) => id.includes('/log/')).map(({ id }) => id.split('/').at(-2))
    expect(new Set(left)).toEqual(new Set(['2', '3']))
    expect(await store.count()).toMatchObject([
      { stored: 6000, damaged: [] },
      { stored: 6000, damaged: [] },
    ])
  })

  test('takes recent rows too where they are all that there is, so that what comes finds room', async () => {
    for (let seq = 1; seq <= 24; seq++) await store.write([large(seq, 'log')], noState)
    await close()
    await open()
    const { bytes } = await store.status()
    await close()
    await open({ maxBytes: Math.floor(bytes / 2) })
    await store.maintain()
    expect(await store.write([batch(25)], noState)).toEqual([{ stored: 10, rejected: 0 }])
    expect(await store.count()).toMatchObject([{ stored: 48_010, damaged: [] }])
  })

  test('with nothing left to remove refuses writes as a full disk, and takes them again when there is room', async () => {
    await store.write([batch(1)], noState)
    await close()
    await open({ maxBytes: 4096 })
    await store.maintain()
    await expect(store.write([batch(2)], noState)).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect((await store.status()).error).toContain('its limit is 4096')
    await close()
    await open()
    expect(await store.write([batch(2)], noState)).toEqual([{ stored: 10, rejected: 0 }])
  })
})

describe('a full disk', () => {
  test('refuses the write as DISK_FULL, loses and doubles nothing, and goes on when there is room', async () => {
    await close()
    // The kernel's limit on the size of files stands for the disk: the store's file cannot grow beyond it.
    const program = new URL('full-child.ts', import.meta.url).pathname
    const child = spawn(
      'bash',
      ['-c', `ulimit -f 6000; exec "$0" "$1" "$2"`, process.execPath, program, directory],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    let output = ''
    child.stdout.on('data', (data: Buffer) => (output += data.toString()))
    const [code] = (await once(child, 'close')) as [number]
    expect({ code, output }).toMatchObject({ code: 0 })
    const { acknowledged, error } = JSON.parse(output) as { acknowledged: number; error: string }
    expect(error).toBe('DISK_FULL')
    expect(acknowledged).toBeGreaterThan(0)
    await open()
    const { position } = await store.load()
    expect(position).toEqual({ 'otlp_logs/0': acknowledged })
    expect(await store.count()).toMatchObject([{ stored: acknowledged * 2000, damaged: [] }])
    const next = logBatch({ seq: acknowledged + 1 }, [record(1)])
    expect(await store.write([next], noState)).toEqual([{ stored: 1, rejected: 0 }])
  })
})
