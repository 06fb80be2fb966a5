import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readEdac } from '../../../plugins/protocols/edac.ts'
import errors, { detectErrors, readErrors } from '../../../plugins/sources/hardware_errors.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'
import { plantTree, treeOf } from '../../support/trees.ts'

const now = 1_795_260_000_000_000_000n
async function plant(more: Record<string, string> = {}): Promise<string> {
  const captured = { ...(await treeOf('sys/pci.json')), ...(await treeOf('sys/errors.json')) }
  return join(await plantTree({ ...captured, ...more }), 'sys')
}
const read = (sys: string) =>
  readErrors(errors.config.parse({ root: { sys } }), testContext({ clock: new FakeClock(now) }))
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
const errorsOf = async (sys: string) =>
  Object.fromEntries(
    collectPoints(await read(sys))
      .filter(({ name }) => name === 'hw.errors')
      .map(({ attributes, value }) => [
        `${textOf(attributes['hw.id'])} ${textOf(attributes['error.type'])}`,
        value,
      ]),
  )

const controller = 'sys/devices/system/edac/mc/mc0'

describe('hardware_errors', () => {
  conformsToSource(errors, async () => ({ root: { sys: await plant() } }), {
    context: () => ({ clock: new FakeClock(now) }),
  })

  test('reports the errors of captured trees as it did before', async () =>
    expect(golden(await read(await plant()))).toMatchFileSnapshot(
      '../../golden/hardware_errors/captured.json',
    ))

  test('tells memory errors by channel, and of the controller only what it could lay on none', async () => {
    const found = await errorsOf(await plant())
    expect(found).toMatchObject({
      'mc0 corrected': 2n,
      'mc0 uncorrected': 6n,
      'mc0/csrow0/ch0 uncorrected': 2n,
    })
  })

  test('tells memory errors by module where the driver knows modules', async () => {
    const sys = join(
      await plantTree({
        [`${controller}/mc_name`]: 'BlueField-DDR4',
        [`${controller}/ce_count`]: '5',
        [`${controller}/ce_noinfo_count`]: '1',
        [`${controller}/ue_noinfo_count`]: '0',
        [`${controller}/dimm0/dimm_label`]: 'DIMM_A1',
        [`${controller}/dimm0/dimm_ce_count`]: '4',
        [`${controller}/dimm0/dimm_ue_count`]: '0',
        [`${controller}/csrow0/ch0_ce_count`]: '4',
      }),
      'sys',
    )
    expect(await readEdac(sys)).toEqual([
      { id: 'mc0', name: 'BlueField-DDR4', parent: undefined, corrected: 1n, uncorrected: 0n },
      { id: 'mc0/dimm0', name: 'DIMM_A1', parent: 'mc0', corrected: 4n, uncorrected: 0n },
    ])
  })

  test('tells errors of PCI Express in total, and by name those that happened', async () => {
    const sys = await plant()
    const found = await errorsOf(sys)
    expect(found).toMatchObject({ '0000:01:00.0 pcie.correctable': 0n, '0000:00:1f.6 pcie.correctable': 9n })
    const named = collectPoints(await read(sys)).filter(({ name }) => name === 'dpu.pci.errors')
    expect(named.every(({ attributes }) => attributes['hw.id'] === '0000:00:1f.6')).toBe(true)
    expect(named.find(({ attributes }) => attributes['error.type'] === 'BadTLP')).toMatchObject({
      value: 2n,
      attributes: { 'hw.type': 'network', 'dpu.pci.severity': 'correctable' },
    })
  })

  test.each([
    ['live', 'ok'],
    ['resetting', 'degraded'],
    ['dead', 'failed'],
  ])('says of an NVMe controller that is %s that it is %s', async (state, told) => {
    const points = collectPoints(await read(await plant({ 'sys/class/nvme/nvme0/state': state })))
    const now = points.filter(({ name, value }) => name === 'hw.status' && value === 1n)
    expect(now.map(({ attributes }) => attributes['hw.state'])).toEqual([told])
    expect(now[0]?.attributes['hw.model']).toBe('Samsung SSD 970 PRO 512GB')
  })

  test('takes what is no number for no count', async () => {
    const found = await errorsOf(await plant({ [`${controller}/ce_noinfo_count`]: 'none' }))
    expect(found).not.toHaveProperty(['mc0 corrected'])
    expect(found).toHaveProperty(['mc0 uncorrected'])
  })

  test('is detected where something counts errors, and says what is missing elsewhere', async () => {
    expect(await detectErrors(await plant())).toEqual({ config: {} })
    expect(await detectErrors('/nowhere')).toEqual({
      leftOut: 'no EDAC driver, NVMe controller or PCI device that reports errors on this machine',
    })
  })
})
