import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type * as z from 'zod'
import { findPciDevices, hwTypeOf, parseAer, parseLinkSpeed } from '../../../plugins/protocols/pci.ts'
import pci, { detectPci, readPciDevices } from '../../../plugins/sources/pci.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'
import { plantTree, treeOf } from '../../support/trees.ts'

const now = 1_795_260_000_000_000_000n
const plant = async (more: Record<string, string> = {}) =>
  join(await plantTree({ ...(await treeOf('sys/pci.json')), ...more }), 'sys')

function read(sys: string, settings: Partial<z.input<typeof pci.config>> = {}) {
  const config = pci.config.parse({ ...settings, root: { sys } })
  return readPciDevices(config, testContext({ clock: new FakeClock(now) }))
}
const valuesOf = async (sys: string, name: string) =>
  Object.fromEntries(
    collectPoints(await read(sys))
      .filter((one) => one.name === name)
      .map(({ attributes, value }) => [attributes['hw.id'], value]),
  )

const nvme = 'sys/devices/pci0000:00/0000:00:02.1/0000:01:00.0'

describe('pci', () => {
  conformsToSource(pci, async () => ({ root: { sys: await plant() } }), {
    context: () => ({ clock: new FakeClock(now) }),
  })

  test('reports the devices of a captured tree as it did before', async () =>
    expect(golden(await read(await plant()))).toMatchFileSnapshot('../../golden/pci/procfs.json'))

  test('says that a link is degraded against what both of its ends can', async () => {
    expect(await valuesOf(await plant(), 'dpu.pci.link.degraded')).toMatchObject({ '0000:01:00.0': 0n })
    const narrow = await plant({ [`${nvme}/current_link_width`]: '2' })
    expect(await valuesOf(narrow, 'dpu.pci.link.degraded')).toMatchObject({ '0000:01:00.0': 1n })
    const faster = await plant({ [`${nvme}/max_link_speed`]: '32.0 GT/s PCIe' })
    expect(await valuesOf(faster, 'dpu.pci.link.degraded')).toMatchObject({ '0000:01:00.0': 0n })
    const wider = await plant({ [`${nvme}/max_link_width`]: '16' })
    expect(await valuesOf(wider, 'dpu.pci.link.width.limit')).toMatchObject({ '0000:01:00.0': 8n })
    expect(await valuesOf(wider, 'dpu.pci.link.degraded')).toMatchObject({ '0000:01:00.0': 1n })
  })

  test('tells no link of bridges and virtual functions, and none that the kernel does not know', async () => {
    const links = await valuesOf(await plant(), 'dpu.pci.link.speed')
    expect(links).toMatchObject({ '0000:01:00.0': 8_000_000_000n })
    expect(links).not.toHaveProperty(['0000:00:02.1'])
    const unknown = await plant({
      [`${nvme}/current_link_speed`]: 'Unknown',
      [`${nvme}/current_link_width`]: '255',
    })
    expect(await valuesOf(unknown, 'dpu.pci.link.speed')).not.toHaveProperty(['0000:01:00.0'])
    const virtual = await plant({ [`${nvme}/physfn`]: '-> ../0000:00:02.1' })
    expect(await valuesOf(virtual, 'dpu.pci.link.speed')).not.toHaveProperty(['0000:01:00.0'])
  })

  test('counts virtual functions where a device can have some', async () => {
    const sys = await plant({ [`${nvme}/sriov_totalvfs`]: '16', [`${nvme}/sriov_numvfs`]: '4' })
    expect(await valuesOf(sys, 'dpu.pci.sriov.functions')).toMatchObject({ '0000:01:00.0': 4n })
    expect(await valuesOf(sys, 'dpu.pci.sriov.functions.limit')).toMatchObject({ '0000:01:00.0': 16n })
    const none = await plant({ [`${nvme}/sriov_totalvfs`]: '0', [`${nvme}/sriov_numvfs`]: '0' })
    expect(await valuesOf(none, 'dpu.pci.sriov.functions')).not.toHaveProperty(['0000:01:00.0'])
  })

  test('reads only the devices that it is told to, and no more than it may', async () => {
    const sys = await plant()
    const idsOf = async (settings: Partial<z.input<typeof pci.config>>) =>
      new Set(collectPoints(await read(sys, settings)).map(({ attributes }) => attributes['hw.id']))
    expect(await idsOf({ devices: { include: ['0000:01:*'] } })).toEqual(new Set(['0000:01:00.0']))
    expect((await idsOf({ most: 2 })).size).toBe(2)
  })

  test.each([
    ['8.0 GT/s PCIe', 8_000_000_000n],
    ['2.5 GT/s PCIe', 2_500_000_000n],
    ['64.0 GT/s PCIe', 64_000_000_000n],
    ['5 GT/s', 5_000_000_000n],
    ['Unknown', undefined],
    ['Unknown speed', undefined],
    [undefined, undefined],
  ])('takes %j for %s transfers a second', (text, speed) => expect(parseLinkSpeed(text)).toBe(speed))

  test('knows errors by name and in total', () => {
    expect(parseAer('RxErr 0\nBadTLP 2\nTOTAL_ERR_COR 2')).toEqual({ total: 2n, kinds: [['BadTLP', 2n]] })
    expect(parseAer('18446744073709551615')).toBeUndefined()
    expect(parseAer(undefined)).toBeUndefined()
  })

  test.each([
    ['010802', 'disk_controller'],
    ['020000', 'network'],
    ['030000', 'gpu'],
    ['060400', 'enclosure'],
  ])('of class %s is %s', (code, type) => expect(hwTypeOf({ class: code })).toBe(type))

  test('reads the devices of this machine, where it has some', async () => {
    const here = findPciDevices('/sys', 1024)
    const told = collectPoints(await read('/sys')).filter(({ name }) => name === 'dpu.pci.device')
    expect(told.map(({ attributes }) => attributes['hw.id'])).toEqual(here.map(({ address }) => address))
  })

  test('is detected where there is a device, and says what is missing elsewhere', async () => {
    expect(detectPci(await plant())).toEqual({ config: {} })
    expect(detectPci('/nowhere')).toEqual({ leftOut: 'no PCI devices in /nowhere/bus/pci/devices' })
  })
})
