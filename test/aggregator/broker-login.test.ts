// Logins at the embedded broker, over real connections: who is let in, for whom it may speak, and what it costs others.
import { connectAsync } from 'mqtt'
import type { IClientOptions } from 'mqtt'
import { afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { Logins } from '../../aggregator/broker-login.ts'
import type { User } from '../../aggregator/broker-login.ts'
import { aggregatorConfig } from '../../aggregator/config.ts'
import { openMqtt } from '../../aggregator/mqtt.ts'
import { fitsPassword, hashPassword, isPasswordHash } from '../../plugins/contract/password.ts'
import type { Exporter } from '../../plugins/contract/index.ts'
import mqtt from '../../plugins/exporters/mqtt.ts'
import { realClock } from '../support/clock.ts'
import { dpulse } from '../support/command-line.ts'
import { testContext } from '../support/context.ts'
import { openIntake } from '../support/intake.ts'
import { sampleBatch, sampleLogs } from '../support/records.ts'

let users: Record<string, User> = {}
beforeAll(async () => {
  users = {
    card: { password: await hashPassword('for the card'), collector: 'dpu-under-test' },
    all: { password: await hashPassword('für alle') },
  }
})
afterEach(() => void vi.unstubAllEnvs())

async function intakeWith(loopback = false) {
  const intake = await openIntake({ login: { users, loopback } })
  onTestFinished(async () => intake[Symbol.asyncDispose]())
  return intake
}

async function connect(port: number, login: IClientOptions) {
  const client = await connectAsync({ host: '127.0.0.1', port, reconnectPeriod: 0, ...login })
  client.on('error', () => undefined)
  onTestFinished(async () => client.endAsync(true))
  return client
}

describe('a password', () => {
  test('fits its own hash, and no other', async () => {
    const hash = await hashPassword('s3cret')
    expect(isPasswordHash(hash)).toBe(true)
    expect(await fitsPassword(Buffer.from('s3cret'), hash)).toBe(true)
    expect(await fitsPassword(Buffer.from('s3cret '), hash)).toBe(false)
    expect(await hashPassword('s3cret')).not.toBe(hash)
  })

  test('stands in no configuration, nor does a hash that is weak or would take all memory', async () => {
    const hash = await hashPassword('s3cret')
    const mqttWith = (password: string) =>
      aggregatorConfig.safeParse({ mqtt: { login: { users: { card: { password } } } } }).success
    expect(mqttWith(hash)).toBe(true)
    for (const bad of [
      's3cret',
      '',
      hash.replace('ln=15', 'ln=4'),
      hash.replace('ln=15', 'ln=30'),
      `${hash}$`,
    ])
      expect([bad, mqttWith(bad)]).toEqual([bad, false])
  })

  test('is hashed by the command, from its input', async () => {
    const { stdout, code } = await dpulse(['password'], { input: 'typed\n' })
    expect(code).toBe(0)
    expect(await fitsPassword(Buffer.from('typed'), stdout.trim())).toBe(true)
    const none = await dpulse(['password'], { input: '' })
    expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('no password')])
  })
})

