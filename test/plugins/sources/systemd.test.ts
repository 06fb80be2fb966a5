// The systemd source over what a systemd said, over control groups alone, and over a systemd of its own.
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import * as z from 'zod'
import systemd, { UnitReader, detectSystemd } from '../../../plugins/sources/systemd.ts'
import { parseUnits } from '../../../plugins/protocols/systemd.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'
import { startSystemd, systemdProblem } from '../../support/systemd.ts'

const fixtures = join(import.meta.dirname, '../../fixtures/systemd')
const never = new AbortController().signal
type Config = Partial<z.input<typeof systemd.config>>

/** A folder with the captured control groups, and a `systemctl` that says what the file in it says. */
async function machine(
  show?: string,
): Promise<{ root: string; program: string; say: (text: string) => Promise<void> }> {
  const root = await mkdtemp(join(tmpdir(), 'dpulse-systemd-'))
  onTestFinished(() => rm(root, { recursive: true }))
  const text = await readFile(join(fixtures, 'hybrid.json'), 'utf8')
  for (const [path, content] of Object.entries(z.record(z.string(), z.string()).parse(JSON.parse(text)))) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  const program = join(root, 'systemctl')
  await writeFile(program, `#!/bin/sh\nexec cat ${join(root, 'show.txt')}\n`)
  await chmod(program, 0o755)
  const say = (said: string) => writeFile(join(root, 'show.txt'), said)
  await say(show ?? (await readFile(join(fixtures, 'show.txt'), 'utf8')))
  return { root, program, say }
}

function readerOf(root: string, config: Config) {
  const context = testContext({ clock: new FakeClock() })
  const settings = systemd.config.parse({ ...config, root: { cgroup: join(root, 'cgroup') } })
  return { reader: new UnitReader(settings, context), context }
}
const split = async (reader: UnitReader) => {
  const records = await reader.read(never)
  return {
    points: collectPoints(records.filter(({ signal }) => signal === 'metrics')),
    events: collectLogs(records.filter(({ signal }) => signal === 'logs')),
  }
}

describe('systemd', () => {
  conformsToSource(systemd, async () => {
    const { root, program } = await machine()
    return { program, root: { cgroup: join(root, 'cgroup') } }
  })

  test('reads units as it did before', async () => {
    const { root, program } = await machine()
    const { reader } = readerOf(root, { program })
    await expect(golden(await reader.read(never))).toMatchFileSnapshot('../../golden/systemd/show.json')
  })

  test('takes what is not accounted for absent, not for the largest number', async () => {
    const units = parseUnits(await readFile(join(fixtures, 'show.txt'), 'utf8'))
    expect(units.find(({ id }) => id === 'demo.service')).toMatchObject({ memory: 167_936n, read: undefined })
    expect(units.find(({ id }) => id === 'flaky.service')).toMatchObject({ restarts: 5n, tasks: undefined })
  })

  test('makes an event of each change of state, and of units that have failed already', async () => {
    const { root, program, say } = await machine()
    const { reader } = readerOf(root, { program })
    expect((await split(reader)).events.map(({ body }) => body)).toContain(
      'flaky.service is failed (exit-code)',
    )
    const text = await readFile(join(fixtures, 'show.txt'), 'utf8')
    expect((await split(reader)).events).toEqual([])
    await say(
      text.replace(
        /(Id=demo.service\nLoadState=loaded\nActiveState=)active\nSubState=running/,
        '$1deactivating\nSubState=stop',
      ),
    )
    const { events, points } = await split(reader)
    expect(events).toMatchObject([
      {
        eventName: 'dpu.systemd.unit_state',
        severityNumber: 9,
        attributes: {
          'systemd.unit.name': 'demo.service',
          'systemd.unit.active_state': 'deactivating',
          'systemd.unit.sub_state': 'stop',
          'dpu.systemd.previous_state': 'active',
        },
      },
    ])
    const states = points.filter(
      ({ name, attributes }) =>
        name === 'systemd.unit.state' && attributes['systemd.unit.name'] === 'demo.service',
    )
    expect(states.map(({ attributes, value }) => [attributes['systemd.unit.active_state'], value])).toEqual([
      ['active', 0n],
      ['deactivating', 1n],
    ])
  })

  test('knows services by their control groups where systemd does not answer, and says so once', async () => {
    const { root } = await machine()
    const { reader, context } = readerOf(root, { program: join(root, 'none') })
    await reader.read(never)
    const { points } = await split(reader)
    const value = (name: string) => points.find((point) => point.name === name)?.value
    expect(value('systemd.unit.state')).toBe(1n)
    expect(value('systemd.service.cpu.time')).toBe(75_807_287n)
    expect(value('dpu.systemd.memory.usage')).toBe(167_936n)
    expect(context.logged).toHaveLength(1)
  })

  test('reads only the units that it is told to, and no more than it may', async () => {
    const { root, program } = await machine()
    const names = async (config: Config) => {
      const { points } = await split(readerOf(root, { program, ...config }).reader)
      return [...new Set(points.map(({ attributes }) => attributes['systemd.unit.name']))]
    }
    expect(await names({ exclude: ['systemd-*', 'dbus.*'] })).toEqual(['demo.service', 'flaky.service'])
    expect(await names({ most: 1 })).toHaveLength(1)
  })

  test('is detected by control groups, and says what is missing elsewhere', async () => {
    const { root } = await machine()
    expect(await detectSystemd('systemctl', join(root, 'cgroup'))).toEqual({ config: {} })
    expect(await detectSystemd(join(root, 'none'), join(root, 'nothing'))).toEqual({
      leftOut: `no program ${join(root, 'none')}, and no control groups of services`,
    })
  })

  test('follows the units of a real systemd', { timeout: 60_000 }, async ({ skip }) => {
    const problem = systemdProblem()
    if (problem !== undefined) skip(problem)
    await using real = await startSystemd({
      'demo.service': '[Service]\nExecStart=/bin/sleep 1000\nMemoryAccounting=yes\nTasksAccounting=yes\n',
      'flaky.service': '[Service]\nExecStart=/bin/false\nRestart=on-failure\nRestartSec=50ms\n',
    })
    const context = testContext()
    const units = ['demo.service', 'flaky.service']
    const reader = new UnitReader(systemd.config.parse({ program: real.systemctl, units }), context)
    await vi.waitFor(async () => {
      const { points } = await split(reader)
      const value = (name: string, unit: string) =>
        points.find((one) => one.name === name && one.attributes['systemd.unit.name'] === unit)?.value
      expect(value('dpu.systemd.tasks', 'demo.service')).toBe(1n)
      expect(value('systemd.service.restarts', 'flaky.service')).toBe(5n)
    }, 20_000)
    real.run('systemctl', 'stop', 'demo.service')
    const { events } = await split(reader)
    expect(events.map(({ body }) => body)).toContain('demo.service is inactive')
    expect(context.logged).toEqual([])
  })
})
