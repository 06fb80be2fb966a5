// The way from a collector's MQTT exporter to the journal over real sockets and processes: through kills of the
// aggregator with its embedded broker, and through a real Mosquitto.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connectAsync } from 'mqtt'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createMqttIngest } from '../../aggregator/ingest-mqtt.ts'
import { openIngest } from '../../aggregator/ingest.ts'
import type { Ingest } from '../../aggregator/ingest.ts'
import { findHeader, streamKey } from '../../plugins/contract/batch.ts'
import type { Exporter } from '../../plugins/contract/index.ts'
import mqtt from '../../plugins/exporters/mqtt.ts'
import { decompressSync } from '../../plugins/protocols/compression.ts'
import { topics } from '../../plugins/protocols/topics.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { entriesOf, openIntake } from '../support/intake.ts'
import { openTestJournal } from '../support/journal.ts'
import { freePort } from '../support/ports.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

const batchOf = (seq: number) => sampleBatch(sampleLogs([{ body: `line ${seq}` }]), { seq, produced: seq })
const key = streamKey(batchOf(1).header)

function startExporter(config: object) {
  const context = testContext({ clock: realClock })
  const exporter = mqtt.create(mqtt.config.parse(config), context) as Required<Exporter>
  const controller = new AbortController()
  const running = exporter.run(controller.signal)
  onTestFinished(async () => {
    controller.abort()
    await running
  })
  return { context, exporter }
}

/** As the sender does: again and again until it is delivered. */
async function deliver(exporter: Exporter, seq: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      await exporter.export(batchOf(seq), signal)
      return
    } catch (error) {
      signal.throwIfAborted()
      if ((error as Error).name !== 'RetryableError') throw error
      await pause(20, undefined, { signal })
    }
  }
}

