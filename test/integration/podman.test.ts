// Containers of a real Podman: what they use, what they log and what happens to them.
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Records } from '../../plugins/contract/index.ts'
import containers from '../../plugins/sources/containers.ts'
import { realClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { podmanProblem, startPodman } from '../support/podman.ts'
import { collectLogs, collectPoints } from '../support/records.ts'

async function start(socket: string, saved?: string) {
  const context = testContext({ clock: realClock })
  context.saved = saved
  const controller = new AbortController()
  const received: Records[] = []
  const running = containers
    .create(containers.config.parse({ socket, interval: '500ms' }), context)
    .run(async (one) => void received.push(one), controller.signal)
  await Promise.race([context.whenReady, running])
  const stop = async () => {
    controller.abort()
    await running.catch(() => undefined)
    return context.saved
  }
  onTestFinished(() => void stop())
  const of = (signal: string) => received.filter((one) => one.signal === signal)
  return {
    context,
    stop,
    points: () => collectPoints(of('metrics')),
    logs: () => collectLogs(of('logs')),
  }
}

describe('containers of Podman', () => {
  test(
    'are read, followed and told of, and a restart repeats nothing',
    { timeout: 120_000 },
    async ({ skip }) => {
      const problem = podmanProblem()
      if (problem !== undefined) skip(problem)
      await using podman = await startPodman()
      const before = await start(podman.socket)
      podman.start(
        'talker',
        'echo one; echo ERROR two >&2; while ! [ -e /stop ]; do sleep 0.2; done; echo last; exit 3',
      )
      const bodies = (one: Awaited<ReturnType<typeof start>>) =>
        one.logs().flatMap(({ eventName, body }) => (eventName === '' ? [body] : []))
      await vi.waitFor(
        () => {
          expect(new Set(bodies(before))).toEqual(new Set(['ERROR two', 'one']))
          expect(bodies(before)).toHaveLength(2)
          const value = (name: string) => before.points().find((point) => point.name === name)?.value
          expect(value('container.memory.usage')).toBeGreaterThan(0n)
          expect(value('container.cpu.time')).toBeGreaterThan(0)
          expect(value('container.uptime')).toBeGreaterThan(0)
          expect(value('dpu.container.restarts')).toBe(0n)
          expect(before.logs().map(({ eventName }) => eventName)).toContain('dpu.container.start')
        },
        { timeout: 30_000, interval: 200 },
      )
      const two = before.logs().find(({ body }) => body === 'ERROR two')
      expect(two).toMatchObject({
        severityNumber: 17,
        attributes: {
          'container.name': 'talker',
          'log.iostream': 'stderr',
          'container.image.name': podman.image,
        },
      })
      const saved = await before.stop()
      podman.run('exec', 'talker', '/bin/sh', '-c', 'echo > /stop')
      podman.run('wait', 'talker')
      const after = await start(podman.socket, saved)
      await vi.waitFor(
        () => {
          expect(bodies(after)).toEqual(['last'])
          const died = after.logs().find(({ eventName }) => eventName === 'dpu.container.die')
          expect(died).toMatchObject({ severityNumber: 17, attributes: { 'process.exit.code': 3 } })
          const states = after
            .points()
            .filter(({ name, value }) => name === 'dpu.container.state' && value === 1n)
            .map(({ attributes }) => attributes['dpu.container.state'])
          expect(states).toContain('exited')
        },
        { timeout: 30_000, interval: 200 },
      )
    },
  )
})
