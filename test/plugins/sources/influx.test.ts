// The influx source over HTTP: both versions of the write API, answers that wait, and bodies of which only some lines
// can be taken.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import type { Records } from '../../../plugins/contract/batch.ts'
import type { Emit } from '../../../plugins/contract/define.ts'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import influx from '../../../plugins/sources/influx.ts'
import { configOf } from '../../support/conformance-definition.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'
import { closeAll, open, post } from '../protocols/otlp/senders.ts'

afterEach(closeAll)

const example = { listen: '127.0.0.1:0', max_request: '1MiB' }
const portOf = (address: string): number => Number(/:(\d+)$/.exec(address)?.[1])
const telegraf = readFileSync(join(import.meta.dirname, '../../fixtures/influx/telegraf.lp'))

conformsToSource(influx, example, {
  outstanding: 256,
  provoke: async ({ context, signal }) => {
    const port = portOf(await context.whenReady)
    const answer = post({ port }, 'cpu,host=a usage=1.5', {}, '/api/v2/write')
    const stopped = Promise.withResolvers<void>()
    signal.addEventListener('abort', () => stopped.resolve(), { once: true })
    await Promise.race([answer, stopped.promise])
    answer.catch(() => undefined)
  },
})

async function start(config: object = {}, emit?: Emit) {
  const emitted: Records[] = []
  const context = testContext()
  const controller = new AbortController()
  const source = influx.create(
    configOf(influx, { ...example, ...config }) as Parameters<typeof influx.create>[0],
    context,
  )
  const running = source.run(emit ?? (async (records) => void emitted.push(records)), controller.signal)
  open.push(async () => {
    controller.abort()
    await running
  })
  const port = portOf(await context.whenReady)
  const write = async (
    body: Uint8Array | string,
    headers: Record<string, string> = {},
    path = '/api/v2/write',
  ) => {
    const answer = await post({ port }, body, headers, path)
    return { ...answer, json: () => JSON.parse(answer.body.toString()) as Record<string, unknown> }
  }
  return { context, emitted, write, port }
}

