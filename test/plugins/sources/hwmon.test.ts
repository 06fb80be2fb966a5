// The hwmon source over trees of /sys such as kernels make them.
import { mkdir, mkdtemp, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import * as z from 'zod'
import { findSensors } from '../../../plugins/protocols/hwmon.ts'
import hwmon, { SensorReader, detectSensors } from '../../../plugins/sources/hwmon.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'

const now = 1_795_260_000_000_000_000n
const never = new AbortController().signal

async function plant(name: 'bluefield' | 'server', more: Record<string, string> = {}): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'dpulse-hwmon-'))
  onTestFinished(() => rm(root, { recursive: true }))
  const text = await readFile(join(import.meta.dirname, `../../fixtures/hwmon/${name}.json`), 'utf8')
  const files = { ...z.record(z.string(), z.string()).parse(JSON.parse(text)), ...more }
  for (const [path, content] of Object.entries(files)) {
    const at = join(root, path)
    await mkdir(dirname(at), { recursive: true })
    if (content.startsWith('-> ')) await symlink(content.slice(3), at)
    else {
      await writeFile(at, `${content}\n`)
      await utimes(at, Number(now / 1_000_000_000n), Number(now / 1_000_000_000n))
    }
  }
  return root
}
const rootsOf = (root: string) => ({ sys: join(root, 'sys'), bluefield: join(root, 'run/emu_param') })

function readerOf(root: string, config: Partial<z.input<typeof hwmon.config>> = {}) {
  const context = testContext({ clock: new FakeClock(now) })
  const reader = new SensorReader(hwmon.config.parse({ ...config, root: rootsOf(root) }), context)
  const read = async () => collectPoints(await reader.read(never))
  return { reader, read, context }
}
type Points = Awaited<ReturnType<ReturnType<typeof readerOf>['read']>>
const valuesOf = (points: Points, name: string) =>
  Object.fromEntries(
    points.filter((one) => one.name === name).map((one) => [one.attributes['hw.id'], one.value]),
  )
const stateOf = (points: Points, id: string) =>
  points.find(
    ({ name, attributes, value }) => name === 'hw.status' && attributes['hw.id'] === id && value === 1n,
  )?.attributes['hw.state']

