import { connectAsync } from 'mqtt'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import mqtt from '../../../plugins/exporters/mqtt.ts'
import type { Context, Exporter } from '../../../plugins/contract/index.ts'
import { isBrokerUrl } from '../../../plugins/protocols/mqtt-url.ts'
import { pauseMs } from '../../../plugins/protocols/mqtt.ts'
import { statusText } from '../../../plugins/protocols/mqtt-births.ts'
import { statusSchema } from '../../../plugins/protocols/topics.ts'
import { realClock } from '../../support/clock.ts'
import { conformsToExporter } from '../../support/conformance-exporter.ts'
import { testContext } from '../../support/context.ts'
import { openIntake } from '../../support/intake.ts'
import type { Intake, IntakeOptions } from '../../support/intake.ts'
import { freePort } from '../../support/ports.ts'
import { sampleBatch, sampleLogs } from '../../support/records.ts'

conformsToExporter(
  mqtt,
  { urls: ['mqtt://127.0.0.1:1'] },
  {
    peer: async () => {
      const intake = await openIntake()
      let gone = false
      const close = async () => {
        if (!gone) await intake[Symbol.asyncDispose]()
        gone = true
      }
      return {
        config: { urls: [intake.url] },
        received: (records) => vi.waitFor(() => expect(intake.ingest.counters.records).toBe(records), 30_000),
        vanish: close,
        [Symbol.asyncDispose]: close,
      }
    },
  },
)

async function intakeFor(options: IntakeOptions = {}): Promise<Intake> {
  const intake = await openIntake(options)
  onTestFinished(async () => intake[Symbol.asyncDispose]())
  return intake
}

function start(config: object, overrides: Partial<Context> = {}) {
  const context = testContext({ ...overrides, clock: realClock })
  const exporter = mqtt.create(mqtt.config.parse(config), context) as Required<Exporter>
  const controller = new AbortController()
  const running = exporter.run(controller.signal)
  const stop = async () => {
    controller.abort()
    await running
  }
  onTestFinished(stop)
  return { context, exporter, stop }
}

const batchOf = (seq: number) => sampleBatch(sampleLogs([{}]), { seq, produced: seq })
const signal = (): AbortSignal => AbortSignal.timeout(30_000)
const statusOf = (intake: Intake, collector = 'dpu-under-test', root = 'dpulse') => {
  for (const { payload } of intake.broker.retained(`${root}/${collector}/status`)) {
    return statusSchema.parse(JSON.parse(payload.toString()))
  }
  return undefined
}

