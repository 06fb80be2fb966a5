// What a Mosquitto that has rules says to us, and what we make of it: TLS with passwords and client certificates, logins
// and topics that it refuses, its limits, and the state that it retains.
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { createMqttIngest } from '../../aggregator/ingest-mqtt.ts'
import type { MqttIngestOptions } from '../../aggregator/ingest-mqtt.ts'
import { openIngest } from '../../aggregator/ingest.ts'
import { Secret, tls as tlsSchema } from '../../plugins/contract/settings.ts'
import type { Exporter } from '../../plugins/contract/index.ts'
import mqtt from '../../plugins/exporters/mqtt.ts'
import { topics } from '../../plugins/protocols/topics.ts'
import { createAuthority } from '../support/certificates.ts'
import type { Authority } from '../support/certificates.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import { openTestJournal } from '../support/journal.ts'
import { mosquittoIsHere, mosquittoOf, whyNoMosquitto } from '../support/mosquitto.ts'
import { eventually } from '../support/programs.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

/** Of Mosquitto's own package; its rules file alone knows no right to subscribe. */
const rulesPlugin = '/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so'
const secret = (value: string): Secret => new Secret('this test', () => value)
const batchOf = (seq: number) => sampleBatch(sampleLogs([{ body: `line ${seq}` }]), { seq, produced: seq })
const signal = (): AbortSignal => AbortSignal.timeout(15_000)
const root = 'dpulse'
let port = 20_900
const nextPort = (): number => port++

let authority: Authority
let passwords = ''
beforeAll(() => {
  authority = createAuthority()
  passwords = join(authority.directory, 'passwords')
  writeFileSync(passwords, '')
  for (const [name, password] of [
    ['dpu', 'right'],
    ['fleet', 'also right'],
  ] as const)
    execFileSync('mosquitto_passwd', ['-b', passwords, name, password], { stdio: 'ignore' })
})
afterAll(() => authority.remove())

async function brokerWith(lines: readonly string[], options: { anonymous?: boolean; scheme?: 'mqtts' } = {}) {
  const broker = mosquittoOf({ port: nextPort(), lines, onTestFinished, ...options })
  await broker.start()
  return broker
}

/** The aggregator's side, in this process. */
async function startIngest(options: Partial<MqttIngestOptions> & { urls: readonly string[] }) {
  const journal = await openTestJournal()
  const { log, logged } = testContext()
  const statuses: string[] = []
  const ingest = openIngest({
    journal,
    log,
    clock: realClock,
    device: 'the-aggregator',
    acknowledge: (collector, ack) =>
      void link.publish(topics(root).ack(collector), JSON.stringify(ack)).catch(() => undefined),
    onStatus: ({ collector, state }) => void statuses.push(`${collector} ${state}`),
  })
  const link = createMqttIngest({ root, receiver: ingest, log, clock: realClock, ...options })
  const controller = new AbortController()
  const running = link.run(controller.signal)
  onTestFinished(async () => {
    controller.abort()
    await running
    await ingest[Symbol.asyncDispose]()
  })
  return {
    ingest,
    link,
    logged,
    statuses,
    up: () =>
      vi.waitFor(
        () => expect([link.address, logged]).toEqual([expect.any(String), expect.anything()]),
        15_000,
      ),
  }
}

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

type Logged = ReturnType<typeof testContext>['logged']
/** What was logged of attempts to connect, once there is some. */
const refusals = (logged: Logged) =>
  vi.waitFor(() => {
    const found = logged.filter(({ message }) => message === 'no connection to the MQTT broker')
    expect(found.length).toBeGreaterThan(0)
    return found.map(({ level, fields }) => `${level}: ${String(fields.error)}`)
  }, 10_000)

const title = mosquittoIsHere ? 'a Mosquitto with rules' : `a Mosquitto with rules (${whyNoMosquitto})`

