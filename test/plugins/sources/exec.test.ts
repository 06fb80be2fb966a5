// The exec source with real programs: what they print in each format, how they fail, and that nothing of them is left.
import { readFileSync } from 'node:fs'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import type { Records } from '../../../plugins/contract/index.ts'
import exec from '../../../plugins/sources/exec.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { realClock } from '../../support/clock.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'

type Config = z.input<typeof exec.config>
const shell = (script: string): string[] => ['/bin/sh', '-c', script]
const telegraf = new URL('../../fixtures/influx/telegraf.lp', import.meta.url).pathname

conformsToSource(exec, { command: ['/bin/echo', 'a v=1'] })

async function start(config: Config) {
  const context = testContext({ clock: realClock })
  const received: Records[] = []
  const controller = new AbortController()
  const source = exec.create(exec.config.parse({ interval: '1h', ...config }), context)
  const running = source.run(async (records) => void received.push(records), controller.signal)
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  onTestFinished(stop)
  await context.whenReady
  const of = (signal: string): Records[] => received.filter((one) => one.signal === signal)
  const failure = async (): Promise<string> =>
    vi.waitFor(() => {
      const [logged] = context.logged
      expect(logged?.level).toBe('warn')
      return `${logged?.message}: ${String(logged?.fields.reason)}`
    })
  return {
    context,
    received,
    stop,
    failure,
    points: () => collectPoints(of('metrics')),
    logs: () => collectLogs(of('logs')),
  }
}

/** Ended; perhaps not yet waited for by whoever took it over. */
const gone = (pid: number): boolean => {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return true
  }
}

describe('the exec source', () => {
  test('reads line protocol, as a program prints it for Telegraf', async () => {
    const { received, points } = await start({ command: ['/bin/cat', telegraf] })
    await vi.waitFor(() => expect(points().length).toBeGreaterThan(100))
    await expect(golden(received)).toMatchFileSnapshot('../../golden/exec/telegraf.json')
  })

  test('reads JSON: numbers are points with the texts beside them, a message is a log record', async () => {
    const document = JSON.stringify([
      { fan: { rpm: 4200, ok: true }, slot: 'a', time: '2026-11-01T00:00:00.5Z', none: null },
      { message: 'fan stopped', level: 'error', fan: 2, ts: 1_790_000_000_123 },
    ])
    const { points, logs } = await start({
      command: ['/bin/echo', document],
      format: 'json',
      name: 'bmc',
      counters: ['*.rpm'],
    })
    await vi.waitFor(() => expect(logs()).toHaveLength(1))
    expect(points()).toMatchObject([
      {
        name: 'bmc.fan.rpm',
        type: 'sum',
        value: 4200,
        attributes: { slot: 'a' },
        time: 1_793_491_200_500_000_000n,
      },
      { name: 'bmc.fan.ok', type: 'gauge', value: 1, attributes: { slot: 'a' } },
    ])
    expect(logs()).toMatchObject([
      {
        body: 'fan stopped',
        severityNumber: 17,
        time: 1_790_000_000_123_000_000n,
        attributes: { fan: 2, level: 'error' },
      },
    ])
  })

  test('reads one JSON document a line, OTLP among them, and names a bad one', async () => {
    const otlp = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"from otlp"}}]}]}]}'
    const { logs, context } = await start({
      command: ['/usr/bin/printf', '%s\n%s\n%s\n%s\n', '{"msg":"one"}', otlp, '{broken', '7'],
      format: 'json',
    })
    await vi.waitFor(() => expect(logs().map(({ body }) => body)).toEqual(['from otlp', 'one']))
    expect(context.drops).toEqual([{ class: 'log', reason: 'invalid', count: 2 }])
    expect(String(context.logged[0]?.fields.reason)).toContain('{broken')
  })

  test('keeps a program running, reads its lines as they come, and starts it again when it ends', async () => {
    const script = 'echo "{\\"msg\\":\\"first $$\\"}"; echo "{\\"msg\\":\\"second\\"}"; exit 3'
    const { logs } = await start({
      command: shell(script),
      mode: 'stream',
      format: 'json',
      interval: '100ms',
    })
    await vi.waitFor(() => expect(logs().length).toBeGreaterThan(3))
    const [a, , b] = logs().map(({ body }) => body)
    expect(a).not.toBe(b)
  })

  test('says why a program failed, with what it said', async () => {
    const missing = await start({ command: ['/no/such/program'] })
    expect(await missing.failure()).toContain(
      'the program failed: it cannot be started: spawn /no/such/program ENOENT',
    )
    const failing = await start({ command: shell('echo wrong >&2; echo "a v=1"; exit 7') })
    expect(await failing.failure()).toBe('the program failed: it ended with 7: wrong')
    expect(failing.points()).toHaveLength(1)
  })

  test('a run that takes too long or prints too much is ended, with all that it started', async () => {
    const slow = await start({ command: shell('sleep 1000 & echo $! >&2; sleep 1000'), timeout: '300ms' })
    const said = await slow.failure()
    expect(said).toContain('no end within 300 ms')
    const pid = Number(/(\d+)$/.exec(said)?.[1])
    await vi.waitFor(() => expect(gone(pid)).toBe(true))
    const loud = await start({ command: ['/usr/bin/yes'], max_output: '1KiB' })
    expect(await loud.failure()).toContain('an output of more than 1024 bytes')
    expect(loud.received).toEqual([])
  })

  test('ends a program that does not want to end when it is stopped', async () => {
    const script = 'trap "" TERM; echo "m pid=$$"; while true; do sleep 0.1; done'
    const { points, stop } = await start({ command: shell(script), mode: 'stream' })
    await vi.waitFor(() => expect(points()).toHaveLength(1))
    await stop()
    expect(gone(Number(points()[0]?.value))).toBe(true)
  })

  test('gives it the variables that it is told to, and no others', async () => {
    process.env.EXEC_TEST_SECRET = 'hidden'
    const { logs } = await start({
      command: ['/usr/bin/env'],
      format: 'text',
      environment: { GIVEN: 'yes', TOKEN: { env: 'EXEC_TEST_SECRET' } },
    })
    await vi.waitFor(() => expect(logs().length).toBeGreaterThan(1))
    const names = logs().map(({ body }) => (body as string).replace(/=.*/, ''))
    expect(logs().map(({ body }) => body)).toEqual(expect.arrayContaining(['GIVEN=yes', 'TOKEN=hidden']))
    expect(names.filter((name) => !['PATH', 'HOME', 'LANG', 'TZ', 'GIVEN', 'TOKEN'].includes(name))).toEqual(
      [],
    )
  })
})
