// Restarts in every order, of real programs: what a killed run left is delivered under its session, two of one name are
// named, and whoever finds a place taken says by whom.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import { apiUrl, childrenOf, eventually, healthy, startProgram } from '../support/programs.ts'
import { ledgerOf, sendOverTcp, syslogLines } from '../support/traffic.ts'
import { inBothWorlds } from '../support/world.ts'

const sessionsOf = (streams: { session: string }[]) => new Set(streams.map(({ session }) => session))
/** What has ended and is only listed until somebody asks for its exit code is gone. */
const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

inBothWorlds('a collector without its aggregator that is killed twice and started a third time', (world) => {
  test('delivers what all three sessions acknowledged, and the ledger names nothing unknown but what was never safe', async () => {
    const portOffset = 7400
    const place = await world.open({ portOffset, onTestFinished })
    const fleet = fleetOf({ portOffset, ...place, onTestFinished })
    const sent: Record<string, number[]> = {}
    for (const run of ['first', 'second', 'third']) {
      fleet.start('collector')
      await fleet.collectorListens()
      const sender = startSender(portOffset, { name: run, perRequest: 50, everyMs: 10 })
      await eventually('some are acknowledged', 60, () => sender.acknowledged >= 5000)
      await sender.stop()
      sent[run] = [...sender.sends]
      if (run !== 'third') await fleet.kill('collector')
    }
    fleet.start('aggregator')
    await fleet.aggregatorAnswers()
    const total = Object.values(sent).reduce((sum, { length }) => sum + length, 0)
    const ledger = await fleet.settled(120, (found) => found.stored >= total)
    expect(ledger).toMatchObject({ balanced: true, dropped: {} })
    expect(sessionsOf(ledger.streams).size).toBeGreaterThanOrEqual(3)
    for (const [run, sends] of Object.entries(sent)) {
      expect(wrongOf(await storedOf(portOffset, run), sends)).toEqual({ lost: [], multiplied: [] })
    }
    // The senders had their answers before each kill; what else was under way then is the collector's own.
    expect(ledger.streams.filter(({ class: name, unknown }) => name === 'log' && unknown > 0)).toEqual([])
  }, 300_000)
})

interface Device {
  device: string
  state: string
  conflicts: { collectors: string[]; detail: string }[]
}

inBothWorlds('two collectors under one id', (world) => {
  test('are both heard, both shown as a conflict, and each has an account that adds up', async () => {
    const portOffset = 7500
    const twin = (port: number, collectorApi: number) => ({
      portOffset,
      onTestFinished,
      collectorApi,
      collector: `
collector: { id: dpu-twin }
api: { listen: ['127.0.0.1:${collectorApi}'] }
sources: { lines: { type: syslog, tcp: '127.0.0.1:${port}' } }
exporters: { aggregator: { type: mqtt, urls: ['mqtt://127.0.0.1:${1883 + portOffset}'] } }
pipelines: { all: { sources: [lines], exporters: [aggregator] } }
`,
    })
    const place = await world.open({ portOffset, onTestFinished })
    const one = fleetOf({ ...twin(5514 + portOffset, 8601 + portOffset), ...place })
    const two = fleetOf(twin(5515 + portOffset, 8602 + portOffset))
    one.start('aggregator')
    await one.aggregatorAnswers()
    for (const fleet of [one, two]) {
      fleet.start('collector')
      await fleet.collectorListens()
    }
    const send = async (first: number) => {
      await Promise.all([
        sendOverTcp(5514 + portOffset, [syslogLines(first, 1000, 'twin-a')]),
        sendOverTcp(5515 + portOffset, [syslogLines(first, 1000, 'twin-b')]),
      ])
    }
    let rounds = 0
    const device = await eventually('the conflict is shown', 90, async () => {
      await send(rounds++ * 1000)
      await new Promise((resume) => setTimeout(resume, 500))
      const list = (await (await fetch(`${apiUrl(portOffset)}/api/devices`)).json()) as Device[]
      const found = list.find(({ device: name }) => name === 'dpu-twin')
      return found !== undefined && found.conflicts.length > 0 && found
    })
    expect(device.conflicts[0]?.detail).toMatch(/two|both|2/i)
    const ledger = await one.settled(90, (found) => found.stored >= rounds * 2000)
    expect(ledger).toMatchObject({
      produced: rounds * 2000,
      stored: rounds * 2000,
      balanced: true,
      unknown: 0,
      dropped: {},
    })
    expect(sessionsOf(ledger.streams).size).toBe(2)
  }, 240_000)
})

describe('a second program on the same data', () => {
  test('is refused with the process that holds it, and the first goes on', async () => {
    const portOffset = 7600
    const fleet = fleetOf({ portOffset, onTestFinished })
    await fleet.startBoth()
    for (const name of ['aggregator', 'collector'] as const) {
      const second = startProgram(name, { data: fleet.data, portOffset: portOffset + 100 })
      const [code] = (await once(second.child, 'close')) as [number | null]
      expect(code).toBe(1)
      expect(second.output()).toContain(`process ${fleet.pid(name)}`)
      expect(second.output()).toContain('--data')
    }
    expect(await healthy(portOffset)).toBe(true)
  }, 240_000)

  test('and one on the same ports is refused with the process that holds them and the option that moves it', async () => {
    const portOffset = 7800
    const fleet = fleetOf({ portOffset, onTestFinished })
    await fleet.startBoth()
    const other = fleetOf({ portOffset, onTestFinished })
    for (const name of ['aggregator', 'collector'] as const) {
      const second = startProgram(name, { data: other.data, portOffset })
      const [code] = (await once(second.child, 'close')) as [number | null]
      expect(code).toBe(1)
      expect(second.output()).toMatch(new RegExp(`port \\d+.*process ${fleet.pid(name)}.*--port-offset`))
    }
    expect(await healthy(portOffset)).toBe(true)
  }, 240_000)
})

describe('dpulse up', () => {
  test('killed, takes its children along within seconds; told to stop under a flow, it drains and ends with 0', async () => {
    const portOffset = 7700
    const fleet = fleetOf({ portOffset, onTestFinished })
    const start = async () => {
      const up = startProgram('up', { data: fleet.data, portOffset })
      onTestFinished(() => up.stop())
      await eventually('both are up', 90, () => healthy(portOffset))
      return up
    }
    const first = await start()
    const children = childrenOf(first.child.pid ?? 0).map(({ pid }) => pid)
    expect(children).toHaveLength(2)
    first.child.kill('SIGKILL')
    await eventually('its children have gone', 8, () => !children.some(isAlive))
    const second = await start()
    const sender = startSender(portOffset, { name: 'until-the-end', perRequest: 50, everyMs: 20 })
    await eventually('some are acknowledged', 60, () => sender.acknowledged >= 5000)
    const gone = once(second.child, 'exit')
    second.child.kill('SIGTERM')
    expect(await gone).toEqual([0, null])
    await start()
    await sender.stop()
    const ledger = await fleet.settled(90, (found) => found.stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'until-the-end'), sender.sends)).toEqual({
      lost: [],
      multiplied: [],
    })
    expect((await ledgerOf(portOffset)).balanced).toBe(true)
  }, 240_000)
})