describe('hwmon', () => {
  conformsToSource(hwmon, async () => ({ interval: '10s', root: rootsOf(await plant('bluefield')) }), {
    context: () => ({ clock: new FakeClock(now) }),
  })

  test.each(['bluefield', 'server'] as const)(
    'reports the sensors of the %s as it did before',
    async (name) => {
      const { reader } = readerOf(await plant(name))
      await expect(golden(await reader.read(never))).toMatchFileSnapshot(`../../golden/hwmon/${name}.json`)
    },
  )

  test('gives a sensor the same id when chips were found in another order', async () => {
    const root = await plant('bluefield')
    const ids = async () =>
      (await findSensors(rootsOf(root))).flatMap(({ sensors }) => sensors.map(({ id }) => id))
    const before = await ids()
    const hwmonOf = (number: number) => join(root, `sys/class/hwmon/hwmon${number}`)
    await rename(hwmonOf(1), hwmonOf(9))
    await rename(hwmonOf(2), hwmonOf(1))
    expect((await ids()).toSorted()).toEqual(before.toSorted())
    expect(before).toContain('nvme@0000:05:00.0/temp1')
  })

  test('tells chips of one device apart', async () => {
    const again = 'sys/devices/pci0000:00/0000:00:00.0/0000:03:00.0/hwmon/hwmon7'
    const root = await plant('bluefield', {
      [`${again}/name`]: 'mlx5',
      [`${again}/device`]: '-> ../../../0000:03:00.0',
      [`${again}/temp1_input`]: '53000',
      'sys/class/hwmon/hwmon7': `-> ../../${again.slice(4)}`,
    })
    expect(valuesOf(await readerOf(root).read(), 'hw.temperature')).toMatchObject({
      'mlx5@0000:03:00.0/temp1': 52,
      'mlx5@0000:03:00.0#2/temp1': 53,
    })
  })

  test('leaves out what no sensor can mean, and what a zone shows twice', async () => {
    const temperatures = valuesOf(await readerOf(await plant('bluefield')).read(), 'hw.temperature')
    expect(temperatures).toEqual({
      'acpitz@thermal_zone0/temp1': 48,
      'nvme@0000:05:00.0/temp1': 43.85,
      'nvme@0000:05:00.0/temp2': 45.85,
      'mlx5@0000:03:00.0/temp1': 52,
      'thermal_zone@cluster0-thermal/temp': 47.5,
      'bluefield/bluefield_temp': 49,
      'bluefield/p0_temp': 38,
    })
  })

  test('leaves out a BlueField temperature whose writer has died', async () => {
    const root = await plant('bluefield')
    const file = join(root, 'run/emu_param/bluefield_temp')
    await utimes(file, Number(now / 1_000_000_000n) - 600, Number(now / 1_000_000_000n) - 600)
    const temperatures = valuesOf(await readerOf(root).read(), 'hw.temperature')
    expect(temperatures).not.toHaveProperty(['bluefield/bluefield_temp'])
    expect(temperatures).toHaveProperty(['bluefield/p0_temp'])
  })

  test.each(['', 'nan', '43.5.1', '0x2b', '99999999999999999999'])(
    'takes %j for no reading',
    async (content) => {
      const root = await plant('server', {
        'sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input': content,
      })
      const points = await readerOf(root).read()
      expect(valuesOf(points, 'hw.temperature')).not.toHaveProperty(['coretemp@coretemp.0/temp1'])
      expect(valuesOf(points, 'hw.fan.speed')).toHaveProperty(['nct6779@nct6775.656/fan1'], 1098)
    },
  )

  test('takes a file that cannot be read for no reading', async () => {
    const root = await plant('server')
    const file = join(root, 'sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input')
    await rm(file)
    await mkdir(file) // EISDIR stands for ENODATA and EIO, which no plain file gives
    const { read, context } = readerOf(root)
    expect(valuesOf(await read(), 'hw.temperature')).not.toHaveProperty(['coretemp@coretemp.0/temp1'])
    expect(context.logged).toEqual([])
  })

  test('makes states of alarms and faults', async () => {
    const points = await readerOf(await plant('server')).read()
    expect(stateOf(points, 'nct6779@nct6775.656/fan1')).toBe('ok')
    expect(stateOf(points, 'nct6779@nct6775.656/fan3')).toBe('degraded')
    expect(stateOf(points, 'nct6779@nct6775.656/temp7')).toBe('failed')
    expect(stateOf(points, 'jc42@4-0018/temp1')).toBe('failed')
    expect(stateOf(points, 'pmbus@4-0058/power1')).toBeUndefined()
    expect(valuesOf(points, 'hw.temperature')).not.toHaveProperty(['nct6779@nct6775.656/temp7'])
  })

  test('sees a chip that comes and one that goes', async () => {
    const root = await plant('server')
    const { read } = readerOf(root)
    await read()
    await rm(join(root, 'sys/class/hwmon/hwmon0'))
    const added = 'sys/class/hwmon/hwmon5'
    await mkdir(join(root, added), { recursive: true })
    await writeFile(join(root, added, 'name'), 'tmp75')
    await writeFile(join(root, added, 'temp1_input'), '21000')
    const temperatures = valuesOf(await read(), 'hw.temperature')
    expect(temperatures).toHaveProperty(['tmp75/temp1'], 21)
    expect(temperatures).not.toHaveProperty(['coretemp@coretemp.0/temp1'])
  })

  test('reads only the sensors that it is told to, and no more than it may', async () => {
    const root = await plant('server')
    const chosen = readerOf(root, { sensors: { include: ['nct6779@*'], exclude: ['*/fan2', '*/in*'] } })
    expect(Object.keys(valuesOf(await chosen.read(), 'hw.fan.speed'))).toHaveLength(2)
    const few = readerOf(root, { most: 2 })
    expect(new Set((await few.read()).map(({ attributes }) => attributes['hw.id'])).size).toBe(2)
    expect(few.context.logged.map(({ fields }) => fields.reason)).toEqual(['11 found, 2 are read'])
  })

  test('is detected where there is a sensor, and says what is missing elsewhere', async () => {
    expect(await detectSensors(rootsOf(await plant('server')))).toEqual({ config: {} })
    expect(await detectSensors(rootsOf(join(tmpdir(), 'there-is-nothing')))).toEqual({
      leftOut: 'no hwmon chip, thermal zone or BlueField temperature file on this machine',
    })
  })
})
