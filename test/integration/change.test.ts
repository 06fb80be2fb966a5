// Changing a collector from the other end of the fleet, with real programs: what is wished at the aggregator is tried,
// kept, refused or rolled back by the device, over kills of either, and loses no record.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { dpulse } from '../support/command-line.ts'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { mosquittoIsHere, mosquittoOf, whyNoMosquitto } from '../support/mosquitto.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { sendOverTcp } from '../support/traffic.ts'

interface Change {
  device: string
  online: boolean
  state: string
  detail: string
  reported: {
    configuration: { hash: string; origin: string }
    outcome: { state: string; problems: { path: string }[] } | null
    verbosity: { source: string; state: string }[]
  } | null
}

interface Given {
  portOffset: number
  minimum?: string
  mqtt?: number
  more?: string
  id?: string
}

/** A collector that takes syslog and OTLP, with a short trial. */
const collectorOf = ({
  portOffset,
  minimum = 'info',
  mqtt = 1883 + portOffset,
  more = '',
  id = 'dpu-7',
}: Given) => `
collector: { id: ${id}, trial: 4s, labels_file: /nonexistent/labels.yaml }
sources:
  lines: { type: syslog, tcp: ['127.0.0.1:${5514 + portOffset}'] }
  programs: { type: otlp, grpc: '127.0.0.1:${4317 + portOffset}', http: '127.0.0.1:${4318 + portOffset}' }
processors: { floor: { type: severity, minimum: ${minimum} } }
exporters: { fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:${mqtt}'], buffer: { spill: 100ms } } }
pipelines: { all: { sources: [lines, programs], processors: [floor], exporters: [fleet] } }
${more}`

const run = (fleet: Fleet, ...line: string[]) => dpulse(line, { url: apiUrl(fleet.portOffset) })

const applied = async (fleet: Fleet, text: string, ...more: string[]) => {
  const file = join(fleet.data, 'applied.yaml')
  writeFileSync(file, text)
  return run(fleet, 'apply', '-f', file, '--device', 'dpu-7', ...more)
}

const changeOf = async ({ portOffset }: Fleet): Promise<Change | undefined> =>
  ((await (await fetch(`${apiUrl(portOffset)}/api/config?device=dpu-7`)).json()) as Change[])[0]

const until = (fleet: Fleet, what: string, fits: (change: Change) => boolean, seconds = 60) =>
  eventually(what, seconds, async () => {
    const found = await changeOf(fleet)
    return found && fits(found) && found
  })

const isKnown = (fleet: Fleet) =>
  until(fleet, 'the aggregator knows the device', ({ online, reported }) => online && reported !== null)

const line = (severity: number, text: string) => {
  const message = `<${128 + severity}>1 ${new Date().toISOString().slice(0, 19)}.000000Z dpu-7 flowd 1 - - ${text}`
  return Buffer.from(`${message.length} ${message}`)
}

const bodies = async ({ portOffset }: Fleet): Promise<string[]> => {
  const answer = await fetch(`${apiUrl(portOffset)}/api/logs?since=1d&where=syslog.appname=flowd`)
  return ((await answer.json()) as { records: { body: string }[] }).records.map(({ body }) => body)
}

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

