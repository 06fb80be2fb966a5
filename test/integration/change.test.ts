// Changing a collector from the other end of the fleet, with real programs: what is wished at the aggregator is tried,
// kept, refused or rolled back by the device, over kills of either, and loses no record.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  applied,
  bodies,
  changeOf,
  collectorOf,
  isKnown,
  line,
  rolloutsOf,
  run,
  until,
} from '../support/changing.ts'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { mosquittoIsHere, mosquittoOf, whyNoMosquitto } from '../support/mosquitto.ts'
import { eventually } from '../support/programs.ts'
import { sendOverTcp } from '../support/traffic.ts'
import { onServers } from '../support/world.ts'

describe('a configuration that is applied', { timeout: 240_000 }, () => {
  test('is in force at once, outlives a kill of the collector without its aggregator, and is undone', async () => {
    const portOffset = 18_000
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    expect(await changeOf(fleet)).toMatchObject({
      state: 'own',
      reported: { configuration: { origin: 'file' } },
    })

    const text = collectorOf({ portOffset, minimum: 'error' })
    const ended = await applied(fleet, text, '-o', 'json')
    expect({ code: ended.code, stderr: ended.stderr }).toMatchObject({ code: 0 })
    const { hash } = JSON.parse(ended.stdout) as { hash: string }
    expect(await changeOf(fleet)).toMatchObject({
      state: 'in_force',
      reported: { configuration: { hash, origin: 'applied' }, outcome: { state: 'in_force' } },
    })
    await sendOverTcp(5514 + portOffset, [line(6, 'an info'), line(3, 'an error')])
    await eventually('the error is stored', 30, async () => (await bodies(fleet)).includes('an error'))

    await fleet.kill('aggregator')
    await fleet.kill('collector')
    fleet.start('collector')
    await fleet.collectorListens()
    await sendOverTcp(5514 + portOffset, [line(6, 'another info'), line(3, 'another error')])
    fleet.start('aggregator')
    await fleet.aggregatorAnswers()
    await eventually('the other error is stored', 60, async () =>
      (await bodies(fleet)).includes('another error'),
    )
    expect(await bodies(fleet)).toEqual(['an error', 'another error'])
    expect((await until(fleet, 'it is in force still', ({ online }) => online)).state).toBe('in_force')

    const undone = await run(fleet, 'delete', 'config', '--device', 'dpu-7')
    expect(undone.code).toBe(0)
    expect(await changeOf(fleet)).toMatchObject({
      state: 'own',
      reported: { configuration: { origin: 'file' } },
    })
    await sendOverTcp(5514 + portOffset, [line(6, 'a last info')])
    await eventually('infos pass again', 30, async () => (await bodies(fleet)).includes('a last info'))
    const ledger = await fleet.settled()
    expect(ledger).toMatchObject({ balanced: true, unknown: 0 })
    expect(Object.keys(ledger.dropped)).toEqual(['filter'])
  })

  test('is refused by the aggregator or by the device, with the path, and nothing changes', async () => {
    const portOffset = 18_050
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    const wrong = await applied(fleet, collectorOf({ portOffset, minimum: 'loud' }))
    expect(wrong.code).toBe(1)
    expect(wrong.stdout).toContain('processors.floor.minimum')
    expect((await changeOf(fleet))?.state).toBe('own')

    // Only the device knows which modules are its own.
    const foreign = await applied(fleet, collectorOf({ portOffset, more: 'plugins: [./elsewhere.js]\n' }))
    expect(foreign.code).toBe(1)
    expect(foreign.stderr).toContain('plugins.0')
    expect(await changeOf(fleet)).toMatchObject({
      state: 'refused',
      reported: { configuration: { origin: 'file' }, outcome: { problems: [{ path: 'plugins.0' }] } },
    })
    const other = await applied(fleet, collectorOf({ portOffset, id: 'dpu-8' }))
    expect(other.stderr).toContain('collector.id')
    const unknown = await run(fleet, 'apply', '-f', join(fleet.data, 'applied.yaml'), '--device', 'dpu-9')
    expect({ code: unknown.code, stderr: unknown.stderr }).toEqual({
      code: 2,
      stderr: expect.stringContaining('there is no device dpu-9') as string,
    })
    await sendOverTcp(5514 + portOffset, [line(6, 'all is as before')])
    await eventually('lines pass', 30, async () => (await bodies(fleet)).includes('all is as before'))
  })

  test('that loses the aggregator is rolled back by the device, also when it is killed meanwhile', async () => {
    const portOffset = 18_100
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    const lost = collectorOf({ portOffset, mqtt: 9 })
    const ended = await applied(fleet, lost)
    expect(ended.code).toBe(1)
    expect(ended.stderr).toContain('rolled back: it did not reach the aggregator')
    expect(await changeOf(fleet)).toMatchObject({
      state: 'rolled_back',
      reported: { configuration: { origin: 'file' }, outcome: { state: 'rolled_back' } },
    })

    const kept = join(fleet.data, 'collector', 'change.json')
    await applied(fleet, lost, '--wait', '0')
    await eventually('it is on trial', 30, () => /"trial":\{/.test(readFileSync(kept, 'utf8')))
    await fleet.kill('collector')
    await sendLater(fleet)
    const back = await until(
      fleet,
      'it is rolled back',
      ({ online, state }) => online && state === 'rolled_back',
    )
    expect(back.detail).toContain('did not reach the aggregator')
    await eventually('what came meanwhile is stored', 30, async () =>
      (await bodies(fleet)).includes('meanwhile'),
    )

    await applied(fleet, lost, '--wait', '0')
    await eventually('it is on trial again', 30, () => /"trial":\{/.test(readFileSync(kept, 'utf8')))
    for (const _ of [1, 2]) {
      await fleet.kill('collector')
      await sendLater(fleet)
    }
    const again = await until(
      fleet,
      'it is rolled back once more',
      ({ online, state, detail }) => online && state === 'rolled_back' && detail.includes('ended twice'),
    )
    expect(again.reported?.configuration.origin).toBe('file')
    expect(await fleet.settled()).toMatchObject({ balanced: true })
  })

  test('is changed again and again under load, and every acknowledged record is stored once', async () => {
    const portOffset = 18_150
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    const sender = startSender(portOffset, { name: 'load', perRequest: 20, everyMs: 10 })
    for (const minimum of ['debug', 'trace', 'info', 'debug']) {
      const more = `limits: { disk: 4GiB } # ${minimum}\n`
      const ended = await applied(fleet, collectorOf({ portOffset, minimum, more }))
      expect({ code: ended.code, stderr: ended.stderr }).toMatchObject({ code: 0 })
    }
    // Another exporter: the one before drains.
    const moved = collectorOf({ portOffset }).replaceAll('fleet', 'other')
    expect((await applied(fleet, moved)).code).toBe(0)
    await eventually('enough was sent', 60, () => sender.acknowledged >= 3000)
    expect((await run(fleet, 'delete', 'config', '--device', 'dpu-7')).code).toBe(0)
    await sender.stop()
    const ledger = await fleet.settled(120, ({ stored }) => stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'load'), sender.sends)).toEqual({ lost: [], multiplied: [] })
  })

  test('waits for a collector that is away, over a kill of the aggregator', async () => {
    const portOffset = 18_200
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    await fleet.of('collector').stop()
    await until(fleet, 'it is offline', ({ online }) => !online)
    const ended = await applied(fleet, collectorOf({ portOffset, minimum: 'warn' }))
    expect({ code: ended.code, stderr: ended.stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('offline') as string,
    })
    expect((await changeOf(fleet))?.state).toBe('pending')
    await fleet.kill('aggregator')
    fleet.start('aggregator')
    await fleet.aggregatorAnswers()
    expect((await changeOf(fleet))?.state).toBe('pending')
    fleet.start('collector')
    await until(fleet, 'it is in force', ({ state }) => state === 'in_force')
  })
})

