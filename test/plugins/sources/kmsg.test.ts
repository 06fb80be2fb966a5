// The kmsg source over a capture of the ring, and over the ring of this machine where it may be read.
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Records } from '../../../plugins/contract/index.ts'
import { bootId, kernelRingProblem, parseKernelRecord } from '../../../plugins/protocols/kernel/kmsg.ts'
import kmsg, { KernelReader } from '../../../plugins/sources/kmsg.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs } from '../../support/records.ts'

const fixture = join(import.meta.dirname, '../../fixtures/kernel/kmsg.txt')
const records = async () => (await readFile(fixture, 'latin1')).split(/\n(?! )/).slice(0, -1)
const link = (sequence: number) =>
  `6,${sequence},9000000,-;mlx5_core 0000:03:00.0 p0: Link down\n DEVICE=+pci:0000:03:00.0\n`

async function capture(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'dpulse-kmsg-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const path = join(folder, 'kmsg')
  await writeFile(path, text)
  return path
}

async function start(path: string, saved?: string) {
  const context = testContext({ clock: new FakeClock() })
  context.saved = saved
  const controller = new AbortController()
  const received: Records[] = []
  const running = kmsg
    .create(kmsg.config.parse({ path }), context)
    .run(async (one) => void received.push(one), controller.signal)
  await Promise.race([context.whenReady, running])
  const until = async (count: number) => {
    await vi.waitFor(async () => {
      await context.clock.advance(1000)
      expect(collectLogs(received).length).toBeGreaterThanOrEqual(count)
    })
    return collectLogs(received)
  }
  const stop = async () => {
    controller.abort()
    await running
    return context.saved
  }
  onTestFinished(() => void stop())
  return { context, until, stop }
}

describe('kmsg', () => {
  conformsToSource(kmsg, async () => ({ path: await capture(link(1)) }), {
    provoke: async ({ config, context }) => {
      await appendFile((config as { path: string }).path, link(Date.now()))
      await context.clock.advance(1000)
    },
  })

  test('reads the ring of a virtual machine as it did before', async () => {
    const context = testContext({ clock: new FakeClock() })
    const reader = new KernelReader(kmsg.config.parse({}), context, -1)
    reader.arrival(context.clock.nowUnixNano(), 60_000_000)
    for (const raw of await records()) reader.take(raw)
    const emitted: Records[] = []
    await reader.emit(async (one) => void emitted.push(one))
    await expect(golden(emitted)).toMatchFileSnapshot('../../golden/kernel/kmsg.json')
  })

  test('counts what the ring lost before it was read', async () => {
    const one = await start(await capture(link(5) + link(6) + link(20)))
    await one.until(3)
    expect(one.context.drops).toEqual([{ class: 'log', reason: 'overflow', count: 13 }])
  })

  test('gives each record once in a boot, and all of them again in the next', async () => {
    const path = await capture(link(1) + link(2))
    const before = await start(path)
    await before.until(2)
    const saved = await before.stop()
    expect(JSON.parse(saved ?? '')).toEqual({ boot: bootId(), sequence: 2 })
    await appendFile(path, link(3))
    const after = await start(path, saved)
    expect(await after.until(1)).toHaveLength(1)
    const booted = await start(path, JSON.stringify({ boot: 'another', sequence: 2 }))
    expect(await booted.until(3)).toHaveLength(3)
  })

  test('makes an event of a line about a link, and keeps the line', async () => {
    const one = await start(await capture(link(1)))
    const [event] = await one.until(1)
    expect(event).toMatchObject({
      eventName: 'dpu.kernel.link',
      severityNumber: 13,
      body: 'mlx5_core 0000:03:00.0 p0: Link down',
      attributes: {
        'network.interface.name': 'p0',
        'dpu.link.state': 'down',
        'dpu.kernel.device': '+pci:0000:03:00.0',
      },
    })
  })

  test('leaves lines of programs to whoever else has them, unless told otherwise', async () => {
    const text = '30,1,5,-;systemd[1]: Started dpulse.service.\n'
    const one = await start(await capture(text + link(2)))
    expect((await one.until(1)).map(({ eventName }) => eventName)).toEqual(['dpu.kernel.link'])
  })

  test('reads text of other forms', () => {
    expect(parseKernelRecord('<4>[   12.345678] text')).toMatchObject({
      level: 4,
      microseconds: 12_345_678,
      text: 'text',
    })
    expect(parseKernelRecord('only text\n')).toMatchObject({ level: 6, text: 'only text' })
    expect(parseKernelRecord('6,7,8,c;caf\\xc3\\xa9 \\x0a\n K=v\n')).toMatchObject({
      sequence: 7,
      text: 'café \n',
      fields: { K: 'v' },
    })
  })

  test('says which right it lacks', async () => {
    expect(kernelRingProblem('/there/is/none')).toBe('/there/is/none does not exist on this machine')
    const context = testContext()
    const source = kmsg.create(kmsg.config.parse({ path: '/there/is/none' }), context)
    await expect(source.run(async () => undefined, new AbortController().signal)).rejects.toThrow(
      'does not exist',
    )
  })

  test('reads the ring of this machine', async ({ skip }) => {
    const problem = kernelRingProblem('/dev/kmsg')
    if (problem !== undefined) skip(problem)
    const one = await start('/dev/kmsg')
    const logs = await one.until(10)
    expect(logs.every(({ body }) => body !== '')).toBe(true)
    expect(one.context.drops).toEqual([])
    const again = await start('/dev/kmsg', await one.stop())
    await again.context.clock.advance(3000)
    expect(await again.until(0)).toEqual([])
  })
})