describe('the embedded broker with users', () => {
  test('takes batches from a collector with its password', async () => {
    const intake = await intakeWith()
    vi.stubEnv('TEST_PASSWORD', 'for the card')
    const context = testContext({ clock: realClock })
    const given = { urls: [intake.url], username: 'card', password: { env: 'TEST_PASSWORD' } }
    const exporter = mqtt.create(mqtt.config.parse(given), context) as Required<Exporter>
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

  test.each<[string, IClientOptions, RegExp]>([
    ['without a login', {}, /Not authorized/],
    ['with a wrong password', { username: 'card', password: 'guess' }, /Bad username or password/],
    ['with a name that nobody has', { username: 'nobody', password: 'guess' }, /Bad username or password/],
    ['with a name that every object has', { username: 'constructor', password: 'x' }, /Bad username/],
    ['with a name alone', { username: 'card' }, /Not authorized/],
  ])('lets nobody in %s, and says why in its log', async (_, login, error) => {
    const intake = await intakeWith()
    await expect(connect(intake.broker.port, login)).rejects.toThrow(error)
    await vi.waitFor(() => expect(intake.broker.counters.connections).toBe(0))
    expect(intake.broker.counters.refusedLogins).toBe(1)
    const reasons = intake.logged.map(({ fields }) => String(fields.reason))
    expect(reasons.join('\n')).toMatch(/a login is needed|wrong user name or password/)
    expect(JSON.stringify(intake.logged)).not.toContain('guess')
  })

  test('holds a user to its collector, and lets one without speak for all', async () => {
    const { broker } = await intakeWith()
    const all = await connect(broker.port, { username: 'all', password: 'für alle' })
    await all.publishAsync('dpulse/dpu-8/sighting', '{}', { qos: 1 })
    expect(await all.subscribeAsync('dpulse/#')).toHaveLength(1)
    const card = await connect(broker.port, { username: 'card', password: 'for the card' })
    await card.publishAsync('dpulse/dpu-under-test/sighting', '{}', { qos: 1 })
    await expect(card.subscribeAsync('dpulse/+/status')).rejects.toThrow(/subscribe|Unspecified/i)
    const ended = new Promise<void>((resolve) => card.once('close', () => resolve()))
    card.publish('dpulse/dpu-8/sighting', '{}', { qos: 1 }, () => undefined)
    await ended
    expect(broker.counters.refusedMessages).toBe(1)
  })

  test('asks nothing of this machine where it is told so, but a login that is given must be right', async () => {
    const { broker } = await intakeWith(true)
    await connect(broker.port, {})
    await expect(connect(broker.port, { username: 'card', password: 'no' })).rejects.toThrow(/Bad username/)
  })

  test('lets 200 clients that it knows back in at once', async () => {
    const { broker } = await intakeWith()
    const login = { username: 'card', password: 'for the card' }
    await connect(broker.port, login)
    const began = performance.now()
    await Promise.all(Array.from({ length: 200 }, () => connect(broker.port, login)))
    // Each check of a hash takes some 80 ms of CPU.
    expect(performance.now() - began).toBeLessThan(5000)
  })
})

describe('Logins', () => {
  const peer = (address: string, owner?: string) => ({ peer: address, owner })
  const bytes = (text: string) => Buffer.from(text)

  test('who guesses makes others wait no longer than its few attempts take', async () => {
    const limits = { checks: 1, waiting: 3, waitingPerPeer: 2 }
    const logins = new Logins({ users, loopback: false, limits })
    const guesses = Array.from({ length: 20 }, (_, index) =>
      logins.look(peer('10.0.0.1'), 'card', bytes(`guess ${index}`)),
    )
    const honest = logins.look(peer('10.0.0.2'), 'all', bytes('für alle'))
    const codes = (await Promise.all(guesses)).map((one) => (one.let === 'out' ? one.code : 0))
    expect(codes.filter((code) => code === 4)).toHaveLength(2)
    expect(codes.filter((code) => code === 3)).toHaveLength(18)
    expect(await honest).toEqual({ let: 'in', collector: undefined })
    // And all is as before.
    expect(await logins.look(peer('10.0.0.1'), 'card', bytes('for the card'))).toMatchObject({ let: 'in' })
  })

  test('a certificate is a login, and one that contradicts the user lets nobody in', async () => {
    const logins = new Logins({ users, loopback: false })
    expect(await logins.look(peer('10.0.0.1', 'dpu-9'), undefined, undefined)).toEqual({
      let: 'in',
      collector: 'dpu-9',
    })
    const verdict = await logins.look(peer('10.0.0.1', 'dpu-9'), 'card', bytes('for the card'))
    expect(verdict).toMatchObject({ let: 'out', code: 5, reason: expect.stringContaining('dpu-9') })
    expect(await logins.look(peer('10.0.0.1', 'dpu-9'), 'all', bytes('für alle'))).toEqual({
      let: 'in',
      collector: 'dpu-9',
    })
  })
})

test('logins beside an external broker that --broker names are refused by path, not left out silently', async () => {
  const intake = await intakeWith()
  const { mqtt: config } = aggregatorConfig.parse({ mqtt: { login: { users } } })
  const { log } = testContext()
  const opening = openMqtt({
    config,
    broker: 'mqtt://127.0.0.1:1',
    portOffset: 0,
    ingest: intake.ingest,
    retained: intake.journal.table('dpulse_retained'),
    place: undefined,
    onReported: () => undefined,
    log,
    clock: realClock,
  })
  await expect(opening).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringMatching(/mqtt\.login .* --broker/),
  })
})
