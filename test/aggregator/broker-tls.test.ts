// The embedded broker over TLS: with an authority, a client's certificate says for which collector it speaks.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import mqtt from '../../plugins/exporters/mqtt.ts'
import type { Exporter } from '../../plugins/contract/index.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { openIntake } from '../support/intake.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

let directory = ''
const file = (name: string): string => join(directory, name)
const openssl = (...given: string[]): void =>
  void execFileSync('openssl', given, { stdio: 'ignore', cwd: directory })

function certificate(name: string): { cert: string; key: string } {
  const [cert, key, request] = [file(`${name}.pem`), file(`${name}.key`), file(`${name}.csr`)]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl(
    'req',
    ...curve,
    '-subj',
    `/CN=${name}`,
    '-addext',
    'subjectAltName=IP:127.0.0.1',
    '-keyout',
    key,
    '-out',
    request,
  )
  const signing = [
    '-CA',
    file('ca.pem'),
    '-CAkey',
    file('ca.key'),
    '-CAcreateserial',
    '-copy_extensions',
    'copy',
  ]
  openssl('x509', '-req', '-days', '1', '-in', request, ...signing, '-out', cert)
  return { cert, key }
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpulse-tls-'))
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl(
    'req',
    '-x509',
    ...curve,
    '-days',
    '1',
    '-subj',
    '/CN=authority',
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.pem'),
  )
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function intakeFor(ca: boolean) {
  const listen = [{ host: '127.0.0.1', port: 0 }]
  const tls = { listen, ...certificate('broker'), verify: true, ...(ca && { ca: file('ca.pem') }) }
  const intake = await openIntake({ tls })
  onTestFinished(async () => intake[Symbol.asyncDispose]())
  return { intake, port: Number(intake.broker.addresses[1]?.split(':').at(-1)) }
}

async function clientOf(port: number, files: { cert: string; key: string }) {
  const [ca, cert, key] = [file('ca.pem'), files.cert, files.key].map((path) => readFileSync(path))
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
    const config = mqtt.config.parse({ urls: [`mqtts://127.0.0.1:${port}`], tls: { ca: file('ca.pem') } })
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
    const files = certificate('dpu-7')
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
    const own = { cert: file('own.pem'), key: file('own.key') }
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    openssl(
      'req',
      '-x509',
      ...curve,
      '-days',
      '1',
      '-subj',
      '/CN=dpu-7',
      '-keyout',
      own.key,
      '-out',
      own.cert,
    )
    const [ca, cert, key] = [file('ca.pem'), own.cert, own.key].map((path) => readFileSync(path))
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
