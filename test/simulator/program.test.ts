// `dpulse simulate` and `dpulse up --simulate` as processes: a fleet on a real aggregator, and what a person is told.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { dpulse } from '../support/command-line.ts'
import { askingOf } from '../support/asking.ts'
import type { Queried } from '../support/asking.ts'
import { eventually, startProgram } from '../support/programs.ts'
import { ledgerOf } from '../support/traffic.ts'

const portOffset = 20_700
const fleet = 200
/** For a fleet to be there from nothing, aggregator and all. */
const withinSeconds = 10

interface DeviceRow {
  device: string
  state: string
  labels: Record<string, string>
}

const { get } = askingOf(portOffset)

async function devicesOnline(): Promise<DeviceRow[]> {
  const list = await get<DeviceRow[]>('/api/devices')
  return list.filter(({ state, labels }) => state === 'online' && labels.kind !== undefined)
}

describe('dpulse up --simulate', () => {
  test(`has ${fleet} devices online within ${withinSeconds} s, and a faster fleet replays the past beside them`, async () => {
    const data = mkdtempSync(join(tmpdir(), 'dpulse-up-simulate-'))
    const up = startProgram('up', { data, portOffset, arguments: ['--simulate', String(fleet)] })
    onTestFinished(async () => {
      await up.stop()
      rmSync(data, { recursive: true, force: true })
    })
    const online = await eventually(`${fleet} devices online`, withinSeconds, async () => {
      const list = await devicesOnline()
      return list.length >= fleet && list
    }).catch((cause: unknown) => {
      throw new Error(up.output(), { cause })
    })
    expect(online).toHaveLength(fleet)
    for (const { labels } of online) {
      expect(Object.keys(labels).toSorted()).toEqual(
        ['host', 'kind', 'rack', 'site', 'slot', 'tenant'].toSorted(),
      )
    }

    const line = ['--devices', '3', '--seed', '9', '--speed', '60', '--duration', '4m']
    const replay = await dpulse(['simulate', ...line, '--port-offset', String(portOffset)], {})
    expect(replay).toMatchObject({ code: 0 })
    const known = new Set(online.map(({ device }) => device))
    const series = await eventually('four minutes of three more devices', 30, async () => {
      const found = await get<Queried[]>('/api/query', { metric: 'system.uptime', since: '10m' })
      const replayed = found.filter(({ device, points }) => points.length > 20 && !known.has(device))
      return replayed.length === 3 && replayed
    })
    for (const { points } of series) {
      const times = points.map(([time]) => Date.parse(time))
      const spanMs = Math.max(...times) - Math.min(...times)
      expect(spanMs).toBeGreaterThan(200_000)
      expect(Math.max(...times)).toBeLessThan(Date.now() + 60_000)
    }
    const ledger = await ledgerOf(portOffset)
    expect(ledger.balanced).toBe(true)
    expect(ledger.unknown).toBe(0)
  })
})

describe('dpulse simulate', () => {
  test.each([
    [['--to', 'carrier-pigeon://x'], /--to carrier-pigeon:\/\/x: expected an address that begins with mqtt/],
    [['--devices', 'toaster:3'], /no kind of device toaster; there is/],
    [['--devices', '0'], /1 to 100000 devices/],
    [['--devices', 'many'], /bluefield-3:10/],
    [['--faults', 'gremlins'], /there is no fault "gremlins"/],
    [['--speed', '0'], /0\.1 to 3600/],
    [['--duration', 'soon'], /a duration/],
    [['--truth', '/nowhere/at/all'], /--truth \/nowhere\/at\/all cannot be written/],
    [['--to', 'file:x', '--bmc', '9000'], /--bmc/],
  ])('refuses %j and says what it takes', async (line, message) => {
    const ended = await dpulse(['simulate', ...line], {})
    expect(ended.code).toBe(2)
    expect(ended.stderr).toMatch(message)
  })

  test('lists the faults that there are', async () => {
    const { stdout, code } = await dpulse(['simulate', '--faults', 'help'], {})
    expect(code).toBe(0)
    expect(stdout).toMatch(/^overheating +\S/m)
  })
})
