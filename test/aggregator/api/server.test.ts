// The HTTP API over a sample fleet: every answer is held against the OpenAPI document that is served, bad parameters
// are named, and what a foreign page or a greedy reader tries is refused.
import { request } from 'node:http'
import { connect } from 'node:net'
import { once } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import { startApi } from '../../../aggregator/api/server.ts'
import { serveSample } from '../../support/api-server.ts'
import { createFleetSample, createSample } from '../../support/sample-queries.ts'

interface Failure {
  error: { code: string; message: string; parameter?: string }
}

interface Document {
  openapi: string
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content?: Record<string, { schema: object }> }> }>
  >
  components: { schemas: Record<string, object> }
}

async function failureOf(
  url: string,
  init: RequestInit = {},
): Promise<Failure['error'] & { status: number }> {
  const response = await fetch(url, init)
  const { error } = (await response.json()) as Failure
  return { status: response.status, ...error }
}

// The document's own schema of one answer, as a validator.
function answerSchema(document: Document, path: string, method: string, status: number): z.ZodType {
  const schema = document.paths[path]?.[method]?.responses[status]?.content?.['application/json']?.schema
  if (schema === undefined) throw new Error(`${method} ${path} does not declare ${status}`)
  const text = JSON.stringify({ ...schema, $defs: document.components.schemas })
  return z.fromJSONSchema(JSON.parse(text.replaceAll('#/components/schemas/', '#/$defs/')))
}

describe('the OpenAPI document', () => {
  const asked = [
    ['/api/health', '/api/health', 'get', 200],
    ['/api/devices', '/api/devices', 'get', 200],
    ['/api/devices?selector=rack=r1', '/api/devices', 'get', 200],
    ['/api/devices/mt2150x00002', '/api/devices/{device}', 'delete', 200],
    ['/api/devices/absent', '/api/devices/{device}', 'delete', 404],
    ['/api/devices/Not%20a%20name', '/api/devices/{device}', 'delete', 400],
    ['/api/config', '/api/config', 'get', 200],
    ['/api/config/mt2150x00001', '/api/config/{device}', 'get', 200],
    ['/api/config/absent', '/api/config/{device}', 'get', 404],
    ['/api/config?device=mt2150x00001', '/api/config', 'delete', 200],
    ['/api/config', '/api/config', 'delete', 400],
    ['/api/verbosity?device=mt2150x00001&source=syslog', '/api/verbosity', 'delete', 200],
    ['/api/rollouts', '/api/rollouts', 'get', 200],
    ['/api/rollouts/01K00000000000000000000000', '/api/rollouts/{id}', 'delete', 404],
    ['/api/logs?limit=10', '/api/logs', 'get', 200],
    ['/api/logs?severity=loud', '/api/logs', 'get', 400],
    ['/api/metrics', '/api/metrics', 'get', 200],
    ['/api/query?metric=hw.temperature', '/api/query', 'get', 200],
    ['/api/query?metric=system.network.io&step=5m&aggregate=rate', '/api/query', 'get', 200],
    ['/api/query', '/api/query', 'get', 400],
    ['/api/latest?device=mt2150x00001', '/api/latest', 'get', 200],
    ['/api/ledger', '/api/ledger', 'get', 200],
    ['/api/ledger?device=mt2150x00001', '/api/ledger', 'get', 200],
  ] as const

  test.for(asked)('describes the answer of %s', async ([path, declared, method, status]) => {
    const url = await serveSample(createFleetSample())
    const document = (await (await fetch(`${url}/openapi.json`)).json()) as Document
    expect(document.openapi).toBe('3.1.0')
    const response = await fetch(url + path, { method })
    expect(response.status).toBe(status)
    const answer: unknown = await response.json()
    expect(answerSchema(document, declared, method, status).safeParse(answer).error?.issues).toBeUndefined()
  })

  test('refuses an answer that is not of its shape', async () => {
    const url = await serveSample(createFleetSample())
    const document = (await (await fetch(`${url}/openapi.json`)).json()) as Document
    const page = (await (await fetch(`${url}/api/logs?limit=1`)).json()) as { records: { time: unknown }[] }
    for (const record of page.records) record.time = 'yesterday'
    expect(answerSchema(document, '/api/logs', 'get', 200).safeParse(page).success).toBe(false)
  })
})

