// The OTLP source: records of several devices and classes in one request, answers that wait for the pipeline.
import { afterEach, describe, expect, test } from 'vitest'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import type { Records } from '../../../plugins/contract/batch.ts'
import type { Emit } from '../../../plugins/contract/define.ts'
import otlp from '../../../plugins/sources/otlp.ts'
import { configOf } from '../../support/conformance-definition.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { sampleLogs, samplePoints } from '../../support/records.ts'
import { grpcMethod } from '../../../plugins/protocols/otlp/methods.ts'
import { jsonToRequest } from '../../../plugins/protocols/otlp/json.ts'
import { decodeResponse } from '../../../plugins/protocols/otlp/answers.ts'
import { call, closeAll, grpcClient, open, post } from '../protocols/otlp/senders.ts'

afterEach(closeAll)

const example = { grpc: '127.0.0.1:0', http: '127.0.0.1:0', max_request: '1MiB' }
const portOf = (addresses: string, scheme: string): number =>
  Number(new RegExp(`${scheme}://[^:]+:(\\d+)`).exec(addresses)?.[1])
const own = { 'content-type': 'application/json' }
const line = JSON.stringify({
  resourceLogs: [{ scopeLogs: [{ logRecords: [{ timeUnixNano: '1790000000000000000' }] }] }],
})

conformsToSource(otlp, example, {
  outstanding: 256,
  provoke: async ({ addresses, context, signal }) => {
    await context.whenReady
    const port = portOf(addresses[0] ?? '', 'http')
    const answer = post({ port }, line, own)
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
  const source = otlp.create(
    configOf(otlp, { ...example, ...config }) as Parameters<typeof otlp.create>[0],
    context,
  )
  const take: Emit = async (records) => void emitted.push(records)
  const running = source.run(emit ?? take, controller.signal)
  open.push(async () => {
    controller.abort()
    await running
  })
  const address = await context.whenReady
  return { context, emitted, address, http: portOf(address, 'http'), grpc: portOf(address, 'grpc') }
}

describe('the OTLP source', () => {
  test('emits what grpc-js sends of each signal, by device and class', async () => {
    const { grpc, emitted } = await start()
    const client = grpcClient(grpc)
    const logs = ['a', 'b'].map((device) => sampleLogs([{}, { severity: 17 }], device).bytes)
    await call(client, grpcMethod('logs'), Buffer.concat(logs))
    await call(client, grpcMethod('metrics'), Buffer.from(samplePoints(3, 'c').bytes))
    const span = jsonToRequest('traces', '{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}')
    await call(client, grpcMethod('traces'), Buffer.from(span))
    const found = emitted.map((one) => [one.signal, one.device, one.class, one.count])
    expect(found).toEqual([
      ['logs', 'a', 'log', 1],
      ['logs', 'a', 'log_error', 1],
      ['logs', 'b', 'log', 1],
      ['logs', 'b', 'log_error', 1],
      ['metrics', 'c', 'resource', 3],
      ['traces', 'dpu-under-test', 'log', 2],
    ])
  })

  test('without host.id records are about the device of the collector', async () => {
    const { http, emitted } = await start()
    expect((await post({ port: http }, line, own)).status).toBe(200)
    expect(emitted).toMatchObject([{ device: 'dpu-under-test', class: 'log', count: 1 }])
  })

  test('answers when every part is safe, not before', async () => {
    const pending: (() => void)[] = []
    const both = Promise.withResolvers<void>()
    const { http } = await start({}, () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      if (pending.push(resolve) === 2) both.resolve()
      return promise
    })
    const body = Buffer.concat([sampleLogs([{}], 'a').bytes, sampleLogs([{}], 'b').bytes])
    let answered = false
    const answer = post({ port: http }, body).then(({ status }) => {
      answered = true
      return status
    })
    await both.promise
    pending[0]?.()
    // Another request goes all the way in the meantime.
    expect((await post({ port: http }, 'x', own)).status).toBe(400)
    expect(answered).toBe(false)
    pending[1]?.()
    expect(await answer).toBe(200)
  })

  test('while the program stops senders are told to try again', async () => {
    const { http } = await start({}, () =>
      Promise.reject(new RetryableError('STOPPING', 'the collector stops')),
    )
    expect(await post({ port: http }, line, own)).toMatchObject({
      status: 503,
      headers: { 'retry-after': '1' },
    })
  })

  test('a record that fits no batch is told as partial success and counted, its neighbours are kept', async () => {
    const { http, emitted, context } = await start({ max_request: '4MiB' })
    const large = sampleLogs([{ body: 'x'.repeat(950_000), severity: 18 }], 'a')
    const answer = await post({ port: http }, Buffer.concat([large.bytes, sampleLogs([{}], 'a').bytes]))
    expect(decodeResponse('logs', answer.body)).toMatchObject({ rejected: 1 })
    expect(context.drops).toEqual([{ class: 'log_error', reason: 'invalid', count: 1 }])
    expect(emitted).toMatchObject([{ class: 'log', count: 1 }])
  })

  test('a malformed request is refused with its offset, and the next one is taken', async () => {
    const { http, emitted } = await start()
    const { bytes } = sampleLogs([{}])
    const refused = await post({ port: http }, bytes.subarray(0, bytes.length - 1))
    expect([refused.status, refused.body.toString()]).toEqual([400, expect.stringMatching(/at byte \d+/)])
    expect((await post({ port: http }, bytes)).status).toBe(200)
    expect(emitted.length).toBe(1)
  })

  test('listens only where it is told to', async () => {
    const { address } = await start({ grpc: false })
    expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
  })
})
