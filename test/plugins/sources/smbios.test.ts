import fc from 'fast-check'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { componentsOf, parseTable } from '../../../plugins/protocols/smbios.ts'
import smbios, { SmbiosReader, detectSmbios } from '../../../plugins/sources/smbios.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'
import { plantTree } from '../../support/trees.ts'

const now = 1_795_260_000_000_000_000n
const machines = ['SuperMicro-Dual-Xeon', 'Beelink-EQ12', 'Dell-PowerEdge-R630-Dual-Xeon'] as const
const tableOf = (machine: string) =>
  readFile(join(import.meta.dirname, `../../fixtures/smbios/${machine}.dmi`))
const componentsIn = async (machine: string) => componentsOf(parseTable(await tableOf(machine)).structures)

/** What the kernel shows to everybody on a machine whose table only root may read. */
const shown = {
  'sys/class/dmi/id/sys_vendor': 'NVIDIA',
  'sys/class/dmi/id/product_name': 'BlueField-3 DPU',
  'sys/class/dmi/id/product_version': 'To be filled by O.E.M.',
  'sys/class/dmi/id/bios_version': '4.2.0.12968',
}

async function plant(table: Uint8Array | undefined, more: Record<string, string> = shown): Promise<string> {
  const sys = join(await plantTree(more), 'sys')
  if (!table) return sys
  await mkdir(join(sys, 'firmware/dmi/tables'), { recursive: true })
  await writeFile(join(sys, 'firmware/dmi/tables/DMI'), table)
  return sys
}
function readerOf(sys: string) {
  const context = testContext({ clock: new FakeClock(now) })
  return { context, reader: new SmbiosReader(smbios.config.parse({ root: { sys } }), context) }
}

describe('smbios', () => {
  conformsToSource(
    smbios,
    async () => ({ interval: '30s', root: { sys: await plant(await tableOf('SuperMicro-Dual-Xeon')) } }),
    { context: () => ({ clock: new FakeClock(now) }) },
  )

  test.each(machines)('reports the table of a %s as it did before', async (machine) => {
    const { reader, context } = readerOf(await plant(await tableOf(machine)))
    await expect(golden(await reader.read())).toMatchFileSnapshot(`../../golden/smbios/${machine}.json`)
    expect(context.logged).toEqual([])
  })

  // Of the .json files beside the captures: what another library reads in them.
  test('reads in captured tables what others read in them', async () => {
    const dell = await componentsIn('Dell-PowerEdge-R630-Dual-Xeon')
    expect(dell.find(({ id }) => id === 'system')?.facts).toEqual({
      'hw.vendor': 'Dell Inc.',
      'hw.model': 'PowerEdge R630',
      'hw.serial_number': '790H8D2',
      'dpu.hardware.uuid': '4c4c4544-0039-3010-8048-b7c04f384432',
      'dpu.hardware.sku': 'SKU=NotProvided;ModelName=PowerEdge R630',
    })
    // The second socket is empty.
    expect(dell.filter(({ kind }) => kind === 'cpu')).toEqual([
      {
        id: 'cpu/CPU1',
        kind: 'cpu',
        facts: { 'hw.vendor': 'Intel', 'hw.model': 'Intel(R) Xeon(R) CPU E5-2630 v3 @ 2.40GHz' },
        cpu: { maxHz: 4_000_000_000n, cores: 8n, threads: 16n },
      },
    ])
    const modules = (await componentsIn('SuperMicro-Dual-Xeon')).filter(({ kind }) => kind === 'memory')
    expect(modules.map(({ size }) => size)).toEqual(modules.map(() => 4_294_967_296n))
    expect(modules[0]).toMatchObject({
      id: 'memory/P1-DIMMA1',
      facts: { 'dpu.hardware.bank': 'P0_Node0_Channel0_Dimm0', 'dpu.memory.speed': '1333 MT/s' },
    })
  })

  test('leaves out what nobody filled in, and gives each part an id of its own', async () => {
    for (const machine of machines) {
      const components = await componentsIn(machine)
      expect(new Set(components.map(({ id }) => id)).size).toBe(components.length)
      const told = components.flatMap(({ facts }) => Object.values(facts))
      expect(
        told.filter((text) => /to be filled|default string|not specified|^0+$|0123456789/i.test(text)),
      ).toEqual([])
    }
  })

  test('tells what is before the damage of a table, and that there is some', async () => {
    const table = await tableOf('SuperMicro-Dual-Xeon')
    const { reader, context } = readerOf(await plant(table.subarray(0, 690)))
    const points = collectPoints(await reader.read())
    expect(points.map(({ attributes }) => attributes['hw.id'])).toContain('system')
    expect(context.logged.map(({ message }) => message)).toEqual(['the table of SMBIOS is damaged'])
  })

  test('survives any bytes', () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const { structures } = parseTable(Buffer.from(bytes))
        for (const { facts } of componentsOf(structures))
          expect(Object.values(facts)).not.toContain(undefined)
      }),
    ))

  test('tells what everybody may read where there is no table', async () => {
    const { reader, context } = readerOf(await plant(undefined))
    const parts = collectPoints(await reader.read()).map(({ attributes }) => attributes)
    expect(parts).toMatchObject([
      { 'hw.id': 'bios', 'hw.firmware_version': '4.2.0.12968' },
      { 'hw.id': 'system', 'hw.vendor': 'NVIDIA', 'hw.model': 'BlueField-3 DPU' },
    ])
    expect(parts[1]).not.toHaveProperty(['dpu.hardware.version'])
    expect(context.logged).toEqual([])
  })

  test('says once what is left out where it may not read the table', async () => {
    const sys = await plant(undefined)
    // A folder stands for EACCES, which root never gets.
    await mkdir(join(sys, 'firmware/dmi/tables/DMI'), { recursive: true })
    const { reader, context } = readerOf(sys)
    expect(collectPoints(await reader.read())).toHaveLength(2)
    await reader.read()
    expect(context.logged).toMatchObject([
      { fields: { reason: expect.stringContaining('processors, memory and slots are left out') } },
    ])
  })

  test('knows an Arm board by its device tree', async () => {
    const tree = { 'sys/firmware/devicetree/base/model': 'Marvell OCTEON CN106XX\0' }
    const { reader } = readerOf(await plant(undefined, tree))
    expect(collectPoints(await reader.read()).map(({ attributes }) => attributes['hw.model'])).toEqual([
      'Marvell OCTEON CN106XX',
    ])
  })

  test('is detected where firmware says something, and says what is missing elsewhere', async () => {
    expect(detectSmbios(await plant(undefined))).toEqual({ config: {} })
    expect(detectSmbios('/nowhere')).toEqual({
      leftOut: 'neither SMBIOS nor a device tree in /nowhere says what this machine is',
    })
  })
})