describe('parameters', () => {
  test.for([
    ['/api/logs?severity=loud', 'severity', 'takes trace, debug'],
    ['/api/logs?since=soon', 'since', 'such as 15m'],
    ['/api/logs?since=15m&since=1h', 'since', 'give it once'],
    ['/api/logs?until=2026-13-45T00:00:00Z', 'until', 'such as 15m'],
    ['/api/logs?limit=0', 'limit', 'from 1 to 10000'],
    ['/api/logs?limit=1e3', 'limit', 'from 1 to 10000'],
    ['/api/logs?where=appname', 'where', 'takes key=value'],
    ['/api/logs?selector=site', 'selector', 'takes label=value'],
    ['/api/logs?device=no%20name', 'device', 'takes the name of a device'],
    ['/api/logs?next=elsewhere', 'next', 'no cursor'],
    ['/api/logs?sverity=warn', 'sverity', 'no such parameter'],
    [`/api/logs?text=${'x'.repeat(1001)}`, 'text', 'at most 1000'],
    ['/api/query', 'metric', 'is needed'],
    ['/api/query?metric=m&step=0s', 'step', 'such as 30s'],
    ['/api/query?metric=m&aggregate=median', 'aggregate', 'takes one of mean'],
    ['/api/query?metric=m&since=1h&until=2h', 'since', 'earlier than until'],
    ['/api/query?metric=hw.temperature&limit=5', 'step', 'is needed'],
    ['/api/latest', 'device', 'is needed'],
  ] as const)('%s is refused by the name of %s', async ([path, parameter, message]) => {
    const url = await serveSample(createFleetSample())
    const failure = await failureOf(url + path)
    expect(failure).toMatchObject({ status: 400, code: 'BAD_PARAMETER', parameter })
    expect(failure.message).toContain(message)
  })

  test('a page holds the newest that fit, oldest first, and next leads back to every record once', async () => {
    const sample = createFleetSample()
    const url = await serveSample(sample)
    const seen: string[] = []
    let before: string | undefined
    do {
      const cursor = before === undefined ? '' : `&next=${encodeURIComponent(before)}`
      const page = (await (await fetch(`${url}/api/logs?limit=7${cursor}`)).json()) as {
        records: { id: string; time: string }[]
        next?: string
      }
      expect(page.records.map(({ time }) => time)).toEqual(page.records.map(({ time }) => time).sort())
      seen.unshift(...page.records.map(({ id }) => id))
      before = page.next
    } while (before !== undefined)
    expect(seen).toEqual(sample.records.map(({ id }) => id))
  })

  test('device and selector both narrow, and a selector that fits nothing gives nothing', async () => {
    const url = await serveSample(createFleetSample())
    const devices = async (query: string) => {
      const list = (await (await fetch(`${url}/api/devices?${query}`)).json()) as { device: string }[]
      return list.map(({ device }) => device)
    }
    expect(await devices('selector=site=lab,rack=r2')).toEqual(['mt2150x00002'])
    expect(await devices('selector=rack=r2&device=mt2150x00001')).toEqual([])
    expect(await (await fetch(`${url}/api/logs?selector=rack=r9`)).json()).toEqual({ records: [] })
    expect(await (await fetch(`${url}/api/ledger?selector=rack=r9`)).json()).toMatchObject({ produced: 0 })
  })
})

describe('health', () => {
  test('is 503 until all parts are ready', async () => {
    const sample = createSample()
    sample.parts.push({ name: 'broker', ready: false, detail: 'starting' })
    const url = await serveSample(sample)
    expect((await fetch(`${url}/api/health`)).status).toBe(503)
    sample.parts = sample.parts.map((part) => ({ ...part, ready: true }))
    expect((await fetch(`${url}/api/health`)).status).toBe(200)
  })
})

describe('who may ask', () => {
  // fetch sets Host itself, so these go through node:http.
  async function statusWith(url: string, headers: Record<string, string>, path: string): Promise<number> {
    const sent = request(url + path, { headers }).end()
    const [response] = (await once(sent, 'response')) as [{ statusCode: number; resume(): void }]
    response.resume()
    return response.statusCode
  }

  test('a foreign Host header is refused, names of loopback are not', async () => {
    const url = await serveSample(createSample())
    const { port } = new URL(url)
    expect(await statusWith(url, { host: 'attacker.example' }, '/api/logs')).toBe(403)
    expect(await statusWith(url, { host: `attacker.example:${port}` }, '/')).toBe(403)
    expect(await statusWith(url, { host: '192.0.2.1' }, '/api/logs')).toBe(403)
    for (const host of ['localhost', `localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`]) {
      expect(await statusWith(url, { host }, '/api/logs')).toBe(200)
    }
  })

  test('a page of another origin is refused, the own page is not', async () => {
    const url = await serveSample(createSample())
    expect(
      await failureOf(`${url}/api/logs`, { headers: { origin: 'http://attacker.example' } }),
    ).toMatchObject({
      status: 403,
      code: 'FOREIGN_ORIGIN',
    })
    expect(
      await statusWith(url, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }, '/api/logs'),
    ).toBe(403)
    expect(await statusWith(url, { origin: url }, '/api/logs')).toBe(200)
  })

  test('a URL or a body that is too long is refused', async () => {
    const url = await serveSample(createSample())
    expect((await fetch(`${url}/api/logs?where=k=${'v'.repeat(9000)}`)).status).toBe(414)
    const init = { method: 'DELETE', body: 'x'.repeat(70_000) }
    expect(await failureOf(`${url}/api/devices/a`, init)).toMatchObject({
      status: 413,
      code: 'BODY_TOO_LARGE',
    })
  })
})

