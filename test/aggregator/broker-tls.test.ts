// The embedded broker over TLS: with an authority, a client's certificate says for which collector it speaks.
import { readFileSync } from 'node:fs'
import { connect as connectTls } from 'node:tls'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import mqtt from '../../plugins/exporters/mqtt.ts'
import type { Exporter } from '../../plugins/contract/index.ts'
import { createAuthority } from '../support/certificates.ts'
import type { Authority, Files } from '../support/certificates.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { openIntake } from '../support/intake.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

let authority: Authority
beforeAll(() => void (authority = createAuthority()))
afterAll(() => authority.remove())

async function intakeFor(ca: boolean) {
  const listen = [{ host: '127.0.0.1', port: 0 }]
  const tls = { listen, ...authority.certificate('broker'), verify: true, ...(ca && { ca: authority.ca }) }
  const intake = await openIntake({ tls })
  onTestFinished(async () => intake[Symbol.asyncDispose]())
  return { intake, port: Number(intake.broker.addresses[1]?.split(':').at(-1)) }
}

async function clientOf(port: number, files: Files) {
  const [ca, cert, key] = [authority.ca, files.cert, files.key].map((path) => readFileSync(path))
  const client = await connectAsync({
    protocol: 'mqtts',
    host: '127.0.0.1',
    port,
    reconnectPeriod: 0,
    ...(ca && cert && key && { ca, cert, key }),
  })
  client.on('error', () => undefined)
  onTestFinished(async () => {
    await client.endAsync(true)
  })
  return client
}

describe('startBroker with TLS', () => {
  test('an exporter with the authority delivers', async () => {
    const { intake, port } = await intakeFor(false)
    const context = testContext({ clock: realClock })
    const config = mqtt.config.parse({ urls: [`mqtts://127.0.0.1:${port}`], tls: { ca: authority.ca } })
    const exporter = mqtt.create(config, context) as Required<Exporter>
    const controller = new AbortController()
    const running = exporter.run(controller.signal)
    onTestFinished(async () => {
      controller.abort()
      await running
    })
    await context.whenReady
    await exporter.export(sampleBatch(sampleLogs([{}])), AbortSignal.timeout(10_000))
    expect(intake.ingest.counters.batches).toBe(1)
  })

  test('a client speaks and reads for the collector that its certificate names, and for no other', async () => {
    const { intake, port } = await intakeFor(true)
    const files = authority.certificate('dpu-7')
    const client = await clientOf(port, files)
    await client.publishAsync('dpulse/dpu-7/sighting', '{}', { qos: 1 })
    expect(await client.subscribeAsync('dpulse/dpu-7/#')).toHaveLength(1)
    await expect(client.subscribeAsync('dpulse/+/status')).rejects.toThrow(/subscribe|Unspecified/i)
    const ended = new Promise<void>((resolve) => client.once('close', () => resolve()))
    client.publish('dpulse/dpu-8/sighting', '{}', { qos: 1 }, () => undefined)
    await ended
    expect(intake.broker.counters.refusedMessages).toBe(1)
  })

  test('a client without a certificate of the authority is not let in', async () => {
    const { intake, port } = await intakeFor(true)
    const own = authority.selfSigned('dpu-7')
    const [ca, cert, key] = [authority.ca, own.cert, own.key].map((path) => readFileSync(path))
    const stranger = connectTls({ port, host: '127.0.0.1', ...(ca && cert && key && { ca, cert, key }) })
    stranger.on('error', () => undefined)
    await new Promise<void>((resolve) => stranger.once('close', () => resolve()))
    await vi.waitFor(() => expect(intake.broker.counters.connections).toBe(0), 30_000)
    await vi.waitFor(
      () => expect(intake.logged.map(({ message }) => message)).toContain('MQTT TLS handshake failed'),
      30_000,
    )
  })
})
