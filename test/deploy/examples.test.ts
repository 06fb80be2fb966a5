// The example configurations as `dpulse check` sees them where their secrets and certificates exist and where not, and the
// rules for Mosquitto as Mosquitto itself takes them.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { connectAsync } from 'mqtt'
import type { MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createAuthority } from '../support/certificates.ts'
import type { Authority } from '../support/certificates.ts'
import { dpulse, root } from '../support/command-line.ts'
import { mosquittoIsHere, whyNoMosquitto } from '../support/mosquitto.ts'
import { eventually } from '../support/programs.ts'

const folder = resolve(root, 'deploy/examples')
const examples = readdirSync(folder)
const environment = { MQTT_PASSWORD: 'secret', INFLUX_TOKEN: 'secret' }

/** What a configuration refers to, without what its comments speak of. */
const filesOf = (text: string): string[] => text.replaceAll(/#.*/g, '').match(/\/etc\/dpulse\/[\w.-]+/g) ?? []

/** The example with its secrets and certificates in a place that the test has filled, or has left empty. */
function placed(name: string, isFilled: boolean): { file: string; references: number } {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-examples-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const text = readFileSync(join(folder, name), 'utf8')
  const references = filesOf(text)
  if (isFilled) {
    for (const path of references) writeFileSync(path.replace('/etc/dpulse', directory), 'secret\n')
  }
  const file = join(directory, name)
  writeFileSync(file, text.replaceAll('/etc/dpulse/', `${directory}/`))
  return { file, references: references.length }
}

interface Checked {
  program: string
  valid: boolean
  problems: { path: string; message: string; severity: string }[]
}

async function check(file: string, values: NodeJS.ProcessEnv = environment): Promise<Checked> {
  const { stdout } = await dpulse(['check', file, '-o', 'json'], { environment: values })
  return JSON.parse(stdout) as Checked
}

describe('example configurations', () => {
  test('there is one for each role', () =>
    expect(examples.toSorted()).toEqual([
      'aggregator-broker.yaml',
      'aggregator-fleet.yaml',
      'aggregator-single.yaml',
      'collector-dpu.yaml',
      'collector-relay.yaml',
    ]))

  test.each(examples)('%s passes dpulse check without a warning', async (name) => {
    const { program, valid, problems } = await check(placed(name, true).file)
    expect({ program, valid, problems }).toEqual({ program: name.split('-')[0], valid: true, problems: [] })
  })

  test.each(examples)('of %s check names each file that is absent, and calls it valid', async (name) => {
    const { file, references } = placed(name, false)
    const { valid, problems } = await check(file)
    expect(valid).toBe(true)
    expect(references).toBeGreaterThan(0)
    expect(problems.map(({ severity }) => severity)).toEqual(Array(references).fill('warning'))
  })

  test('check names the environment variable of a secret that is not set', async () => {
    const { problems } = await check(placed('aggregator-fleet.yaml', true).file, { INFLUX_TOKEN: undefined })
    expect(problems).toMatchObject([
      { path: 'store.influxdb.token', severity: 'warning', message: expect.stringContaining('INFLUX_TOKEN') },
    ])
  })
})

describe('check of an aggregator', () => {
  const login = `{ users: { u: { password: "$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}" } } }`

  test.each([
    ['mqtt: { tls: { listen: ["127.0.0.1:8883"] } }', 'mqtt.tls', 'error'],
    ['otlp: { tls: { ca: ca.pem, cert: c.pem } }', 'otlp.tls', 'error'],
    ['mqtt: { listen: ["127.0.0.1:1883"], external: { urls: ["mqtt://b:1883"] } }', 'mqtt.listen', 'error'],
    [`mqtt: { login: ${login}, external: { urls: ["mqtt://b:1883"] } }`, 'mqtt.login', 'error'],
    ['mqtt: { external: { urls: ["mqtt://b:1883"], tls: {} } }', 'mqtt.external.urls.0', 'warning'],
    ['mqtt: { listen: ["127.0.0.1:1883", "0.0.0.0:1883"] }', 'mqtt.listen.1', 'warning'],
    ['api: { listen: ["127.0.0.1:8600", "[::1]:8601"] }', 'api.listen.1', 'error'],
    [
      'journal: { kafka: { sasl: { mechanism: plain, username: u, password: { env: PATH } } } }',
      'journal.kafka.sasl',
      'warning',
    ],
    ['journal: { kafka: { tls: { cert: /dev/null } } }', 'journal.kafka.tls', 'error'],
    ['store: { influxdb: { url: "http://db:8086" } }', 'store.influxdb.url', 'warning'],
  ])('of %s names %s as %s', async (text, path, severity) => {
    const directory = mkdtempSync(join(tmpdir(), 'dpulse-examples-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'aggregator.yaml')
    writeFileSync(file, text)
    const { program, valid, problems } = await check(file)
    expect(program).toBe('aggregator')
    expect(problems).toContainEqual(expect.objectContaining({ path, severity }))
    expect(valid).toBe(!problems.some((problem) => problem.severity === 'error'))
  })
})

const title = 'mosquitto.conf lets a collector speak for itself only'
describe('the broker', () => {
  const port = 20_870
  let authority: Authority
  beforeAll(() => {
    authority = createAuthority()
  })
  afterAll(() => authority.remove())

  async function startBroker(): Promise<void> {
    const { cert, key } = authority.certificate('broker')
    const passwords = join(authority.directory, 'passwords')
    writeFileSync(passwords, '')
    execFileSync('mosquitto_passwd', ['-b', passwords, 'dpulse-aggregator', 'right'], { stdio: 'ignore' })
    const places: Record<string, string> = {
      '/etc/mosquitto/broker.pem': cert,
      '/etc/mosquitto/broker.key': key,
      '/etc/mosquitto/ca.pem': authority.ca,
      '/etc/mosquitto/passwords': passwords,
      '/etc/mosquitto/acl': resolve(root, 'deploy/mosquitto.acl'),
      '/var/lib/mosquitto/': `${authority.directory}/`,
      'listener 8883': `listener ${port} 127.0.0.1`,
      'listener 8884': `listener ${port + 1} 127.0.0.1`,
    }
    let text = readFileSync(resolve(root, 'deploy/mosquitto.conf'), 'utf8')
    for (const [from, to] of Object.entries(places)) text = text.replaceAll(from, to)
    const file = join(authority.directory, 'mosquitto.conf')
    writeFileSync(file, process.getuid?.() === 0 ? `user root\n${text}` : text)
    const path = `${process.env.PATH ?? ''}:/usr/sbin:/usr/local/sbin`
    const child = spawn('mosquitto', ['-c', file], { stdio: 'ignore', env: { ...process.env, PATH: path } })
    onTestFinished(async () => {
      const gone = once(child, 'exit')
      if (child.exitCode === null && child.kill('SIGKILL')) await gone
    })
  }

  const connected = (at: number, who: Record<string, string | Buffer>): Promise<MqttClient> =>
    eventually('the broker takes a login', 10, async () => {
      const ca = readFileSync(authority.ca)
      const client = await connectAsync(`mqtts://127.0.0.1:${at}`, { protocolVersion: 5, ca, ...who }, false)
      onTestFinished(() => void client.end(true))
      return client
    })

  test.skipIf(!mosquittoIsHere)(mosquittoIsHere ? title : `${title} (${whyNoMosquitto})`, async () => {
    await startBroker()
    const aggregator = await connected(port + 1, { username: 'dpulse-aggregator', password: 'right' })
    const heard: string[] = []
    aggregator.on('message', (topic) => heard.push(topic))
    await aggregator.subscribeAsync('$share/dpulse/dpulse/+/telemetry/+/+', { qos: 1 })
    const { cert, key } = authority.certificate('dpu-1')
    const collector = await connected(port, { cert: readFileSync(cert), key: readFileSync(key) })
    await expect(collector.publishAsync('dpulse/dpu-2/telemetry/log/logs', 'x', { qos: 1 })).rejects.toThrow(
      /not authorized/i,
    )
    await collector.publishAsync('dpulse/dpu-1/telemetry/log/logs', 'x', { qos: 1 })
    await eventually('what it may publish arrives', 10, () => heard.length > 0)
    expect(heard).toEqual(['dpulse/dpu-1/telemetry/log/logs'])
    const told: string[] = []
    collector.on('message', (topic) => told.push(topic))
    await collector.subscribeAsync('dpulse/dpu-1/ack')
    await aggregator.publishAsync('dpulse/dpu-1/ack', '{}', { qos: 1 })
    await eventually('its acknowledgements arrive', 10, () => told.length > 0)
    for (const at of [port, port + 1]) {
      const ca = readFileSync(authority.ca)
      await expect(connectAsync(`mqtts://127.0.0.1:${at}`, { ca }, false)).rejects.toThrow(
        /certificate|handshake|Not authorized/i,
      )
    }
  })
})
