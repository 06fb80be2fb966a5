import { createServer, connect } from 'node:net'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../collector/clock.ts'
import { parseConfig } from '../../collector/config.ts'
import { Logger } from '../../collector/logger.ts'
import { Runtime } from '../../collector/runtime.ts'
import { ledgerOf, healthOf } from '../../collector/api.ts'
import { LogCursor, findHeader } from '../../plugins/contract/index.ts'
import type { Batch, Definition, Emit } from '../../plugins/contract/index.ts'
import { openLog } from '../../plugins/protocols/log/index.ts'
import { driven, identity as dpu, lines, memory, odd, summed, wire } from './fixtures.ts'
import { fresh, idsOf, idsOfBatches, recordsOf } from './records.ts'

const identity = { ...dpu, labels: { site: 'here' } }

interface Running extends AsyncDisposable {
  runtime: Runtime
  emits: Map<string, Emit>
  taken: Map<string, Batch[]>
  apply(yaml: string): Promise<void>
}

async function start(yaml: string, more: readonly Definition[] = []): Promise<Running> {
  const directory = await mkdtemp(join(tmpdir(), 'dpulse-runtime-'))
  const log = await openLog(directory)
  const emits = new Map<string, Emit>()
  const taken = new Map<string, Batch[]>()
  const logger = new Logger({ write: () => undefined })
  const runtime = new Runtime({ identity, log, clock: systemClock, logger, disk: 256 << 20 })
  const definitions = [lines, wire, odd, driven(emits), memory(taken), ...more]
  const apply = async (text: string) => {
    const { config, problems } = await parseConfig(text, '/nowhere/config.yaml', definitions)
    if (!config) throw new Error(JSON.stringify(problems))
    await runtime.apply(config)
  }
  await apply(yaml)
  await vi.waitFor(() => expect(runtime.isReady).toBe(true), { interval: 5, timeout: 30_000 })
  return {
    runtime,
    emits,
    taken,
    apply,
    async [Symbol.asyncDispose]() {
      await runtime.stop()
      await log.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

const emitOf = (it: Running, id: string): Emit => {
  const emit = it.emits.get(id)
  if (!emit) throw new Error(`${id} does not run`)
  return emit
}

const simple = `
sources: { a: { type: driven } }
exporters: { x: { type: memory }, y: { type: memory } }
pipelines: { p: { sources: [a], exporters: [x, y] } }
`

describe('the runtime', () => {
  test('hands what a source emits to every exporter of its pipeline, and answers when all have it', async () => {
    await using it = await start(simple)
    const ids = fresh(20)
    await emitOf(it, 'a')(recordsOf(ids))
    expect(idsOfBatches(it.taken.get('x') ?? [])).toEqual(ids)
    expect(idsOfBatches(it.taken.get('y') ?? [])).toEqual(ids)
    const sessions = [it.taken.get('x'), it.taken.get('y')].map((batches) => batches?.[0]?.header.session)
    expect(sessions[0]).not.toBe(sessions[1])
    expect(healthOf(it.runtime)).toMatchObject({ ready: true })
  })

  test('filters and marks records in place, and counts what it dropped in the totals of the stream', async () => {
    await using it = await start(`
sources: { a: { type: driven } }
processors: { only: { type: odd, mark: true } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], processors: [only], exporters: [x] } }
`)
    const ids = fresh(101)
    await emitOf(it, 'a')(recordsOf(ids))
    const kept = ids.filter((id) => id % 2 === 1)
    const [batch] = it.taken.get('x') ?? []
    expect(idsOf(batch?.bytes ?? new Uint8Array())).toEqual(kept)
    expect(batch?.header).toMatchObject({
      count: kept.length,
      produced: 101,
      dropped: { filter: 101 - kept.length },
    })
    const cursor = new LogCursor().reset(batch?.bytes ?? new Uint8Array())
    while (cursor.next()) expect(cursor.recordAttributes()).toEqual({ odd: true, number: -1 })
    expect(cursor.resourceAttributes()).toEqual({ 'host.id': 'dpu-1' })
  })

  test('counts as aggregated what one record was made of', async () => {
    await using it = await start(
      `
sources: { a: { type: driven } }
processors: { sum: { type: summed } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], processors: [sum], exporters: [x] } }
`,
      [summed(() => recordsOf(fresh(1)))],
    )
    await emitOf(it, 'a')(recordsOf(fresh(40)))
    await vi.waitFor(() => expect(it.taken.get('x')).toHaveLength(1), { timeout: 30_000 })
    expect(it.taken.get('x')?.[0]?.header).toMatchObject({
      count: 1,
      produced: 40,
      dropped: { aggregated: 39 },
    })
  })

  test('refuses malformed records of a source and counts them as invalid, and takes the next ones', async () => {
    await using it = await start(simple)
    const emit = emitOf(it, 'a')
    await emit({ ...recordsOf(fresh(7)), bytes: Buffer.from([0x0a, 0xff, 0x01]) })
    const ids = fresh(3)
    await emit(recordsOf(ids))
    expect(idsOfBatches(it.taken.get('x') ?? [])).toEqual(ids)
    expect(it.taken.get('x')?.[0]?.header).toMatchObject({ produced: 10, dropped: { invalid: 7 } })
    expect(ledgerOf(it.runtime)).toMatchObject({ balanced: true, dropped: { invalid: 14 } })
  })

  test('touches neither a source nor an exporter that stays as it was', async () => {
    await using it = await start(`
sources: { a: { type: driven, tag: one }, b: { type: driven } }
exporters: { x: { type: memory }, y: { type: memory } }
pipelines: { p: { sources: [a, b], exporters: [x, y] } }
`)
    const [before] = it.runtime.exporters
    const source = it.runtime.sources.find(({ component }) => component.id === 'b')
    await it.apply(`
sources: { a: { type: driven, tag: two }, b: { type: driven }, c: { type: driven } }
exporters: { x: { type: memory }, y: { type: memory, tag: other } }
pipelines: { p: { sources: [a, b, c], exporters: [x, y] } }
`)
    expect(it.runtime.exporters[0]).toBe(before)
    expect(it.runtime.sources.find(({ component }) => component.id === 'b')).toBe(source)
    await vi.waitFor(() => expect([...it.emits.keys()].toSorted()).toEqual(['a', 'b', 'c']), 30_000)
    expect(it.runtime.sources.find(({ component }) => component.id === 'a')?.supervised.address).toBe('two')
  })

  test('refuses a configuration that cannot be built, and leaves everything as it is', async () => {
    const broken: Definition = {
      ...lines,
      name: 'broken',
      create: () => {
        throw new Error('no such thing')
      },
    }
    await using it = await start(simple, [broken])
    await expect(it.apply(simple.replace('driven', 'broken'))).rejects.toThrow(
      'a cannot be made: no such thing',
    )
    await emitOf(it, 'a')(recordsOf(fresh(1)))
    expect(it.taken.get('x')).toHaveLength(1)
  })

  test('measures every component alike, as a source', async () => {
    await using it = await start(`
sources: { a: { type: driven } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a, dpulse], exporters: [x] } }
`)
    await vi.waitFor(
      () => expect((it.taken.get('x') ?? []).some(({ signal }) => signal === 'metrics')).toBe(true),
      30_000,
    )
    expect(it.runtime.measures.prometheus()).toContain(
      'dpulse_collector_records_out_total{dpulse_component="x"',
    )
  })
})

describe('a reload under a flow of 1,000,000 records', () => {
  test('keeps the connections of what does not change open, and loses none', async () => {
    const peer = await startPeer()
    const yaml = (tag: string) => `
sources: { tcp: { type: lines }, other: { type: driven, tag: ${tag} } }
exporters: { fleet: { type: wire, port: ${peer.port} } }
pipelines: { p: { sources: [tcp, other], exporters: [fleet] } }
`
    const it = await start(yaml('t0'))
    const port = Number(
      it.runtime.sources.find(({ component }) => component.id === 'tcp')?.supervised.address,
    )
    const client = connect(port, '127.0.0.1')
    await once(client, 'connect')
    const total = 1_000_000
    const answered = once(client, 'data') as Promise<[Buffer]>
    const sending = send(client, total)
    let changes = 0
    const state = { isSent: false }
    void sending.then(() => (state.isSent = true))
    while (!state.isSent) {
      await it.apply(yaml(`t${++changes}`))
      await vi.waitFor(() => expect(state.isSent || peer.seen.count > (total * changes) / 50).toBe(true), {
        timeout: 60_000,
        interval: 2,
      })
    }
    const [answer] = await answered
    expect(answer.toString()).toBe('done\n')
    await vi.waitFor(() => expect(peer.seen.count).toBe(total), { timeout: 90_000 })
    expect(changes).toBeGreaterThan(10)
    expect(peer.connections).toBe(1)
    expect(peer.seen.wrong).toBe(0)
    expect(ledgerOf(it.runtime)).toMatchObject({
      produced: total,
      stored: total,
      balanced: true,
      dropped: {},
    })
    await it[Symbol.asyncDispose]()
    client.destroy()
    peer.close()
  }, 240_000)
})

/** Every number once, each a line. */
async function send(client: Socket, total: number): Promise<void> {
  for (let from = 0; from < total; from += 1000) {
    const text = Array.from({ length: 1000 }, (_, index) => `${from + index}\n`).join('')
    if (!client.write(text)) await once(client, 'drain')
  }
  client.end()
}

async function startPeer() {
  const seen = { count: 0, wrong: 0, bits: new Uint8Array(1_000_000) }
  const sockets = new Set<Socket>()
  const result = { port: 0, connections: 0, seen, close: () => server.close(() => undefined) }
  const server = createServer((socket) => {
    result.connections++
    sockets.add(socket)
    let left: Buffer = Buffer.alloc(0)
    socket.on('data', (bytes: Buffer) => {
      left = left.length === 0 ? bytes : Buffer.concat([left, bytes])
      while (left.length >= 4 && left.length >= 4 + left.readUInt32BE()) {
        const size = left.readUInt32BE()
        take(left.subarray(4, 4 + size))
        left = left.subarray(4 + size)
        socket.write('.')
      }
    })
  })
  const take = (bytes: Buffer) => {
    const cursor = new LogCursor().reset(bytes)
    let count = 0
    for (; cursor.next(); count++) {
      const id = Number(cursor.bodyValue())
      if (seen.bits[id] === 0) seen.count++
      else seen.wrong++
      seen.bits[id] = 1
    }
    if (findHeader(bytes)?.count !== count) seen.wrong++
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  result.port = typeof bound === 'object' && bound ? bound.port : 0
  return result
}
