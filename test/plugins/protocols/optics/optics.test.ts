import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { opticsPoints } from '../../../../plugins/protocols/nic/points.ts'
import { halvesOf, readModule } from '../../../../plugins/protocols/optics/memory.ts'
import type { ReadHalf } from '../../../../plugins/protocols/optics/module.ts'

/** Halves by `lower` or `upper 11`, as a dump prints them: a title, then rows of sixteen bytes. */
async function dumpOf(name: string): Promise<Map<string, Buffer>> {
  const dump = await readFile(join(import.meta.dirname, '../../../fixtures/optics', name), 'utf8')
  const halves = new Map<string, Buffer>()
  let title = ''
  for (const line of dump.split('\n')) {
    const [, half, page] = /(lower|upper) page ?(\d+)?/i.exec(line) ?? []
    if (half !== undefined)
      title = half.toLowerCase() === 'lower' ? 'lower' : `upper ${(page ?? '').padStart(2, '0')}`
    const [, row] = /^\s*(?:0x)?[0-9a-f]{2,8}[: ]((?:[0-9a-f]{2} ?){1,16})$/.exec(line) ?? []
    if (row !== undefined) {
      const bytes = Buffer.from(row.replaceAll(' ', ''), 'hex')
      halves.set(title, Buffer.concat([halves.get(title) ?? Buffer.alloc(0), bytes]))
    }
  }
  return halves
}

const reading =
  (halves: ReadonlyMap<string, Buffer>): ReadHalf =>
  async ({ device, page, bank, isUpper }) => {
    if (device !== 'A0' || bank !== 0) return undefined
    return halves.get(isUpper ? `upper ${page.toString(16).padStart(2, '0')}` : 'lower')
  }

const edited = (halves: ReadonlyMap<string, Buffer>, half: string, at: number, value: number) => {
  const copy = Buffer.from(halves.get(half) ?? Buffer.alloc(128))
  copy[half === 'lower' ? at : at - 128] = value
  return new Map(halves).set(half, copy)
}

describe('a module of QSFP28', () => {
  test('tells light and current of each lane, of one that is off included, and that it lost its signal', async () => {
    expect(await readModule(reading(await dumpOf('qsfp28.txt')))).toEqual({
      facts: { 'dpu.optics.vendor': 'FINISAR CORP' },
      temperature: 19.51953125,
      voltage: 3.2979,
      lanes: [
        { number: 1, received: 0.0013001, bias: 0, transmitted: 1e-7 },
        { number: 2, received: 0.0013529, bias: 0.007998, transmitted: 0.0013847 },
        { number: 3, received: 0.0011193, bias: 0.007936, transmitted: 0.0013522 },
        { number: 4, received: 0.0012099, bias: 0.007936, transmitted: 0.0012355 },
      ],
      flags: [
        { name: 'tx_los', lane: 1 },
        { name: 'tx_cdr_lol', lane: 1 },
      ],
    })
  })

  test('of copper, or that is not ready, measures nothing', async () => {
    const halves = await dumpOf('qsfp28.txt')
    expect(await readModule(reading(edited(halves, 'lower', 2, 1)))).toMatchObject({ lanes: [], flags: [] })
    const copper = new Map(halves).set('lower', Buffer.alloc(128).fill(0x11, 0, 1))
    expect(await readModule(reading(copper))).toMatchObject({ temperature: undefined, lanes: [] })
  })

  test.each([
    [3, 0x01, { name: 'rx_los', lane: 1 }],
    [4, 0x04, { name: 'tx_fault', lane: 3 }],
    [6, 0x80, { name: 'temperature_high_alarm' }],
    [7, 0x10, { name: 'voltage_low_warning' }],
    [10, 0x04, { name: 'rx_power_low_alarm', lane: 4 }],
    [11, 0x20, { name: 'tx_bias_high_warning', lane: 1 }],
    [13, 0x08, { name: 'tx_power_high_alarm', lane: 2 }],
  ])('warns by byte %i, bit %i', async (at, value, flag) => {
    const quiet = edited(edited(await dumpOf('qsfp28.txt'), 'lower', 3, 0), 'lower', 5, 0)
    expect((await readModule(reading(edited(quiet, 'lower', at, value))))?.flags).toEqual([flag])
  })
})

// As the reader of https://github.com/hack-gpon/hack-gpon.github.io/pull/326 was given it: an SFP without diagnostics.
const sfp = Buffer.alloc(512)
Buffer.from('0304010000000222000100010d0014c8000000004f4449202020202020202020', 'hex').copy(sfp)

describe('a module of SFP', () => {
  test('without diagnostics of its own only says what it is', async () => {
    expect(await readModule(halvesOf(sfp))).toEqual({
      facts: { 'dpu.optics.vendor': 'ODI' },
      temperature: undefined,
      voltage: undefined,
      lanes: [],
      flags: [],
    })
  })

  test('warns only of what it says that it watches', async () => {
    const watching = Buffer.from(sfp)
    watching[92] = 0x68
    watching.writeUInt16BE(33_000, 256 + 98)
    watching.fill(0xff, 256 + 110, 256 + 114)
    expect((await readModule(halvesOf(watching)))?.flags).toEqual([])
    watching[93] = 0xb0
    const flags = (await readModule(halvesOf(watching)))?.flags.map(({ name }) => name)
    expect(flags).toContain('rx_los')
    expect(flags).toContain('temperature_high_alarm')
    expect(flags).toContain('rx_power_low_alarm')
    expect(flags).not.toContain('rx_power_low_warning')
    expect(flags).toHaveLength(2 + 5 * 2)
  })
})