async function sendLater(fleet: Fleet): Promise<void> {
  fleet.start('collector')
  await fleet.collectorListens()
  await sendOverTcp(5514 + fleet.portOffset, [line(6, 'meanwhile')])
}

describe.skipIf(!mosquittoIsHere)(
  `with an external broker${mosquittoIsHere ? '' : ` (${whyNoMosquitto})`}`,
  { timeout: 240_000 },
  () => {
    test('a wish is tried and in force, and is published again to a broker that has forgotten it', async () => {
      const portOffset = 18_400
      const broker = mosquittoOf({ port: 1883 + portOffset, onTestFinished })
      await broker.start()
      const aggregator = JSON.stringify({ mqtt: { external: { urls: [broker.url] } } })
      const fleet = fleetOf({
        portOffset,
        collector: collectorOf({ portOffset }),
        aggregator,
        onTestFinished,
      })
      await fleet.startBoth()
      await isKnown(fleet)
      const ended = await applied(fleet, collectorOf({ portOffset, minimum: 'warn' }))
      expect({ code: ended.code, stderr: ended.stderr }).toMatchObject({ code: 0 })
      await fleet.of('collector').stop()
      await broker.kill('SIGKILL')
      const later = await applied(fleet, collectorOf({ portOffset, minimum: 'error' }), '--wait', '0')
      expect(later.code).toBe(0)
      await broker.start()
      fleet.start('collector')
      await until(
        fleet,
        'the later one is in force',
        ({ online, state }) => online && state === 'in_force',
        90,
      )
    })
  },
)

