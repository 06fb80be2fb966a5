// The embedded store as a whole: the writer's state over restarts, and queries that end before they are done.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { logBatch, noState } from './batches.ts'
import { now, useStore } from './fixture.ts'

const fixture = useStore()

describe('the state of the writer', () => {
  test('is what the last write left, with deletions, over many writes and restarts', async () => {
    const { position, streams } = await fixture.store.load()
    expect(position).toEqual({})
    expect(streams.size).toBe(0)
    const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
    await fixture.store.write([], {
      position: { 'otlp_logs/0': 1 },
      streams: new Map([
        ['a', bytes('1')],
        ['b', bytes('1')],
      ]),
    })
    await fixture.store.write([], {
      position: { 'otlp_logs/0': 2 },
      streams: new Map([
        ['a', bytes('2')],
        ['b', undefined],
      ]),
    })
    await fixture.reopen()
    const loaded = await fixture.store.load()
    expect(loaded.position).toEqual({ 'otlp_logs/0': 2 })
    expect([...loaded.streams].map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([
      ['a', '2'],
    ])
  })

  test('outdated rows are thrown away, not the newest', async () => {
    const many = Array.from({ length: 3000 }, (_, index) => `stream ${index}`)
    for (let round = 0; round < 12; round++) {
      const value = new Uint8Array([round])
      const keys = round < 2 ? many : many.slice(0, 2500)
      await fixture.store.write([], {
        position: { 'otlp_logs/0': round },
        streams: new Map(keys.map((key) => [key, value])),
      })
    }
    await fixture.reopen()
    const { position, streams } = await fixture.store.load()
    expect(position).toEqual({ 'otlp_logs/0': 11 })
    expect(streams.size).toBe(3000)
    expect(streams.get('stream 2499')).toEqual(new Uint8Array([11]))
    expect(streams.get('stream 2999')).toEqual(new Uint8Array([1]))
  })
})

describe('a query', () => {
  test('ends when its asker has gone, and the next one is answered', async () => {
    const record = { time: now, body: 'x'.repeat(200) }
    const records = Array.from({ length: 500 }, () => record)
    const batches = Array.from({ length: 100 }, (_, index) => logBatch({ seq: index + 1 }, records))
    await fixture.store.write(batches, noState)
    const controller = new AbortController()
    const asked = fixture.store.queries.logs({ limit: 10_000, where: [], text: 'y' }, controller.signal)
    controller.abort(new Error('the asker has gone'))
    await expect(asked).rejects.toThrow('the asker has gone')
    // Also those that DuckDB is at work on already, or that wait for their turn.
    const later = new AbortController()
    const many = Array.from({ length: 40 }, () =>
      fixture.store.queries.logs({ limit: 10_000, where: [], text: 'y' }, later.signal),
    )
    await many[0]
    later.abort(new Error('gone as well'))
    const ends = await Promise.allSettled(many)
    expect(ends.at(-1)).toMatchObject({ status: 'rejected', reason: { message: 'gone as well' } })
    expect(await fixture.search({ limit: 5 })).toHaveLength(5)
  })

  test('that takes too long is ended with an error that says so', async () => {
    await fixture.store.write([logBatch({ seq: 1 }, [{ time: now, body: 'x' }])], noState)
    await fixture.reopen({ queryTimeoutMs: 1 })
    await expect(Promise.all(Array.from({ length: 50 }, () => fixture.search()))).rejects.toMatchObject({
      code: 'PEER_TIMEOUT',
    })
  })
})

describe('a store that another process has open', () => {
  test('is refused, with its directory named', async () => {
    const { directory } = fixture
    const program = `
      const { openDuckStore } = await import(${JSON.stringify(new URL('../../../aggregator/store/duckdb.ts', import.meta.url).href)})
      const log = { error() {}, warn() {}, info() {}, debug() {} }
      await openDuckStore(${JSON.stringify(directory)}, { log }).then(
        () => process.stdout.write('opened'),
        (error) => process.stdout.write(error.name + ' ' + error.message),
      )
      process.exit(0)`
    const file = join(directory, 'other.mjs')
    await writeFile(file, program)
    const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] })
    let output = ''
    child.stdout.on('data', (data: Buffer) => (output += data.toString()))
    await once(child, 'close')
    expect(output).toBe(`PermanentError another process has the store in ${directory} open`)
  })
})