describe('a module of CMIS', () => {
  test('tells light and current of its eight lanes, what it is, and that it is ready', async () => {
    const module = await readModule(reading(await dumpOf('dr8.txt')))
    expect(module).toMatchObject({
      facts: {
        'dpu.optics.vendor': 'JUNIPER-1G1',
        'dpu.optics.model': '740-174932',
        'dpu.optics.serial_number': '1G1TK1AA350AZ',
      },
      state: 'ready',
      temperature: 57.9296875,
      voltage: 3.3057,
      flags: [],
    })
    expect(module?.lanes).toHaveLength(8)
    expect(module?.lanes[0]).toEqual({
      number: 1,
      transmitted: 0.0019723,
      bias: 0.069982,
      received: 0.0016946,
    })
    expect(module?.lanes[7]).toEqual({
      number: 8,
      transmitted: 0.0015301,
      bias: 0.069982,
      received: 0.0015247,
    })
  })

  test('tells nothing of what it does not measure: an active cable has no light', async () => {
    const module = await readModule(reading(await dumpOf('aec.txt')))
    expect(module).toMatchObject({ temperature: 51.265625, voltage: 3.298, state: 'ready', lanes: [] })
    expect(module?.facts['dpu.optics.vendor']).toBe('Credo')
  })

  test('leaves out lanes that it has not, and counts current in its own steps', async () => {
    const halves = edited(await dumpOf('dr8.txt'), 'upper 00', 210, 0xf0)
    const module = await readModule(reading(edited(halves, 'upper 01', 160, 0x0f)))
    expect(module?.lanes.map(({ number }) => number)).toEqual([1, 2, 3, 4])
    expect(module?.lanes[0]?.bias).toBe(0.139964)
  })

  test.each([
    ['lower', 8, 0x02, { name: 'firmware_error' }],
    ['lower', 9, 0x02, { name: 'temperature_low_alarm' }],
    ['lower', 9, 0x40, { name: 'voltage_high_warning' }],
    ['upper 11', 135, 0x80, { name: 'tx_fault', lane: 8 }],
    ['upper 11', 147, 0x01, { name: 'rx_los', lane: 1 }],
    ['upper 11', 145, 0x04, { name: 'tx_bias_high_warning', lane: 3 }],
    ['upper 11', 152, 0x02, { name: 'rx_power_low_warning', lane: 2 }],
  ])('warns by half %s, byte %i, bit %i', async (half, at, value, flag) => {
    const halves = edited(await dumpOf('dr8.txt'), half, at, value)
    expect((await readModule(reading(halves)))?.flags).toEqual([flag])
  })

  test('is told once to warn no more, and not again', async () => {
    const quiet = await readModule(reading(await dumpOf('dr8.txt')))
    const loud = await readModule(reading(edited(await dumpOf('dr8.txt'), 'upper 11', 147, 0x01)))
    if (!quiet || !loud) throw new Error('both are modules')
    const flagsOf = (...given: Parameters<typeof opticsPoints>) =>
      opticsPoints(...given).filter(({ name }) => name === 'dpu.optics.flag')
    const attributes = { 'hw.id': 'p0', 'dpu.optics.flag': 'rx_los', 'dpu.optics.lane': 1 }
    const about = { 'hw.id': 'p0' }
    expect(flagsOf(about, loud)).toEqual([{ name: 'dpu.optics.flag', value: 1n, attributes }])
    expect(flagsOf(about, quiet, loud.flags)).toEqual([{ name: 'dpu.optics.flag', value: 0n, attributes }])
    expect(flagsOf(about, quiet, quiet.flags)).toEqual([])
  })

  test('of flat memory, or whose pages cannot be read, is told as far as it goes', async () => {
    const halves = await dumpOf('aec.txt')
    const first = halves.get('lower') ?? Buffer.alloc(128)
    const only = await readModule(reading(new Map([['lower', first]])))
    expect(only).toMatchObject({ facts: {}, temperature: 51.265625, lanes: [] })
    const copper = edited(edited(edited(halves, 'lower', 2, 0x80), 'lower', 16, 0), 'lower', 17, 0)
    expect(await readModule(reading(copper))).toMatchObject({ temperature: undefined, voltage: undefined })
  })
})

test('memory of unknown kinds, or too short, is no module, and no bytes of any kind are a failure', async () => {
  expect(await readModule(halvesOf(Buffer.alloc(256).fill(0x05, 0, 1)))).toBeUndefined()
  expect(await readModule(halvesOf(Buffer.of(0x11)))).toBeUndefined()
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(0x03, 0x11, 0x18, 0x19),
      fc.uint8Array({ minLength: 127, maxLength: 640 }),
      async (kind, bytes) => {
        const module = await readModule(halvesOf(Buffer.from([kind, ...bytes])))
        expect(module?.lanes.length).toBeLessThanOrEqual(8)
      },
    ),
  )
})
