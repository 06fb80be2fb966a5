// What is changed of a running collector beside its configuration: how much leaves a source for a while, and its labels.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { bodies, collectorOf, isKnown, line, run } from '../support/changing.ts'
import { fleetOf } from '../support/fleet.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { sendOverTcp } from '../support/traffic.ts'

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
    const portOffset = 23_640
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
