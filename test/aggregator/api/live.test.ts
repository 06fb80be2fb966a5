// The live tail: records that fit arrive, a reader that does not read loses a counted number and nothing else grows.
import { describe, expect, test, vi } from 'vitest'
import { createSubscribers } from '../../../aggregator/api/live.ts'
import { startApi } from '../../../aggregator/api/server.ts'
import { serveSample } from '../../support/api-server.ts'
import { createSample } from '../../support/sample-queries.ts'

async function readUntil(
  stream: ReadableStream<Uint8Array>,
  enough: (text: string) => boolean,
): Promise<string> {
  const reader = stream.getReader()
  const decoder = new TextDecoder()
  let text = ''
  while (!enough(text)) {
    const { value, done } = await reader.read()
    if (done) break
    text += decoder.decode(value, { stream: true })
  }
  await reader.cancel()
  return text
}

describe('/api/live', () => {
  test('sends records that fit the filter as they come, and unsubscribes when the reader goes', async () => {
    const sample = createSample()
    const url = await serveSample(sample)
    const response = await fetch(`${url}/api/live?severity=warn&text=link`)
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    await vi.waitFor(() => expect(sample.followers).toBe(1), 30_000)
    sample.add({ body: 'link up', severityNumber: 9 })
    sample.add({ body: 'Link down', severityNumber: 17 })
    if (response.body === null) throw new Error('no body')
    const text = await readUntil(response.body, (text) => text.includes('Link down'))
    expect(text).toContain('event: record\ndata: {')
    expect(text).not.toContain('link up')
    await vi.waitFor(() => expect(sample.followers).toBe(0), 30_000)
  })

  test('refuses more subscribers than it has places for', async () => {
    const sample = createSample()
    const url = await serveSample(sample)
    const open = await Promise.all(Array.from({ length: 64 }, () => fetch(`${url}/api/live`)))
    expect((await fetch(`${url}/api/live`)).status).toBe(503)
    await open[0]?.body?.cancel()
    await vi.waitFor(async () => {
      const response = await fetch(`${url}/api/live`)
      expect(response.status).toBe(200)
    }, 30_000)
  })

  test('ends when the server stops', async () => {
    const controller = new AbortController()
    const options = { hosts: ['127.0.0.1'], port: 0, allowedHosts: [], signal: controller.signal }
    const api = await startApi(createSample(), options)
    const response = await fetch(`${api.url}/api/live`)
    controller.abort()
    await api.closed
    expect(await response.text()).toContain(': live')
  })
})

describe('the queue of a subscriber', () => {
  test('counts what does not fit, tells it, and keeps what does', async () => {
    const sample = createSample()
    const controller = new AbortController()
    const stream = createSubscribers(sample.live, 1).open({ where: [] }, controller.signal)
    if (stream === undefined) throw new Error('no place')
    for (let index = 0; index < 1500; index += 1) sample.add({ body: `n${index}` })
    const text = await readUntil(stream, (text) => text.includes('event: missed'))
    expect(text.match(/event: record/g)).toHaveLength(999)
    expect(text).toContain('"body":"n998"')
    expect(text).toContain('{"missed":501}')
    expect(sample.followers).toBe(0)
  })

  test('has a limit in bytes as well', async () => {
    const sample = createSample()
    const stream = createSubscribers(sample.live, 1).open({ where: [] }, new AbortController().signal)
    if (stream === undefined) throw new Error('no place')
    const body = 'x'.repeat(1024 * 1024)
    for (let index = 0; index < 10; index += 1) sample.add({ body })
    const text = await readUntil(stream, (text) => text.includes('event: missed'))
    expect(text.length).toBeLessThan(6 * 1024 * 1024)
    expect(text).toContain('{"missed":6}')
  })
})
