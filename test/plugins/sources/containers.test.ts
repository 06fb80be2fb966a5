// The containers source over what a Podman answered, with a server in its place, and over its parts.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import type { Records } from '../../../plugins/contract/index.ts'
import { ContainerLines, parseTime } from '../../../plugins/protocols/containers/frames.ts'
import { ownContainer } from '../../../plugins/protocols/containers/own.ts'
import containers, { detectEngine } from '../../../plugins/sources/containers.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'

const fixture = (name: string): Buffer =>
  readFileSync(join(import.meta.dirname, '../../fixtures/containers', name))
/** Soon after the capture. */
const captured = 1_795_279_880_000_000_000n

/** A socket that answers as Podman did; streams stay open until the server goes. */
async function open() {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-containers-'))
  const socket = join(folder, 'api.sock')
  const asked: string[] = []
  const streams = new Map<string, ServerResponse>()
  let logs = fixture('logs.bin')
  let events = fixture('events.txt').toString()
  const follow = (name: string, response: ServerResponse, already: Buffer | string) => {
    streams.set(name, response)
    response.write(already)
  }
  const server = createServer((request, response) => {
    const url = request.url ?? ''
    asked.push(url)
    if (url.startsWith('/containers/json')) response.end(fixture('list.json'))
    else if (url === '/version') response.end('{}')
    else if (url.includes('/stats')) response.end(fixture('stats.json'))
    else if (url.includes('/logs')) follow('logs', response, logs)
    else if (url.startsWith('/events')) follow('events', response, events)
    else if (url.endsWith('/json')) response.end(fixture('inspect.json'))
    else response.writeHead(404).end()
  }).listen(socket)
  await once(server, 'listening')
  const close = () => {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
  return {
    close,
    socket,
    asked,
    add: (name: 'logs' | 'events', bytes: Buffer) => {
      if (name === 'logs') logs = Buffer.concat([logs, bytes])
      else events += bytes.toString()
      streams.get(name)?.write(bytes)
    },
  }
}

async function engine() {
  const opened = await open()
  onTestFinished(opened.close)
  return opened
}

async function start(config: z.input<typeof containers.config>, saved?: string) {
  const context = testContext({ clock: new FakeClock(captured) })
  context.saved = saved
  const controller = new AbortController()
  const received: Records[] = []
  const running = containers
    .create(containers.config.parse(config), context)
    .run(async (one) => void received.push(one), controller.signal)
  await Promise.race([context.whenReady, running])
  const stop = async () => {
    controller.abort()
    await running.catch(() => undefined)
    return context.saved
  }
  onTestFinished(() => void stop())
  const logs = () => collectLogs(received.filter(({ signal }) => signal === 'logs'))
  return {
    context,
    received,
    stop,
    points: () => collectPoints(received.filter(({ signal }) => signal === 'metrics')),
    lines: () => logs().filter(({ eventName }) => eventName === ''),
    events: () => logs().filter(({ eventName }) => eventName !== ''),
  }
}
/** Everything from the beginning, as a first start after a cursor that saw nothing. */
const fromTheBeginning = JSON.stringify({ eventNano: 0, logs: {} })
const line = (stream: 1 | 2, text: string): Buffer => {
  const header = Buffer.from([stream, 0, 0, 0, 0, 0, 0, 0])
  header.writeUInt32BE(Buffer.byteLength(text), 4)
  return Buffer.concat([header, Buffer.from(text)])
}

describe('containers', () => {
  let shared: Awaited<ReturnType<typeof open>> | undefined
  afterAll(() => shared?.close())
  conformsToSource(
    containers,
    async () => ({ socket: (shared ??= await open()).socket, events: false, logs: false }),
    { context: () => ({ clock: new FakeClock(captured) }) },
  )

  test('reads what containers use as it did before', async () => {
    const one = await start({ socket: (await engine()).socket, events: false, logs: false })
    await vi.waitFor(() => expect(one.received).not.toEqual([]))
    await expect(golden(one.received)).toMatchFileSnapshot('../../golden/containers/metrics.json')
  })

  test('reads logs and events as it did before', async () => {
    const one = await start({ socket: (await engine()).socket, metrics: false }, fromTheBeginning)
    await vi.waitFor(() => {
      expect(one.lines()).toHaveLength(2)
      expect(one.events()).toHaveLength(2)
    })
    const sorted = one.received.toSorted((a, b) => (a.class < b.class ? -1 : 1))
    await expect(golden(sorted)).toMatchFileSnapshot('../../golden/containers/logs.json')
  })

  test('gives each line and event once over a restart, also those of one second', async () => {
    const { socket, add } = await engine()
    const before = await start({ socket, metrics: false }, fromTheBeginning)
    await vi.waitFor(() => expect(before.lines().length + before.events().length).toBe(4))
    await vi.waitFor(() =>
      expect(JSON.parse(before.context.saved ?? '{}')).toMatchObject({
        logs: { e667799c2e13a5424ffa43315bc46c3f61aa4a7fbb974aa817ee9d155b194974: { count: 2 } },
      }),
    )
    const saved = await before.stop()
    add('logs', line(1, '2026-11-21T16:51:01Z third of that second\n'))
    const after = await start({ socket, metrics: false }, saved)
    await vi.waitFor(() => expect(after.lines().map(({ body }) => body)).toEqual(['third of that second']))
    expect(after.events()).toEqual([])
  })

  test('names an event after what happened, with the exit code and a severity', async () => {
    const { socket, add } = await engine()
    const one = await start({ socket, metrics: false, logs: false })
    const event = (Action: string, Attributes: object) =>
      Buffer.from(
        `${JSON.stringify({ Type: 'container', Action, Actor: { ID: 'abc', Attributes }, timeNano: Number(captured) + 1e9 })}\n`,
      )
    await vi.waitFor(() => expect(one.context.addresses).toHaveLength(1))
    add('events', event('died', { name: 'demo', containerExitCode: '137' }))
    add('events', event('exec_create: sh', { name: 'demo' }))
    add('events', event('health_status: unhealthy', { name: 'demo' }))
    await vi.waitFor(() => expect(one.events()).toHaveLength(2))
    expect(one.events()).toMatchObject([
      { eventName: 'dpu.container.die', severityNumber: 17, attributes: { 'process.exit.code': 137 } },
      {
        eventName: 'dpu.container.health',
        severityNumber: 13,
        attributes: { 'dpu.container.health': 'unhealthy' },
      },
    ])
  })

  test('leaves out containers that are not wanted', async () => {
    const { socket, asked } = await engine()
    const one = await start({ socket, containers: { exclude: ['demo'] } }, fromTheBeginning)
    await vi.waitFor(() => expect(asked.some((url) => url.startsWith('/containers/json'))).toBe(true))
    await one.context.clock.advance(30_000)
    expect(asked.filter((url) => /stats|logs/.test(url))).toEqual([])
    expect(one.events()).toEqual([])
  })

  test('says which engines there are, and what is missing', async () => {
    const { socket } = await engine()
    expect(await detectEngine(['/there/is/none', socket])).toEqual({ config: { socket } })
    expect(await detectEngine(['/there/is/none'])).toEqual({
      leftOut: 'no socket of Docker or Podman on this machine',
    })
    const context = testContext()
    const source = containers.create(containers.config.parse({ socket: '/there/is/none' }), context)
    await expect(source.run(async () => undefined, new AbortController().signal)).rejects.toThrow(
      'there is no /there',
    )
  })

  test('knows no container around a process that is in none', () =>
    expect(ownContainer('/there/is/none')).toBeUndefined())
})

describe('the log stream of a container', () => {
  const linesOf = (chunks: readonly Buffer[], isTerminal = false, longest = 1000) => {
    const found: [string, number, string, boolean][] = []
    const lines = new ContainerLines({
      longest,
      isTerminal,
      take: (stream, seconds, _, bytes, start, end, wasCut) =>
        void found.push([stream, seconds, bytes.toString('utf8', start, end), wasCut]),
    })
    for (const chunk of chunks) lines.push(chunk)
    lines.end()
    return found
  }

  test('gives the same lines in whatever chunks it arrives', () => {
    const whole = Buffer.concat([
      line(1, '2026-11-21T16:51:01.5Z first\n2026-11-21T16:51:02Z sec'),
      line(2, '2026-11-21T16:51:02Z from stderr\r\n'),
      line(1, 'ond\n2026-11-21T16:51:03Z \n'),
      line(1, '2026-11-21T16:51:04Z without an end'),
    ])
    const expected = linesOf([whole])
    expect(expected.map(([stream, , text]) => `${stream} ${text}`)).toEqual([
      'stdout first',
      'stderr from stderr',
      'stdout second',
      'stdout ',
      'stdout without an end',
    ])
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length)), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), whole.length]
        expect(linesOf(at.slice(1).map((end, index) => whole.subarray(at[index], end)))).toEqual(expected)
      }),
    )
  })

  test('of a terminal has no frames', () =>
    expect(linesOf([Buffer.from('2026-11-21T16:51:01Z a\r\n2026-11-21T16:51:01Z b\r\n')], true)).toEqual([
      ['stdout', Date.UTC(2026, 10, 21, 16, 51, 1) / 1000, 'a', false],
      ['stdout', Date.UTC(2026, 10, 21, 16, 51, 1) / 1000, 'b', false],
    ]))

  test('cuts a line that is too long', () =>
    expect(linesOf([line(1, `2026-11-21T16:51:01Z ${'x'.repeat(5000)}\n`)], false, 100)).toEqual([
      ['stdout', Date.UTC(2026, 10, 21, 16, 51, 1) / 1000, 'x'.repeat(100), true],
    ]))

  test('has times of nine decimals, and of none', () => {
    expect(parseTime('2026-11-21T16:51:01.123456789Z')?.nanos).toBe(123_456_789)
    expect(parseTime('2026-11-21T18:51:01+02:00')).toEqual(parseTime('2026-11-21T16:51:01Z'))
    expect(parseTime('yesterday')).toBeUndefined()
  })
})
