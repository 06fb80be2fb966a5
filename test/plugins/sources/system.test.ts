// The system source over a captured /proc, over broken ones, and over this machine where it has one.
import { cp, mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type * as z from 'zod'
import system, { SystemReader } from '../../../plugins/sources/system.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'
import type { PlainPoint } from '../../support/records.ts'

const vm = join(import.meta.dirname, '../../fixtures/system/vm')
type Config = Partial<z.input<typeof system.config>>

/** A time soon after the capture. */
const captured = 1_795_260_000_000_000_000n
const never = new AbortController().signal
const withoutFilesystem = system.config
  .parse({})
  // What a file system holds is not in a capture.
  .groups.filter((group: string) => group !== 'filesystem')

async function machine(): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'dpulse-system-'))
  onTestFinished(() => rm(copy, { recursive: true }))
  await cp(vm, copy, { recursive: true })
  return copy
}

function readerOf(root: string, config: Config = {}, clock = new FakeClock(captured)) {
  const context = testContext({ clock })
  const roots = { proc: join(root, 'proc'), sys: join(root, 'sys'), files: root }
  const reader = new SystemReader(
    system.config.parse({ groups: withoutFilesystem, ...config, root: roots }),
    context,
  )
  return { reader, context }
}

async function read(root: string, config: Config = {}): Promise<PlainPoint[]> {
  return collectPoints(await readerOf(root, config).reader.read(never))
}
const valuesOf = (points: readonly PlainPoint[], name: string) =>
  points.filter((point) => point.name === name).map(({ value }) => value)

