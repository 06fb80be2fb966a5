// The spdk source over answers of a program of SPDK, and those that SPDK documents, given by a server on a socket of its own.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import type * as z from 'zod'
import { parseExact } from '../../../plugins/protocols/exact-json.ts'
import spdk, { SpdkReader, detectSpdk } from '../../../plugins/sources/spdk.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'

const never = new AbortController().signal

/** Answers each method with the text of its result, in pieces as a socket may bring them; unknown ones as SPDK does. */
async function program(results: () => Record<string, string>) {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-spdk-'))
  const path = join(folder, 'spdk.sock')
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      const { method, id } = JSON.parse(bytes.toString()) as { method: string; id: number }
      const result = results()[method]
      const unknown = '"error":{"code":-32601,"message":"Method not found"}'
      const text = `{"jsonrpc":"2.0","id":${id},${result === undefined ? unknown : `"result":${result}`}}`
      const half = Math.floor(text.length / 2)
      socket.write(text.slice(0, half), () => socket.write(text.slice(half)))
    })
  }).listen(path)
  await once(server, 'listening')
  return {
    path,
    close: () => {
      server.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
/** The results of a fixture, each as text. */
const resultsOf = (fixture: string): Record<string, string> => {
  const text = readFileSync(join(import.meta.dirname, '../../fixtures/spdk', fixture), 'utf8')
  const given = JSON.parse(text) as Record<string, unknown>
  return Object.fromEntries(Object.entries(given).map(([method, one]) => [method, JSON.stringify(one)]))
}
const results = () => resultsOf('answers.json')

async function reading(given: () => Record<string, string>, config: z.input<typeof spdk.config> = {}) {
  const { path, close } = await program(given)
  onTestFinished(close)
  const context = testContext({ clock: new FakeClock() })
  const reader = new SpdkReader(spdk.config.parse({ ...config, socket: path }), context)
  return { reader, context, read: async () => collectPoints(await reader.read(never)), path }
}

describe('spdk', () => {
  let shared: Awaited<ReturnType<typeof program>> | undefined
  afterAll(() => shared?.close())
  conformsToSource(spdk, async () => ({ socket: (shared ??= await program(results)).path }))

  test('reads what SPDK documents as it did before', async () => {
    const { reader } = await reading(results)
    await expect(golden(await reader.read(never))).toMatchFileSnapshot('../../golden/spdk/answers.json')
  })

  test('reads a program that served NVMe over TCP as it did before', async () => {
    const { reader } = await reading(() => resultsOf('running.json'))
    await expect(golden(await reader.read(never))).toMatchFileSnapshot('../../golden/spdk/running.json')
  })

  test('counts what an initiator did, and how long that took it', async () => {
    const points = await (await reading(() => resultsOf('running.json'))).read()
    const sumOf = (name: string, attributes: object) =>
      points
        .filter((one) => one.name === name)
        .filter((one) => Object.entries(attributes).every(([key, value]) => one.attributes[key] === value))
        .reduce((sum, { value }) => sum + Number(value), 0)
    const device = { 'dpu.spdk.bdev': 'Malloc0' }
    expect(sumOf('dpu.spdk.bdev.operations', device)).toBe(123_548 + 52_911)
    expect(sumOf('dpu.spdk.bdev.io', { ...device, 'dpu.spdk.operation': 'write' })).toBe(52_911 * 4096)
    // Its eight queues were busy for less than three seconds each.
    expect(sumOf('dpu.spdk.bdev.operation_time', device)).toBeCloseTo(
      (2_021_493_630 + 644_215_936) / 2.6e9,
      9,
    )
    expect(sumOf('dpu.spdk.nvmf.operations', {})).toBe(176_457)
    expect(sumOf('dpu.spdk.nvmf.qpairs', { 'dpu.spdk.queue': 'io' })).toBe(0)
  })

  test('tells counters that an operator reset by what the program says afterwards', async () => {
    let fixture = 'running.json'
    const { read, context } = await reading(() => resultsOf(fixture))
    const first = context.clock.nowUnixNano()
    await read()
    await context.clock.advance(15_000)
    fixture = 'reset.json'
    const moved = (await read()).filter(
      ({ name, attributes }) => name === 'dpu.spdk.bdev.io' && attributes['dpu.spdk.bdev'] === 'Malloc0',
    )
    expect(moved.map(({ value, start }) => [value, start])).toEqual(
      Array.from({ length: 4 }, () => [0n, first]),
    )
    expect(context.logged.map(({ message }) => message)).toContain('counters of SPDK began anew')
  })

  test('keeps counters beyond 2^53 exact', async () => {
    const bdev =
      '{"name":"a","bytes_read":18787040917434338,"num_read_ops":18446744073709551615,"read_latency_ticks":7}'
    const { read } = await reading(() => ({
      // As in a reply that opi-spdk-bridge has in its tests, with the largest count of 64 bits beside it.
      bdev_get_iostat: `{"tick_rate":2490000000,"ticks":18787040917434338,"bdevs":[${bdev}]}`,
    }))
    const points = await read()
    expect(points.find(({ name }) => name === 'dpu.spdk.bdev.io')?.value).toBe(18_787_040_917_434_338n)
    expect(points.find(({ name }) => name === 'dpu.spdk.bdev.operation_time')?.value).toBeCloseTo(
      7 / 2.49e9,
      15,
    )
    expect(parseExact('[9007199254740993, 1.5, -9007199254740993, 1e3]')).toEqual([
      9_007_199_254_740_993n,
      1.5,
      -9_007_199_254_740_993n,
      1000,
    ])
  })

  test('gives counters that began anew a start between the two readings', async () => {
    let read = 500
    const { read: points, context } = await reading(() => ({
      bdev_get_iostat: `{"tick_rate":1000,"bdevs":[{"name":"a","bytes_read":${read},"read_latency_ticks":2000},{"name":"b","bytes_read":7}]}`,
    }))
    const startsOf = async () =>
      Object.fromEntries(
        (await points())
          .filter(({ name }) => name === 'dpu.spdk.bdev.io')
          .map(({ attributes, start }) => [attributes['dpu.spdk.bdev'], start]),
      )
    const first = context.clock.nowUnixNano()
    expect(await startsOf()).toEqual({ a: 0n, b: 0n })
    await context.clock.advance(15_000)
    read = 10
    expect(await startsOf()).toEqual({ a: first, b: 0n })
    await context.clock.advance(15_000)
    read = 20
    expect(await startsOf()).toEqual({ a: first, b: 0n })
    expect(context.logged.map(({ message }) => message)).toEqual(['counters of SPDK began anew'])
  })

  test('takes null for no devices, and has no seconds without a rate', async () => {
    const { read } = await reading(() => ({
      bdev_get_iostat: '{"tick_rate":0,"ticks":0,"bdevs":null}',
      thread_get_stats: '{"threads":[{"name":"app_thread","id":1,"busy":5,"idle":5}]}',
    }))
    expect((await read()).map(({ name }) => name)).toEqual(['dpu.spdk.up'])
  })

  test('reads only the devices that it is told to', async () => {
    const { read } = await reading(results, { bdevs: { exclude: ['Nvme*'] } })
    expect((await read()).some(({ name }) => name.startsWith('dpu.spdk.bdev'))).toBe(false)
  })

  test('says that the program is down, once, and that it is up again', async () => {
    const context = testContext()
    const { path, close } = await program(results)
    const reader = new SpdkReader(spdk.config.parse({ socket: path }), context)
    const isUp = async () =>
      collectPoints(await reader.read(never)).find(({ name }) => name === 'dpu.spdk.up')?.value
    expect(await isUp()).toBe(1n)
    close()
    expect(await isUp()).toBe(0n)
    expect(await isUp()).toBe(0n)
    expect(context.logged.filter(({ level }) => level === 'warn')).toHaveLength(1)
  })

  test('says what is wrong with an answer that is no JSON, and gives what it had', async () => {
    const { read, context } = await reading(() => ({ ...results(), thread_get_stats: '{1}' }))
    expect((await read()).some(({ name }) => name === 'dpu.spdk.bdev.io')).toBe(true)
    expect(context.logged[0]?.fields.reason).toContain('thread_get_stats: the answer is no JSON')
  })

  test('is detected where a program answers', async () => {
    const { path } = await reading(results)
    expect(await detectSpdk(path)).toEqual({ config: {} })
    expect(await detectSpdk('/there/is/none')).toEqual({
      leftOut: 'no SPDK program: there is no /there/is/none',
    })
  })
})