describe('the influx source', () => {
  test('takes what a Telegraf writes', async () => {
    const { write, emitted } = await start()
    expect((await write(telegraf)).status).toBe(204)
    await expect(golden(emitted)).toMatchFileSnapshot('../../golden/influx/telegraf.json')
  })

  test('takes a body compressed with gzip, as Telegraf sends it', async () => {
    const { write, emitted } = await start()
    expect((await write(gzipSync(telegraf), { 'content-encoding': 'gzip' })).status).toBe(204)
    const plain = await start()
    await plain.write(telegraf)
    expect(emitted.map(({ bytes }) => bytes)).toEqual(plain.emitted.map(({ bytes }) => bytes))
  })

  test('takes bad lines for themselves: the others are emitted, the answer names the first, all are counted', async () => {
    const { write, emitted, context } = await start()
    const answer = await write('a v=1 1\nb v=1e 2\n\nc v=2i 3\nd,t= v=1 4\n')
    expect(answer.status).toBe(400)
    expect(answer.json()).toMatchObject({ code: 'invalid', line: 2 })
    expect(answer.json().message).toContain('2 of 4 lines refused')
    expect(answer.json().message).toContain('line 2: field v has no value that can be stored: 1e (b)')
    expect(collectPoints(emitted).map(({ name }) => name)).toEqual(['a_v', 'c_v'])
    expect(context.drops).toEqual([{ class: 'resource', reason: 'invalid', count: 2 }])
  })

  test('speaks version 1 too: precision, the error text, and a database that Telegraf makes first', async () => {
    const { write, emitted } = await start()
    const made = await write('', {}, '/query?q=CREATE%20DATABASE%20%22telegraf%22')
    expect([made.status, made.json()]).toEqual([200, { results: [{ statement_id: 0 }] }])
    expect((await write('a v=1 1790000000', {}, '/write?db=telegraf&precision=s')).status).toBe(204)
    expect(collectPoints(emitted)[0]?.time).toBe(1_790_000_000_000_000_000n)
    const refused = await write('nothing', {}, '/write?db=telegraf')
    expect([refused.status, refused.json().error]).toEqual([
      400,
      expect.stringContaining('partial write: 1 of 1'),
    ])
    expect((await write('a v=1', {}, '/write?precision=y')).json().error).toContain('precision y is none of')
  })

  test('answers when every part is safe, not before', async () => {
    const released = Promise.withResolvers<void>()
    const seen = Promise.withResolvers<void>()
    const { write } = await start({}, () => {
      seen.resolve()
      return released.promise
    })
    let answered = false
    const answer = write('a v=1').then(({ status }) => {
      answered = true
      return status
    })
    await seen.promise
    expect((await write('x', { 'content-encoding': 'br' })).status).toBe(415)
    expect(answered).toBe(false)
    released.resolve()
    expect(await answer).toBe(204)
  })

  test('while the program stops senders are told to try again', async () => {
    const { write } = await start({}, () =>
      Promise.reject(new RetryableError('STOPPING', 'the collector stops')),
    )
    expect(await write('a v=1')).toMatchObject({ status: 503, headers: { 'retry-after': '1' } })
  })

  test('the tag that names the device decides whom lines are about', async () => {
    const { write, emitted } = await start({ device_tag: 'host' })
    await write('a,host=DPU\\ 7 v=1\na v=2\na,host=dpu-8 v=3')
    expect(emitted.map(({ device }) => device).toSorted()).toEqual(
      ['dpu-7', 'dpu-8', 'dpu-under-test'].toSorted(),
    )
    expect(collectPoints(emitted).find(({ value }) => value === 3)?.resource['host.id']).toBe('dpu-8')
  })

  test('with a token others are refused, and it may come as token, bearer, password or parameter', async () => {
    process.env.INFLUX_TEST_TOKEN = 's3cret'
    const { write } = await start({ token: { env: 'INFLUX_TEST_TOKEN' } })
    const basic = Buffer.from('telegraf:s3cret').toString('base64')
    const statuses = await Promise.all([
      write('a v=1'),
      write('a v=1', { authorization: 'Token wrong' }),
      write('a v=1', { authorization: 'Token s3cret' }),
      write('a v=1', { authorization: 'Bearer s3cret' }),
      write('a v=1', { authorization: `Basic ${basic}` }, '/write'),
      write('a v=1', {}, '/write?u=telegraf&p=s3cret'),
    ])
    expect(statuses.map(({ status }) => status)).toEqual([401, 401, 204, 204, 204, 204])
  })

  test('a line with a message is a log record, other texts become one beside the points', async () => {
    const { write, emitted } = await start()
    await write(
      'syslog,severity=err,appname=x message="disk \\"a\\" failed",pid=7i 1\nsystem up="1:02",load=0.5 1',
    )
    const logs = emitted.filter(({ signal }) => signal === 'logs')
    expect(collectLogs(logs).toSorted((a, b) => b.severityNumber - a.severityNumber)).toMatchObject([
      {
        severityNumber: 17,
        body: 'disk "a" failed',
        attributes: { 'influx.measurement': 'syslog', severity: 'err', appname: 'x', pid: 7 },
      },
      { severityNumber: 0, body: 'system', attributes: { 'influx.measurement': 'system', up: '1:02' } },
    ])
    const points = emitted.filter(({ signal }) => signal === 'metrics')
    expect(collectPoints(points)).toMatchObject([{ name: 'system_load', value: 0.5 }])
  })

  test('what is too large, elsewhere or read is refused by name', async () => {
    const { write, port } = await start()
    expect((await write('x'.repeat(2 * 1024 * 1024))).status).toBe(413)
    expect((await write('a v=1', {}, '/api/v3/write')).json().error).toContain('there is no /api/v3/write')
    expect((await write('', {}, '/query?q=SELECT%20*%20FROM%20cpu')).status).toBe(400)
    expect((await post({ port }, '', {}, '/ping', 'GET')).status).toBe(204)
    expect((await post({ port }, '', {}, '/health', 'GET')).body.toString()).toContain('"pass"')
  })
})