describe('system', () => {
  conformsToSource(system, { interval: '10s', root: { proc: join(vm, 'proc'), sys: join(vm, 'sys') } })

  test('reports a captured machine as it did before', async () => {
    const { reader } = readerOf(vm)
    await expect(golden(await reader.read(never))).toMatchFileSnapshot('../../golden/system/vm.json')
  })

  test('gives all points of a reading one time, and counters the start of the machine', async () => {
    const points = await read(vm)
    expect(new Set(points.map(({ time }) => time))).toEqual(new Set([captured]))
    const starts = points.filter(({ monotonic }) => monotonic).map(({ start }) => start)
    expect(new Set(starts)).toEqual(new Set([1_795_254_311_000_000_000n]))
  })

  test('keeps the start of the counters when the wall clock is corrected', async () => {
    const root = await machine()
    const clock = new FakeClock(captured)
    const { reader } = readerOf(root, { groups: ['paging'] }, clock)
    const starts = async () => new Set(collectPoints(await reader.read(never)).map(({ start }) => start))
    const before = await starts()
    await writeFile(join(root, 'proc/stat'), 'cpu  1 2 3 4 5 6 7 8 9 10\nbtime 1795254399\n')
    clock.step(captured + 88_000_000_000n)
    expect(await starts()).toEqual(before)
  })

  test('reports no start of counters that lies in the future', async () => {
    const { reader } = readerOf(vm, { groups: ['paging'] }, new FakeClock(3_600_000_000_000n))
    expect(new Set(collectPoints(await reader.read(never)).map(({ start }) => start))).toEqual(new Set([0n]))
  })

  test('reports utilization between two readings, as shares of what passed', async () => {
    const root = await machine()
    const { reader } = readerOf(root, { groups: ['cpu'] })
    const stat = (line: string) => writeFile(join(root, 'proc/stat'), `cpu  ${line}\ncpu0 ${line}\nbtime 1\n`)
    await stat('100 0 100 1000 0 0 0 0 0 0')
    expect(valuesOf(collectPoints(await reader.read(never)), 'system.cpu.utilization')).toEqual([])
    await stat('150 0 125 1025 0 0 0 0 0 0')
    const points = collectPoints(await reader.read(never))
    const shares = points.filter(({ name }) => name === 'system.cpu.utilization')
    expect(shares.map(({ attributes, value }) => [attributes['cpu.mode'], value])).toEqual([
      ['user', 0.5],
      ['nice', 0],
      ['system', 0.25],
      ['idle', 0.25],
      ['iowait', 0],
      ['interrupt', 0],
      ['steal', 0],
    ])
  })

  test('reads each logical CPU when it is told to, instead of their sum', async () => {
    const points = await read(vm, { groups: ['cpu'], per_cpu: true })
    const times = points.filter(({ name }) => name === 'system.cpu.time')
    expect(times).toHaveLength(14)
    expect(new Set(times.map(({ attributes }) => attributes['cpu.logical_number']))).toEqual(new Set([0, 1]))
  })

  test('keeps counters beyond 2^53 exact', async () => {
    const root = await machine()
    await writeFile(
      join(root, 'proc/1/net/dev'),
      'head\nhead\n  p0: 18446744073709551615 9007199254740993 0 0 0 0 0 0 7 1 2 3 0 0 0 0\n',
    )
    const points = await read(root, { groups: ['network'] })
    expect(valuesOf(points, 'system.network.packet.count')).toEqual([9007199254740993n, 1n])
  })

  test('leaves out loop, ram and partition devices, and reads partitions when it is told to', async () => {
    const root = await machine()
    const line = (name: string) => `254 0 ${name} 1 2 3 4 5 6 7 8 0 9 10`
    await writeFile(join(root, 'proc/diskstats'), ['loop0', 'zram0', 'vda', 'vda1'].map(line).join('\n'))
    const devices = (points: readonly PlainPoint[]) =>
      new Set(
        points.filter(({ name }) => name === 'system.disk.io').map((one) => one.attributes['system.device']),
      )
    expect(devices(await read(root, { groups: ['disk'] }))).toEqual(new Set(['vda']))
    expect(devices(await read(root, { groups: ['disk'], partitions: true }))).toEqual(
      new Set(['vda', 'vda1']),
    )
    const included = { groups: ['disk'], disks: { exclude: [] } } as const satisfies Config
    expect(devices(await read(root, { ...included, groups: ['disk'] }))).toEqual(
      new Set(['loop0', 'vda', 'zram0']),
    )
  })

  test('says once what is missing, and reads the rest', async () => {
    const root = await machine()
    await rm(join(root, 'proc/pressure'), { recursive: true })
    await rm(join(root, 'proc/meminfo'))
    await mkdir(join(root, 'proc/meminfo'))
    const { reader, context } = readerOf(root)
    await reader.read(never)
    const points = collectPoints(await reader.read(never))
    expect(valuesOf(points, 'system.uptime')).toHaveLength(1)
    expect(valuesOf(points, 'system.memory.limit')).toEqual([])
    const paths = context.logged.map(({ fields }) => String(fields.path).slice(root.length))
    expect(paths).toEqual([
      '/proc/meminfo',
      '/proc/pressure/cpu',
      '/proc/pressure/memory',
      '/proc/pressure/io',
      '/proc/pressure/irq',
    ])
    expect(context.logged.map(({ level }) => level)).toEqual(['warn', 'info', 'info', 'info', 'info'])
  })

  test('reads no more interfaces than it may, and says so', async () => {
    const root = await machine()
    const lines = Array.from(
      { length: 5 },
      (_, index) => `pf0vf${index}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16`,
    )
    await writeFile(join(root, 'proc/1/net/dev'), lines.join('\n'))
    const { reader, context } = readerOf(root, { groups: ['network'], most: 3 })
    const names = collectPoints(await reader.read(never)).map(
      ({ attributes }) => attributes['network.interface.name'],
    )
    expect(new Set(names.filter((name) => name !== undefined))).toEqual(
      new Set(['pf0vf0', 'pf0vf1', 'pf0vf2']),
    )
    expect(context.logged.map(({ fields }) => fields.reason)).toEqual(['5 found, 3 are read'])
  })

  test('reports how full a file system is, once for all of its mounts', async () => {
    const root = await machine()
    await mkdir(join(root, 'data dir'))
    const mounts = [
      '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
      '28 1 254:0 / /data\\040dir ro,relatime - ext4 /dev/vda rw',
      '29 1 0:30 / /none rw - tmpfs tmpfs rw',
    ]
    await writeFile(join(root, 'proc/1/mountinfo'), mounts.join('\n'))
    const { blocks, bsize, bfree } = await statfs(root, { bigint: true })
    const points = await read(root, { groups: ['filesystem'] })
    expect(valuesOf(points, 'system.filesystem.limit')).toEqual([blocks * bsize])
    const used = points.find(({ attributes }) => attributes['system.filesystem.state'] === 'used')
    // Others write to the disk meanwhile.
    expect(Number(used?.value)).toBeCloseTo(Number((blocks - bfree) * bsize), -9)
    expect(used?.attributes).toMatchObject({
      'system.filesystem.mountpoint': '/',
      'system.filesystem.mode': 'rw',
    })
  })

  test('is detected where there is a /proc', async () => {
    expect(await system.detect?.()).toHaveProperty(process.platform === 'linux' ? 'config' : 'leftOut')
  })
})
