// What a product has to be so that the rest can take it for granted, and that BlueField-3 is as a real one was captured.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { kernelEventOf } from '../../plugins/protocols/kernel/events.ts'
import { kinds } from '../../simulator/kinds/index.ts'
import { kindOf, makeDevice, run } from '../support/simulated.ts'

test('there are five kinds of four vendors, each called as no other', () => {
  expect(kinds.map(({ name }) => name).toSorted()).toEqual([
    'bluefield-2',
    'bluefield-3',
    'ipu-e2100',
    'octeon',
    'pensando-dsc2',
  ])
})

describe.each(kinds.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
  test('names each of its sensors, ports and services once', () => {
    for (const names of [
      kind.sensors.map(({ id }) => id),
      kind.ports.map(({ name }) => name),
      kind.ports.map(({ pci }) => pci),
      kind.services,
    ])
      expect(new Set(names).size).toBe(names.length)
  })

  test('has serial numbers for a large fleet', () => {
    expect(kind.serial.split('#').length - 1).toBeGreaterThanOrEqual(6)
    expect(`${kind.name}-${kind.serial}`.toLowerCase().replaceAll('#', '0')).toMatch(/^[a-z0-9-]{1,64}$/)
  })

  test('slows down before it goes off, and is warned of before either', () => {
    const { thermal, sensors } = kind
    const asic = sensors.find(({ of }) => of === 'asic')
    expect(thermal.idle).toBeLessThan(thermal.full)
    expect(asic?.warning).toBeLessThanOrEqual(thermal.throttle)
    expect(thermal.throttle + 10).toBeLessThan(thermal.shutdown)
  })

  test('has sensors for parts that it has only', () => {
    const uplinks = kind.ports.filter(({ isOptical }) => isOptical)
    const counts = { optics: uplinks.length, fan: kind.fans, drive: kind.storage.length }
    for (const { id, of, index = 0, nominal } of kind.sensors) {
      if (of === 'optics' || of === 'fan' || of === 'drive')
        expect({ id, isThere: index < counts[of] }).toEqual({ id, isThere: true })
      if (of === 'rail') expect(nominal).toBeGreaterThan(0)
    }
    // Temperatures of optics are by number of the port.
    expect(kind.ports.slice(0, uplinks.length)).toEqual(uplinks)
  })

  test('boots without a line that is an event of trouble', () => {
    const device = makeDevice(kind, 4)
    const events = device.state.kernel.flatMap(({ text }) => kernelEventOf(text)?.name ?? [])
    expect(events.filter((name) => name !== 'dpu.kernel.nic_module')).toEqual([])
    expect(device.state.kernel.filter(({ text }) => /[{}]/.test(text))).toEqual([])
  })

  test('has its firmware in several versions over a fleet', () => {
    const fleet = Array.from({ length: 60 }, (_, seed) => makeDevice(kind, seed).state.firmware)
    for (const [part, versions] of Object.entries(kind.firmware)) {
      const found = new Set(fleet.map((firmware) => firmware[part]))
      expect([...found].every((version) => versions.includes(version ?? ''))).toBe(true)
      expect({ part, found: found.size }).toEqual({ part, found: versions.length })
    }
  })

  test('reads as nothing but healthy in an hour of work', () => {
    const device = makeDevice(kind, 2)
    run(device, 3600)
    expect(device.state.bmc.log).toEqual([])
    expect(device.state.isThrottled).toBe(false)
    expect(device.state.power).toBe('on')
  })
})

// Captured data lies beside the repository where it is developed, and is no part of it.
const captured = join(import.meta.dirname, '../../../shared/data/redfish/bluefield3-bf23.10/v1')

interface Sensor {
  Id: string
  Reading: number | null
  Thresholds?: Partial<
    Record<'UpperCaution' | 'UpperCritical' | 'LowerCaution' | 'LowerCritical', { Reading: number }>
  >
}

const read = (...path: string[]): unknown => JSON.parse(readFileSync(join(captured, ...path), 'utf8'))

describe.skipIf(!existsSync(captured))('beside the BMC of a real BlueField-3', () => {
  test('it has the same sensors with the same limits, and reads nearly the same voltages', () => {
    const kind = kindOf('bluefield-3')
    for (const name of readdirSync(join(captured, 'Chassis/Card1/Sensors'), { withFileTypes: true })) {
      if (!name.isDirectory()) continue
      const real = read('Chassis/Card1/Sensors', name.name, 'index.json') as Sensor
      const ours = kind.sensors.find(({ id }) => id === real.Id)
      const limit = (of: keyof NonNullable<Sensor['Thresholds']>) => real.Thresholds?.[of]?.Reading
      expect(ours).toMatchObject({ id: real.Id })
      expect([ours?.warning, ours?.critical, ours?.lowWarning, ours?.lowCritical]).toEqual([
        limit('UpperCaution'),
        limit('UpperCritical'),
        limit('LowerCaution'),
        limit('LowerCritical'),
      ])
      if (ours?.of === 'rail')
        expect(Math.abs((ours.nominal ?? 0) / (real.Reading ?? 0) - 1)).toBeLessThan(0.01)
    }
  })

  test('its versions are among ours', () => {
    const { firmware } = kindOf('bluefield-3')
    for (const part of ['BMC_Firmware', 'Bluefield_FW_ERoT', 'DPU_ATF', 'DPU_BOARD', 'DPU_NIC', 'DPU_UEFI']) {
      const real = read('UpdateService/FirmwareInventory', part, 'index.json') as { Version: string }
      expect(firmware[part]).toContain(real.Version)
    }
  })
})