/** A sequence that is the same in each run, from 0 to 1. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

async function startIntake(directory: string, port: number): Promise<{ child: ChildProcess; port: number }> {
  const program = resolve(import.meta.dirname, '../support/intake-program.ts')
  const child = spawn(process.execPath, [program, directory, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { child, port: Number(line.toString()) }
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

describe('an aggregator that is killed', () => {
  test('has every batch that it acknowledged, and its accounts never tell of one that it has not', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dpulse-kill-'))
    onTestFinished(async () => rm(directory, { recursive: true, force: true }))
    const random = seeded(7)
    const port = await freePort()
    let running = await startIntake(directory, port)
    onTestFinished(() => void running.child.kill('SIGKILL'))
    const { exporter, context } = startExporter({ urls: [`mqtt://127.0.0.1:${port}`] })
    await context.whenReady
    const signal = AbortSignal.timeout(180_000)
    const total = 3000
    let begun = 0
    const acknowledged: number[] = []
    const senders = Array.from({ length: 16 }, async () => {
      while (begun < total) {
        const seq = ++begun
        await deliver(exporter, seq, signal)
        acknowledged.push(seq)
      }
    })
    for (let round = 1; round <= 5; round++) {
      const until = Math.min(total - 200, acknowledged.length + Math.floor(random() * 400))
      await vi.waitFor(() => expect(acknowledged.length).toBeGreaterThanOrEqual(until), {
        interval: 1,
        timeout: 60_000,
      })
      const before = [...acknowledged]
      await kill(running.child)
      {
        await using left = await openIntake({ directory })
        const count = left.journal.end()['otlp_logs/0'] ?? 0
        const entries = await left.entries(count)
        const seqs = new Set(entries.map(({ value }) => findHeader(decompressSync(value, 1 << 20))?.seq))
        expect(before.filter((seq) => !seqs.has(seq))).toEqual([])
        const account = left.ingest.accounts.get(key)?.acknowledged.ranges() ?? []
        for (const [from, to] of account) {
          for (let seq = from; seq <= to; seq++)
            if (!seqs.has(seq)) throw new Error(`the account tells of ${seq}`)
        }
      }
      running = await startIntake(directory, port)
    }
    await Promise.all(senders)
    await kill(running.child)
    await using left = await openIntake({ directory })
    expect(left.ingest.accounts.get(key)?.acknowledged.ranges()).toEqual([[1, total]])
    expect(left.ingest.accounts.get(key)?.records).toBe(total)
  }, 240_000)

  test('has every retained message that it confirmed', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dpulse-kill-'))
    onTestFinished(async () => rm(directory, { recursive: true, force: true }))
    const { child, port } = await startIntake(directory, 0)
    onTestFinished(() => void child.kill('SIGKILL'))
    const client = await connectAsync({ host: '127.0.0.1', port, reconnectPeriod: 0 })
    client.on('error', () => undefined)
    const confirmed: string[] = []
    let sent = 0
    const publishers = Array.from({ length: 8 }, async () => {
      for (;;) {
        const topic = `dpulse/dpu-${++sent}/inventory/x`
        await client.publishAsync(topic, `revision ${sent}`, { qos: 1, retain: true })
        confirmed.push(topic)
      }
    })
    const ended = Promise.allSettled(publishers)
    await vi.waitFor(() => expect(confirmed.length).toBeGreaterThan(300), { interval: 1, timeout: 30_000 })
    await kill(child)
    await client.endAsync(true)
    await ended
    await using left = await openIntake({ directory })
    const kept = new Set([...left.broker.retained('dpulse/+/inventory/x')].map(({ topic }) => topic))
    expect(confirmed.filter((topic) => !kept.has(topic))).toEqual([])
  })
})

describe('an external broker', () => {
  const url = process.env.MQTT_URL ?? ''
  const why = 'MQTT_URL names no broker; `npm test` starts one where ../shared/services is at hand'

  /** An aggregator beside the external broker, under a root of its own. */
  async function startIngest(root: string): Promise<{ ingest: Ingest; stop: () => Promise<void> }> {
    const journal = await openTestJournal()
    const { log } = testContext()
    const ready = Promise.withResolvers<void>()
    const ingest = openIngest({
      journal,
      log,
      clock: realClock,
      device: 'the-aggregator',
      acknowledge: (collector, ack) => {
        link.publish(topics(root).ack(collector), JSON.stringify(ack)).catch(() => undefined)
      },
    })
    const link = createMqttIngest({
      urls: [url],
      root,
      receiver: ingest,
      log,
      clock: realClock,
      onReady: () => ready.resolve(),
    })
    const controller = new AbortController()
    const running = link.run(controller.signal)
    const stop = async () => {
      controller.abort()
      await running
      await ingest[Symbol.asyncDispose]()
    }
    onTestFinished(stop)
    await ready.promise
    return { ingest, stop }
  }

  const rootOf = (name: string) => `test-${process.pid}-${name}`

  test('carries batches to the journal and acknowledgements back', async ({ skip }) => {
    if (url === '') skip(why)
    const root = rootOf('one')
    const { ingest } = await startIngest(root)
    const { exporter, context } = startExporter({ urls: [url], root })
    await context.whenReady
    const signal = AbortSignal.timeout(60_000)
    await Promise.all(Array.from({ length: 200 }, (_, index) => exporter.export(batchOf(index + 1), signal)))
    expect(ingest.accounts.get(key)?.acknowledged.ranges()).toEqual([[1, 200]])
    expect(ingest.counters.statuses).toBeGreaterThan(0)
  })

  test('divides the batches among aggregators, and what one that goes away had not is sent again', async ({
    skip,
  }) => {
    if (url === '') skip(why)
    const root = rootOf('two')
    const first = await startIngest(root)
    const second = await startIngest(root)
    const { exporter, context } = startExporter({ urls: [url], root, ack_timeout: '500ms' })
    await context.whenReady
    const signal = AbortSignal.timeout(60_000)
    const half = Array.from({ length: 100 }, (_, index) => deliver(exporter, index + 1, signal))
    await Promise.all(half)
    expect(first.ingest.counters.batches).toBeGreaterThan(0)
    expect(second.ingest.counters.batches).toBeGreaterThan(0)
    const rest = Array.from({ length: 100 }, (_, index) => deliver(exporter, index + 101, signal))
    await first.stop()
    await Promise.all(rest)
    const had = [first, second].map(({ ingest }) => ingest.accounts.get(key)?.acknowledged)
    for (let seq = 1; seq <= 200; seq++) expect(had.some((set) => set?.has(seq) === true)).toBe(true)
  })

  test('speaks MQTT 5 with a receive maximum, too', async ({ skip }) => {
    if (url === '') skip(why)
    const root = rootOf('five')
    const { ingest } = await startIngest(root)
    const { exporter, context } = startExporter({ urls: [url], root, protocol_version: 5 })
    await context.whenReady
    const signal = AbortSignal.timeout(60_000)
    await Promise.all(Array.from({ length: 300 }, (_, index) => exporter.export(batchOf(index + 1), signal)))
    expect(ingest.accounts.get(key)?.acknowledged.ranges()).toEqual([[1, 300]])
  })
})

test('what lies in the journal is what was sent', async () => {
  await using intake = await openIntake()
  const { exporter, context } = startExporter({ urls: [intake.url] })
  await context.whenReady
  const batch = batchOf(1)
  await exporter.export(batch, AbortSignal.timeout(10_000))
  const [entry] = await entriesOf(intake.journal, 1)
  expect(Buffer.from(decompressSync(entry?.value ?? Buffer.alloc(0), 1 << 20)).equals(batch.bytes)).toBe(true)
})
