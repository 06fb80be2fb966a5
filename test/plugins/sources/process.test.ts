// The process source over a captured /proc, and over this machine.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { describe, expect, onTestFinished, test } from 'vitest'
import * as z from 'zod'
import source, { ProcessReader } from '../../../plugins/sources/process.ts'
import { FakeClock, realClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'

type Group = z.input<typeof source.config>['processes'][number]
const captured = 1_795_300_000_000_000_000n

async function machine(more: Record<string, string> = {}): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'dpulse-process-'))
  onTestFinished(() => rm(root, { recursive: true }))
  const text = await readFile(join(import.meta.dirname, '../../fixtures/process/vm.json'), 'utf8')
  const files = { ...z.record(z.string(), z.string()).parse(JSON.parse(text)), ...more }
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  return root
}

function readerOf(root: string, processes: Group[], more: { most?: number } = {}) {
  const context = testContext({ clock: new FakeClock(captured) })
  const settings = source.config.parse({ processes, root: { proc: join(root, 'proc') }, ...more })
  return { reader: new ProcessReader(settings, context), context }
}
const countsOf = (points: ReturnType<typeof collectPoints>) =>
  Object.fromEntries(
    points
      .filter(({ name }) => name === 'dpu.process.count')
      .map(({ attributes, value }) => [attributes['dpu.process.group'], value]),
  )

describe('process', () => {
  conformsToSource(source, { processes: [{ name: 'self', command: 'node' }], most: 8 })

  test('reads processes as it did before', async () => {
    const { reader } = readerOf(await machine(), [
      { name: 'inventory', cgroup: '/system.slice/inventory*' },
      { name: 'waiting', executable: 'sleep' },
    ])
    await expect(golden(reader.read())).toMatchFileSnapshot('../../golden/process/vm.json')
  })

  test('finds processes by pid file, name, command line and cgroup, and says which are not there', async () => {
    const root = await machine()
    const pid = /"proc\/(\d+)\/comm": "sleep/.exec(
      await readFile(join(import.meta.dirname, '../../fixtures/process/vm.json'), 'utf8'),
    )?.[1]
    await writeFile(join(root, 'sleep.pid'), `${pid}\n`)
    const { reader, context } = readerOf(root, [
      { name: 'by file', pid_file: join(root, 'sleep.pid') },
      { name: 'by no file', pid_file: join(root, 'none.pid') },
      { name: 'by name', executable: 'python*' },
      { name: 'by command', command: 'http\\.server' },
      { name: 'by cgroup', cgroup: '/system.slice/*.service' },
      { name: 'none', executable: 'ovs-vswitchd' },
    ])
    expect(countsOf(collectPoints(reader.read()))).toEqual({
      'by file': 1n,
      'by no file': 0n,
      'by name': 1n,
      'by command': 1n,
      'by cgroup': 1n,
      none: 0n,
    })
    expect(context.logged).toEqual([])
  })

  test('takes a pid file of a process that has gone for no process', async () => {
    const root = await machine({ 'old.pid': '999999' })
    const { reader } = readerOf(root, [{ name: 'old', pid_file: join(root, 'old.pid') }])
    expect(countsOf(collectPoints(reader.read()))).toEqual({ old: 0n })
  })

  test('reads no more than it may, and says so once', async () => {
    const { reader, context } = readerOf(await machine(), [{ name: 'all', executable: '*' }], { most: 1 })
    const points = collectPoints([...reader.read(), ...reader.read()])
    expect(new Set(points.flatMap(({ attributes }) => attributes['process.pid'] ?? [])).size).toBe(1)
    expect(context.logged.map(({ fields }) => fields.reason)).toEqual(['2 found, 1 are read'])
  })

  test('reads a process of this machine and what it was given', async () => {
    const child = spawn('sleep', ['60'])
    await once(child, 'spawn')
    onTestFinished(() => void child.kill())
    const context = testContext({ clock: realClock })
    const settings = source.config.parse({ processes: [{ name: 'it', command: '^sleep 60$' }] })
    const points = collectPoints(new ProcessReader(settings, context).read())
    const mine = points.filter(({ attributes }) => attributes['process.pid'] === child.pid)
    expect(mine.find(({ name }) => name === 'process.thread.count')?.value).toBe(1n)
    expect(mine.find(({ name }) => name === 'process.uptime')?.value).toBeLessThan(60)
    expect(child.pid).not.toBe(process.pid)
  })

  test.each([
    [{ name: 'none' }],
    [{ name: 'two', executable: 'a', cgroup: 'b' }],
    [{ name: 'bad', command: '(' }],
  ])('refuses %j', (one) => expect(source.config.safeParse({ processes: [one] }).success).toBe(false))
})