/** Logins as `deploy/mosquitto.acl` has them: a collector's is its id. */
function loginsOf(names: readonly string[]) {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-logins-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const passwords = join(directory, 'passwords')
  writeFileSync(passwords, '')
  for (const name of names) {
    execFileSync('mosquitto_passwd', ['-b', passwords, name, `secret of ${name}`], { stdio: 'ignore' })
    writeFileSync(join(directory, name), `secret of ${name}`)
  }
  const acl = resolve(import.meta.dirname, '../../deploy/mosquitto.acl')
  return {
    lines: [`password_file ${passwords}`, `acl_file ${acl}`],
    of: (username: string) => ({ username, password: { file: join(directory, username) } }),
  }
}

onServers('a rollout', (world) => {
  test(
    'that one aggregator began another ends, when the first is killed and the broker asks for logins; both say the same',
    { timeout: 240_000 },
    async () => {
      const portOffset = 18_600
      const { lines, of } = loginsOf(['dpu-7', 'dpulse-aggregator'])
      const logins = { lines, aggregator: of('dpulse-aggregator') }
      const { aggregator = '' } = await world.open({ portOffset, onTestFinished, logins })
      const configured = (minimum: string) => {
        const { username, password } = of('dpu-7')
        const login = `username: ${username}, password: { file: ${password.file} }, protocol_version: 5, urls:`
        return collectorOf({ portOffset, minimum }).replace('urls:', login)
      }
      const one = fleetOf({ portOffset, collector: configured('info'), aggregator, onTestFinished })
      const other = fleetOf({ portOffset: portOffset + 20, aggregator, onTestFinished })
      await one.startBoth()
      await isKnown(one)
      const given = ['--stages', '100', '--soak', '8s', '--wait', '0']
      const begun = await applied(one, configured('warn'), ...given)
      expect({ code: begun.code, stderr: begun.stderr }).toMatchObject({ code: 0 })
      other.start('aggregator')
      await other.aggregatorAnswers()
      expect((await rolloutsOf(other))[0]).toMatchObject({ state: 'running' })
      await one.kill('aggregator')
      const ended = await eventually('the other ends it', 60, async () => {
        const [found] = await rolloutsOf(other)
        return found?.state !== 'running' && found
      })
      expect(ended).toMatchObject({ state: 'done', reached: 1, devices: 1 })
      await until(other, 'it is in force', ({ online, state }) => online && state === 'in_force')

      one.start('aggregator')
      await one.aggregatorAnswers()
      await eventually('both say the same', 30, async () => {
        const [mine, theirs] = await Promise.all([one, other].map((fleet) => changeOf(fleet)))
        return mine?.state === 'in_force' && JSON.stringify(mine) === JSON.stringify(theirs)
      })
      expect(await rolloutsOf(one)).toEqual(await rolloutsOf(other))
      expect((await run(one, 'delete', 'config', '--device', 'dpu-7')).code).toBe(0)
      await until(other, 'it is undone there too', ({ state }) => state === 'own')
    },
  )
})