describe.skipIf(!mosquittoIsHere)(title, () => {
  const tlsLines = (clients: boolean): string[] => {
    const { cert, key } = authority.certificate('broker')
    const own = [`cafile ${authority.ca}`, `certfile ${cert}`, `keyfile ${key}`, `password_file ${passwords}`]
    return clients ? [...own, 'require_certificate true'] : own
  }

  test('with TLS, passwords and client certificates carries everything between real processes', async () => {
    const broker = await brokerWith(tlsLines(true), { anonymous: false, scheme: 'mqtts' })
    const files = (name: string) => {
      const { cert, key } = authority.certificate(name)
      return `tls: { ca: ${authority.ca}, cert: ${cert}, key: ${key} }`
    }
    writeFileSync(join(authority.directory, 'dpu'), 'right\n')
    writeFileSync(join(authority.directory, 'fleet'), 'also right')
    const login = (name: string) =>
      `username: ${name}, password: { file: ${join(authority.directory, name)} }, ${files(name)}`
    const fleet = fleetOf({
      portOffset: 18_900,
      aggregator: `mqtt: { external: { urls: ['${broker.url}'], ${login('fleet')} } }\n`,
      collector: [
        'sources: { otlp: { type: otlp } }',
        `exporters: { fleet: { type: mqtt, urls: ['${broker.url}'], ${login('dpu')} } }`,
        'pipelines: { all: { sources: [otlp], exporters: [fleet] } }',
      ].join('\n'),
      onTestFinished,
    })
    await fleet.startBoth()
    const sender = startSender(18_900, { name: 'secure', perRequest: 10, everyMs: 20 })
    await eventually('some are acknowledged', 20, () => sender.acknowledged > 500)
    await sender.stop()
    const ledger = await fleet.settled(30, ({ stored }) => stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(18_900, 'secure'), sender.sends)).toEqual({ lost: [], multiplied: [] })
    expect(fleet.output()).not.toMatch(/right/)
  }, 90_000)

  test.each([4, 5] as const)('names a login that it refuses, on both sides (MQTT %i)', async (version) => {
    const broker = await brokerWith([`password_file ${passwords}`], { anonymous: false })
    const wrong = { urls: [broker.url], username: 'dpu', password: secret('guess-17') }
    const login =
      /^error: the broker refuses the login as dpu: (not authorized|bad user name or password).*code/
    const { logged } = await startIngest({ ...wrong, protocolVersion: version })
    expect((await refusals(logged))[0]).toMatch(login)
    vi.stubEnv('TEST_MQTT_PASSWORD', 'guess-17')
    onTestFinished(() => void vi.unstubAllEnvs())
    const { context } = startExporter({
      ...wrong,
      password: { env: 'TEST_MQTT_PASSWORD' },
      protocol_version: version,
    })
    expect((await refusals(context.logged))[0]).toMatch(login)
    const nameless = await startIngest({ urls: [broker.url], protocolVersion: version })
    expect((await refusals(nameless.logged))[0]).toMatch(/refuses the login without a user name/)
    expect(JSON.stringify([logged, context.logged])).not.toContain('guess-17')
  })

  test('names the secret or certificate that is absent, and tries again', async () => {
    const broker = await brokerWith([`password_file ${passwords}`], { anonymous: false })
    let isThere = false
    const password = new Secret('file /run/absent', () => {
      if (!isThere) throw new Error('ENOENT: no such file')
      return 'right'
    })
    const late = await startIngest({ urls: [broker.url], username: 'dpu', password })
    expect((await refusals(late.logged))[0]).toMatch(
      /error: the secret from file \/run\/absent cannot be read/,
    )
    isThere = true
    await late.up()
    const tls = tlsSchema.parse({ ca: '/run/no-such-ca.pem' })
    const { logged } = await startIngest({ urls: [broker.url.replace('mqtt', 'mqtts')], tls })
    expect((await refusals(logged))[0]).toContain('/run/no-such-ca.pem')
  })

  test('is not believed without the authority, and lets nobody in without a certificate', async () => {
    const broker = await brokerWith(tlsLines(true), { anonymous: false, scheme: 'mqtts' })
    const login = { urls: [broker.url], username: 'dpu', password: secret('right') }
    const blind = await startIngest(login)
    expect((await refusals(blind.logged))[0]).toMatch(/self-signed certificate|unable to verify|certificate/)
    const bare = await startIngest({ ...login, tls: tlsSchema.parse({ ca: authority.ca }) })
    expect((await refusals(bare.logged))[0]).toMatch(/certificate required|alert|handshake/i)
    const { cert, key } = authority.certificate('dpu')
    const good = await startIngest({ ...login, tls: tlsSchema.parse({ ca: authority.ca, cert, key }) })
    await good.up()
  })

  test.skipIf(!existsSync(rulesPlugin))('names a subscription that its rules forbid', async () => {
    const rules = join(authority.directory, 'rules.json')
    const defaults = {
      publishClientSend: true,
      publishClientReceive: true,
      subscribe: false,
      unsubscribe: true,
    }
    writeFileSync(rules, JSON.stringify({ defaultACLAccess: defaults }))
    const lines = [`plugin ${rulesPlugin}`, `plugin_opt_config_file ${rules}`]
    const broker = await brokerWith(lines)
    for (const protocolVersion of [4, 5] as const) {
      const { logged } = await startIngest({ urls: [broker.url], protocolVersion })
      const [first] = await refusals(logged)
      expect(first).toMatch(
        /^error: the broker refuses the subscription to (\$share\/dpulse\/)?dpulse\/\+\/\S+: .*\(code 1\d\d\)/,
      )
    }
  })

  test('names a topic that its rules forbid to publish to', async () => {
    const acl = join(authority.directory, 'acl')
    writeFileSync(acl, 'topic read dpulse/#\ntopic write dpulse/+/status\n')
    const broker = await brokerWith([`acl_file ${acl}`])
    const { exporter, context } = startExporter({ urls: [broker.url], protocol_version: 5 })
    await context.whenReady
    await expect(exporter.export(batchOf(1), signal())).rejects.toMatchObject({
      code: 'PEER_REFUSED',
      message: expect.stringMatching(
        /refuses a message to dpulse\/dpu-under-test\/telemetry\/log\/logs: not auth/,
      ),
    })
  })
})