describe('load', () => {
  test('queries beyond those that run and wait are sent away with Retry-After, and the others are answered', async () => {
    const sample = createFleetSample()
    const gate = Promise.withResolvers<void>()
    sample.before = () => gate.promise
    const url = await serveSample(sample)
    const answers = Array.from({ length: 50 }, () => fetch(`${url}/api/logs?limit=1`))
    const refused: Response[] = []
    for (const answer of answers) {
      void answer.then((response) => {
        if (response.status !== 503) return
        refused.push(response)
        if (refused.length === 14) gate.resolve()
      })
    }
    const statuses = (await Promise.all(answers)).map(({ status }) => status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(36)
    expect(refused.map(({ headers }) => headers.get('retry-after'))).toEqual(Array(14).fill('1'))
  })

  test('a query whose asker has gone is aborted', async () => {
    const sample = createFleetSample()
    const aborted = Promise.withResolvers<void>()
    const asked = Promise.withResolvers<void>()
    sample.before = (signal) => {
      asked.resolve()
      signal.addEventListener('abort', () => aborted.resolve())
      return aborted.promise
    }
    const url = await serveSample(sample)
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.write('GET /api/logs HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await asked.promise
    socket.destroy()
    await aborted.promise
  })

  test('a store that is away is a 503 that says so and when to ask again', async () => {
    const sample = createFleetSample()
    const what = 'InfluxDB does not answer a query (http://10.0.0.7:8086)'
    sample.before = () => Promise.reject(new RetryableError('PEER_UNREACHABLE', what))
    const answer = await fetch(`${await serveSample(sample)}/api/logs`)
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await answer.json()).toEqual({ error: { code: 'PEER_UNREACHABLE', message: what } })
    expect(sample.errors).toEqual([])
  })

  test('a failure of the store is a 500 that shows nothing of it, and is told to the log', async () => {
    const sample = createFleetSample()
    sample.before = () => Promise.reject(new Error('disk of /secret/place is broken'))
    const url = await serveSample(sample)
    const failure = await failureOf(`${url}/api/logs`)
    expect(failure).toMatchObject({ status: 500, code: 'INTERNAL' })
    expect(failure.message).not.toContain('secret')
    expect(sample.errors).toMatchObject([{ message: 'request failed', path: '/api/logs' }])
  })
})

describe('a port that is taken', () => {
  test('is named with its holder and the option that moves it', async () => {
    const url = await serveSample(createSample())
    const port = Number(new URL(url).port)
    const { signal } = new AbortController()
    const second = startApi(createSample(), { hosts: ['127.0.0.1'], port, allowedHosts: [], signal })
    await expect(second).rejects.toThrow(`port ${port}/tcp`)
    await expect(second).rejects.toThrow(`process ${process.pid}`)
    await expect(second).rejects.toThrow('--port-offset')
  })
})

describe('the console', () => {
  test('is served with its modules, a policy that keeps scripts to its own, and an answer of 304', async () => {
    const url = await serveSample(createSample())
    const page = await fetch(`${url}/`)
    expect(page.headers.get('content-type')).toContain('text/html')
    expect(page.headers.get('content-security-policy')).toContain("script-src 'self'")
    const html = await page.text()
    for (const [, path = ''] of html.matchAll(/(?:src|href)="(\/[^"]+)"/g)) {
      expect([path, (await fetch(url + path)).status]).toEqual([path, 200])
    }
    const again = await fetch(`${url}/`, { headers: { 'if-none-match': page.headers.get('etag') ?? '' } })
    expect(again.status).toBe(304)
    await vi.waitFor(async () => expect((await fetch(`${url}/absent.html`)).status).toBe(404), 30_000)
  })
})
