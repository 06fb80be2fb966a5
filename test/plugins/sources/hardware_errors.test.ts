import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readEdac } from '../../../plugins/protocols/edac.ts'
import { decodeHealth } from '../../../plugins/protocols/nvme.ts'
import errors, { ErrorsReader, detectErrors, drivePoints } from '../../../plugins/sources/hardware_errors.ts'
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
function readerOf(sys: string) {
  const context = testContext({ clock: new FakeClock(now) })
  const root = { sys, dev: join(sys, '../dev') }
  return { context, reader: new ErrorsReader(errors.config.parse({ root }), context) }
}
const read = (sys: string) => readerOf(sys).reader.read()
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

/**
 * The beginning of log page 02h of a drive, as `nvme get-log -i 2` printed it in
 * https://github.com/linux-nvme/nvme-cli/issues/2759 (comment of 2025-04-01).
 */
const captured = Buffer.from(
  [
    '00380164 0a010000 00000000 00000000',
    '00000000 00000000 00000000 00000000',
    '3abc2808 00000000 00000000 00000000',
    'c4fc4c03 00000000 00000000 00000000',
    '2a46ac1c 00000000 00000000 00000000',
    'd9e58b2f 00000000 00000000 00000000',
  ]
    .join('')
    .replaceAll(' ', ''),
  'hex',
)

const controller = 'sys/devices/system/edac/mc/mc0'

describe('hardware_errors', () => {
  conformsToSource(errors, async () => ({ root: { sys: await plant(), dev: '/nowhere' } }), {
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
    expect(readEdac(sys)).toEqual([
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

  test('tells the health of a drive as far as its log page reaches', () => {
    const health = decodeHealth(captured)
    expect(health).toEqual({
      criticalWarning: 0,
      availableSpare: 100,
      used: 1,
      mediaErrors: undefined,
      counts: new Map([
        ['data_units_read', 136_887_354n],
        ['data_units_written', 55_377_092n],
        ['host_read_commands', 481_052_202n],
        ['host_write_commands', 797_697_497n],
      ]),
    })
    const drive = { name: 'nvme0', state: 'ok' as const, about: { 'hw.id': 'nvme0' } }
    const stateOf = (warning: number) =>
      drivePoints(drive, health && { ...health, criticalWarning: warning, used: 130, mediaErrors: 7n })
    const told = stateOf(1)
    expect(told.find(({ value, name }) => name === 'hw.status' && value === 1n)?.attributes).toMatchObject({
      'hw.state': 'predicted_failure',
    })
    expect(told.find(({ name }) => name === 'hw.physical_disk.endurance_utilization')?.value).toBe(0)
    expect(told.find(({ name }) => name === 'hw.errors')).toMatchObject({
      value: 7n,
      attributes: { 'hw.type': 'physical_disk', 'error.type': 'media' },
    })
    expect(decodeHealth(Buffer.alloc(512))).toBeUndefined()
  })

  test('says once that SMART logs cannot be read, and tells the rest', async () => {
    const { reader, context } = readerOf(await plant())
    await reader.read()
    expect(collectPoints(await reader.read()).some(({ name }) => name === 'hw.status')).toBe(true)
    expect(context.logged).toMatchObject([
      { message: 'SMART logs cannot be read', fields: { reason: expect.stringContaining('ENOENT') } },
    ])
  })

  test('takes a device that is no NVMe drive for one without a log', async () => {
    const { reader, context } = readerOf(await plant({ 'dev/nvme0': 'no drive' }))
    const points = collectPoints(await reader.read())
    expect(points.some(({ name }) => name === 'hw.physical_disk.smart')).toBe(false)
    expect(context.logged).toEqual([])
  })

  test('takes what is no number for no count', async () => {
    const found = await errorsOf(await plant({ [`${controller}/ce_noinfo_count`]: 'none' }))
    expect(found).not.toHaveProperty(['mc0 corrected'])
    expect(found).toHaveProperty(['mc0 uncorrected'])
  })

  test('is detected where something counts errors, and says what is missing elsewhere', async () => {
    expect(detectErrors(await plant())).toEqual({ config: {} })
    expect(detectErrors('/nowhere')).toEqual({
      leftOut: 'no EDAC driver, NVMe controller or PCI device that reports errors on this machine',
    })
  })
})