describe.skipIf(!mosquittoIsHere)(mosquittoIsHere ? 'what MQTT 5 adds' : `MQTT 5 (${whyNoMosquitto})`, () => {
  test('a message larger than the broker takes is refused before it ends the connection', async () => {
    const broker = await brokerWith(['max_packet_size 20000'])
    const { exporter, context } = startExporter({
      urls: [broker.url],
      protocol_version: 5,
      compression: 'none',
    })
    await context.whenReady
    const large = sampleBatch(sampleLogs([{ body: 'x'.repeat(30_000) }]))
    await expect(exporter.export(large, signal())).rejects.toMatchObject({
      name: 'PermanentError',
      code: 'INPUT_TOO_LARGE',
      message: expect.stringMatching(/the broker takes 20000$/),
    })
    expect(context.addresses).toHaveLength(1)
  })

  test('a batch that nobody is subscribed to comes back at once, not after the wait for an ack', async () => {
    const broker = await brokerWith([])
    const { exporter, context } = startExporter({ urls: [broker.url], protocol_version: 'auto' })
    await context.whenReady
    const began = performance.now()
    await expect(exporter.export(batchOf(1), signal())).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
      message: expect.stringMatching(/nobody is subscribed to dpulse\//),
      retryAfterMs: 1000,
    })
    expect(performance.now() - began).toBeLessThan(5000)
    const { ingest, up } = await startIngest({ urls: [broker.url] })
    await up()
    await exporter.export(batchOf(1), signal())
    expect(ingest.counters.batches).toBe(1)
  })

  test('the aggregator tells the broker its limits, and a broker of 3.1.1 is spoken to in its own way', async () => {
    const broker = await brokerWith(['max_queued_messages 0'])
    const { up, link, ingest } = await startIngest({ urls: [broker.url] })
    await up()
    expect(broker.output()).toMatch(/as dpulse-aggregator-\w+ \(p5, c1/)
    // Aedes knows no MQTT 5.
    const { startBroker } = await import('../../aggregator/broker.ts')
    const journal = await openTestJournal()
    const { log } = testContext()
    const old = await startBroker({
      listen: [{ host: '127.0.0.1', port: 0 }],
      root,
      retained: journal.table('dpulse_retained'),
      log,
      receiver: ingest,
    })
    onTestFinished(async () => old[Symbol.asyncDispose]())
    const { context } = startExporter({ urls: [`mqtt://127.0.0.1:${old.port}`], protocol_version: 'auto' })
    await context.whenReady
    expect(link.counters).toMatchObject({ connected: 1, connections: 1 })
  })

  test.each([4, 5] as const)('a huge message to the aggregator harms nobody (MQTT %i)', async (version) => {
    const broker = await brokerWith([])
    const { ingest, link, logged, up } = await startIngest({ urls: [broker.url], protocolVersion: version })
    await up()
    const client = await connectAsync({ host: '127.0.0.1', port: broker.port })
    onTestFinished(async () => client.endAsync(true))
    await client.publishAsync('dpulse/x/telemetry/log/logs', Buffer.alloc(20 * 1024 * 1024), { qos: 1 })
    const { exporter, context } = startExporter({ urls: [broker.url], ack_timeout: '1s' })
    await context.whenReady
    for (let delivered = false; !delivered;) {
      delivered = await exporter.export(batchOf(1), signal()).then(
        () => true,
        () => false,
      )
    }
    expect(ingest.counters.batches).toBe(1)
    // Mosquitto keeps to what an MQTT 5 client announces; from another we go away, and come back.
    if (version === 5) expect(link.counters.connections).toBe(1)
    else expect((await refusals(logged))[0]).toMatch(/the broker sent a packet of \d+ bytes, at most/)
  })
})