describe('verbosity of a source', { timeout: 240_000 }, () => {
  test('lets debug lines through for a while, over a kill and without the aggregator, and ends by itself', async () => {
    const portOffset = 18_250
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    await sendOverTcp(5514 + portOffset, [line(7, 'debug before'), line(6, 'info before')])
    const set = await run(fleet, 'verbosity', 'lines', 'debug', '--device', 'dpu-7', '--for', '12s')
    expect({ code: set.code, stderr: set.stderr }).toMatchObject({ code: 0 })
    await sendOverTcp(5514 + portOffset, [line(7, 'debug during')])
    await eventually('it passes', 30, async () => (await bodies(fleet)).includes('debug during'))

    await fleet.kill('aggregator')
    await fleet.kill('collector')
    fleet.start('collector')
    await fleet.collectorListens()
    await sendOverTcp(5514 + portOffset, [line(7, 'debug after the kill')])
    const kept = join(fleet.data, 'collector', 'change.json')
    await eventually('the device ends it', 40, () => /"state":"ended"/.test(readFileSync(kept, 'utf8')))
    await sendOverTcp(5514 + portOffset, [line(7, 'debug at last'), line(6, 'info at last')])
    fleet.start('aggregator')
    await fleet.aggregatorAnswers()
    await eventually('all has come', 60, async () => (await bodies(fleet)).includes('info at last'))
    expect(await bodies(fleet)).toEqual([
      'info before',
      'debug during',
      'debug after the kill',
      'info at last',
    ])
    expect(await fleet.settled()).toMatchObject({ balanced: true, dropped: { filter: 2 } })
  })

  test('quietens a source, and is ended before its time', async () => {
    const portOffset = 18_300
    const fleet = fleetOf({ portOffset, collector: collectorOf({ portOffset }), onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    const set = await run(fleet, 'verbosity', 'lines', 'error', '--device', 'dpu-7', '--for', '1h')
    expect(set.code).toBe(0)
    await sendOverTcp(5514 + portOffset, [line(4, 'a warning'), line(3, 'an error')])
    await eventually('the error passes', 30, async () => (await bodies(fleet)).includes('an error'))
    const absent = await run(fleet, 'verbosity', 'nothing', 'error', '--device', 'dpu-7', '--for', '1h')
    expect({ code: absent.code, stderr: absent.stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining('there is no source nothing; there are lines, programs') as string,
    })
    expect((await run(fleet, 'delete', 'verbosity', 'lines', '--device', 'dpu-7')).code).toBe(0)
    await sendOverTcp(5514 + portOffset, [line(4, 'a later warning')])
    await eventually('warnings pass', 30, async () => (await bodies(fleet)).includes('a later warning'))
    expect(await bodies(fleet)).toEqual(['an error', 'a later warning'])
  })
})

describe('labels', { timeout: 240_000 }, () => {
  test('of command, file and CSV are in devices, selectors and what is emitted, without a restart', async () => {
    const portOffset = 18_350
    const place = fleetOf({ portOffset, onTestFinished })
    const labelsFile = join(place.data, 'labels.yaml')
    const collector = collectorOf({ portOffset }).replace('/nonexistent/labels.yaml', labelsFile)
    const fleet = fleetOf({ portOffset, collector, data: place.data, onTestFinished })
    await fleet.startBoth()
    await isKnown(fleet)
    const { pid } = fleet.of('collector').child
    const labels = async () => {
      const answer = await fetch(`${apiUrl(portOffset)}/api/devices?device=dpu-7`)
      return ((await answer.json()) as { labels: Record<string, string> }[])[0]?.labels
    }
    expect((await run(fleet, 'label', 'dpu-7', 'dpu.rack=r12', 'site=lab')).code).toBe(0)
    expect(await labels()).toEqual({ rack: 'r12', site: 'lab' })
    writeFileSync(labelsFile, 'dpu.slot: 3\nrack: from the file\n')
    await eventually('the file is read', 30, async () => (await labels())?.slot === '3')
    expect(await labels()).toEqual({ rack: 'r12', site: 'lab', slot: '3' })

    const csv = join(fleet.data, 'labels.csv')
    writeFileSync(csv, 'device,dpu.rack,dpu.tenant,dpu.site\ndpu-7,,"a, b",-\ndpu-99,r1,,\n')
    const imported = await run(fleet, 'label', '--from', csv)
    expect(imported).toMatchObject({ code: 0, stderr: expect.stringContaining('dpu-99') as string })
    expect(await labels()).toEqual({ rack: 'r12', slot: '3', tenant: 'a, b' })
    expect((await run(fleet, 'label', 'dpu-7', 'dpu.rack-')).code).toBe(0)
    expect(await labels()).toEqual({ slot: '3', tenant: 'a, b' })

    await sendOverTcp(5514 + portOffset, [line(6, 'with labels')])
    const found = await eventually('the line', 30, async () => {
      const answer = await fetch(
        `${apiUrl(portOffset)}/api/logs?since=1d&text=with+labels&selector=dpu.slot=3`,
      )
      return ((await answer.json()) as { records: { resource: Record<string, unknown> }[] }).records[0]
    })
    expect(found.resource).toMatchObject({ 'dpu.slot': '3', 'dpu.tenant': 'a, b' })
    expect(found.resource).not.toHaveProperty('dpu.rack')
    expect(fleet.of('collector').child).toMatchObject({ pid, exitCode: null })
  })
})

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