describe('mqtt', () => {
  test('delivers only when the journal has the batch, whatever the broker says', async () => {
    const held = Promise.withResolvers<void>()
    const intake = await intakeFor({
      wrap: (journal) => ({
        ...journal,
        append: async (...given) => {
          await held.promise
          await journal.append(...given)
        },
      }),
    })
    const { exporter, context } = start({ urls: [intake.url] })
    await context.whenReady
    let delivered = false
    const sent = exporter.export(batchOf(1), signal()).then(() => (delivered = true))
    await vi.waitFor(() => expect(intake.broker.counters.published).toBeGreaterThanOrEqual(2), 30_000)
    expect(delivered).toBe(false)
    held.resolve()
    await sent
    expect(await intake.entries(1)).toHaveLength(1)
  })

  test('rejects what is in flight at once when the connection is lost, and delivers it after it is back', async () => {
    const silent = Promise.withResolvers<void>()
    const port = await freePort()
    const first = await openIntake({ port, ingest: { acknowledge: () => silent.resolve() } })
    const { exporter, context } = start({ urls: [first.url] })
    await context.whenReady
    const sent = exporter.export(batchOf(1), signal())
    const outcome = sent.catch((error: unknown) => error)
    await silent.promise
    await first[Symbol.asyncDispose]()
    expect(await outcome).toMatchObject({ name: 'RetryableError', code: 'PEER_UNREACHABLE' })
    await expect(exporter.export(batchOf(1), signal())).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    const intake = await intakeFor({ port })
    await vi.waitFor(() => expect(context.addresses).toHaveLength(2), 30_000)
    await exporter.export(batchOf(1), signal())
    expect(await intake.entries(1)).toHaveLength(1)
  })

  test('gives a batch back when no aggregator acknowledges it in time', async () => {
    const intake = await intakeFor({ ingest: { acknowledge: () => undefined } })
    const { exporter, context } = start({ urls: [intake.url], ack_timeout: '50ms' })
    await context.whenReady
    await expect(exporter.export(batchOf(1), signal())).rejects.toMatchObject({
      name: 'RetryableError',
      code: 'PEER_TIMEOUT',
    })
  })

  test('takes no more batches than may wait', async () => {
    const intake = await intakeFor({ ingest: { acknowledge: () => undefined } })
    const { exporter, context } = start({ urls: [intake.url], max_in_flight: 2, ack_timeout: '200ms' })
    await context.whenReady
    const waiting = [1, 2].map((seq) => exporter.export(batchOf(seq), signal()))
    const settled = Promise.allSettled(waiting)
    await expect(exporter.export(batchOf(3), signal())).rejects.toMatchObject({ code: 'PEER_OVERLOADED' })
    await settled
  })

  test('is born when it connects, and again when its status changes; a wanted end leaves it offline', async () => {
    const intake = await intakeFor({ root: 'site/a' })
    let devices = ['dpu-under-test']
    const status = testContext().status()
    const { context, stop } = start(
      { urls: [intake.url], root: 'site/a' },
      { status: () => ({ ...status, devices }) },
    )
    await context.whenReady
    const born = statusOf(intake, 'dpu-under-test', 'site/a')
    expect(born).toMatchObject({ state: 'online', instance: status.instance, devices })
    devices = ['dpu-under-test', 'bmc-7']
    context.statusChanged()
    await vi.waitFor(
      () => expect(statusOf(intake, 'dpu-under-test', 'site/a')?.devices).toEqual(devices),
      30_000,
    )
    await stop()
    expect(statusOf(intake, 'dpu-under-test', 'site/a')?.state).toBe('offline')
  })

  test('is born again when an old will buries its status', async () => {
    const intake = await intakeFor()
    const { context } = start({ urls: [intake.url] })
    await context.whenReady
    const will = { ...context.status(), state: 'offline', instance: 'an-earlier-run' }
    await intake.broker.publish('dpulse/dpu-under-test/status', JSON.stringify(will), {
      retain: true,
      qos: 1,
    })
    expect(statusOf(intake)?.state).toBe('offline')
    await vi.waitFor(() => expect(statusOf(intake)?.state).toBe('online'), 30_000)
    expect(statusOf(intake)?.instance).toBe(context.status().instance)
  })

  test('its will says offline when it is cut off', async () => {
    const intake = await intakeFor()
    const { context } = start({ urls: [intake.url] })
    await context.whenReady
    const id = `dpulse-dpu-under-test-${context.status().instance}`
    // Another client with the same id: the broker must end the first connection without a DISCONNECT.
    const other = await connectAsync({ host: '127.0.0.1', port: intake.broker.port, clientId: id })
    const seen: string[] = []
    other.on('message', (_topic, payload) => seen.push(String(JSON.parse(payload.toString()).state)))
    await other.subscribeAsync('dpulse/dpu-under-test/status')
    await vi.waitFor(() => expect(seen).toContain('offline'), 30_000)
    await other.endAsync(true)
    await vi.waitFor(() => expect(statusOf(intake)?.state).toBe('online'), 30_000)
  })

  test('takes the second broker when the first does not answer', async () => {
    const intake = await intakeFor()
    const { context, exporter } = start({ urls: ['mqtt://127.0.0.1:1', intake.url] })
    expect(await context.whenReady).toBe(intake.url)
    await exporter.export(batchOf(1), signal())
  })

  test('URLs may hold names and addresses of both families, and nothing else', () => {
    for (const url of [
      'mqtt://host',
      'mqtt://10.0.0.1:1884',
      'mqtts://[::1]:8883',
      'mqtt://[fe80::1%eth0]/',
    ]) {
      expect(isBrokerUrl(url)).toBe(true)
    }
    for (const url of ['http://host', 'mqtt://', 'mqtt://user@host', 'mqtt://host:0', 'mqtt://host:1/path']) {
      expect(isBrokerUrl(url)).toBe(false)
    }
  })

  test('pauses between attempts are random, at least half a second and at most thirty', () => {
    for (let round = 0; round < 40; round++) {
      expect(pauseMs(round, 0, 30_000)).toBe(500)
      expect(pauseMs(round, 0.999, 30_000)).toBeLessThanOrEqual(30_000)
    }
    expect(pauseMs(0, 0.999, 30_000)).toBeLessThanOrEqual(1000)
    expect(pauseMs(39, 0.999, 30_000)).toBeGreaterThan(29_000)
  })

  test('a birth never grows beyond what brokers take: the oldest sessions are left out first', () => {
    const status = testContext().status()
    const session = (index: number) => `01K${String(index).padStart(23, '0')}`
    const ended = Array.from({ length: 10_000 }, (_, index) => ({
      session: session(index),
      device: 'dpu-under-test',
      class: 'log' as const,
      seq: 1,
      produced: 1,
      dropped: {},
    }))
    const text = statusText({ status: () => ({ ...status, ended }) }, 'online')
    const born = statusSchema.parse(JSON.parse(text))
    expect(text.length).toBeLessThanOrEqual(256 * 1024)
    expect(born.ended.length).toBeGreaterThan(500)
    expect(born.ended[0]?.session).toBe(session(9_999))
  })
})