test.skipIf(!mosquittoIsHere)(
  'state that the broker retains is read, followed, and forgotten when it is gone',
  async () => {
    const broker = await brokerWith([])
    const client = await connectAsync({ host: '127.0.0.1', port: broker.port })
    client.on('error', () => undefined)
    onTestFinished(async () => client.endAsync(true))
    const status = { state: 'online', collector: 'dpu-7', instance: 'run-1' }
    const say = (topic: string, text: string) => client.publishAsync(topic, text, { qos: 1, retain: true })
    await say('dpulse/dpu-7/status', JSON.stringify(status))
    await say('dpulse/dpu-7/config/desired', '{"a":1}')
    await say('dpulse/dpu-8/config/reported', '{"b":1}')
    const { link, statuses, up } = await startIngest({ urls: [broker.url] })
    await up()
    const read = (pattern: string) =>
      [...link.retained(pattern)].map(({ topic, payload }) => `${topic} ${payload.toString()}`).toSorted()
    await vi.waitFor(() => expect(read('dpulse/#')).toHaveLength(3))
    expect(statuses).toEqual(['dpu-7 online'])
    expect(read('dpulse/+/config/desired')).toEqual(['dpulse/dpu-7/config/desired {"a":1}'])
    await link.publish('dpulse/dpu-7/config/desired', '{"a":2}', { retain: true, qos: 1 })
    await say('dpulse/dpu-8/config/reported', '')
    await vi.waitFor(() => expect(read('dpulse/+/config/+')).toEqual(['dpulse/dpu-7/config/desired {"a":2}']))
  },
)
