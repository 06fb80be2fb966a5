// Changing devices over HTTP: every answer is held against the OpenAPI document, what is wrong is named, and where there
// are logins only a user that speaks for no single collector may change anything.
import { describe, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'
import { startApi } from '../../../aggregator/api/server.ts'
import { hashPassword } from '../../../plugins/contract/password.ts'
import { createFleetSample } from '../../support/sample-queries.ts'
import type { Sample } from '../../support/sample-queries.ts'

async function serve(more: Partial<Sample> = {}) {
  const controller = new AbortController()
  const api = await startApi(
    { ...createFleetSample(), ...more },
    { hosts: ['127.0.0.1'], port: 0, allowedHosts: [], signal: controller.signal },
  )
  onTestFinished(async () => {
    controller.abort()
    await api.closed
  })
  return async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const answer = await fetch(api.url + path, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return { status: answer.status, answer: (await answer.json()) as Record<string, unknown> }
  }
}

interface Document {
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content?: Record<string, { schema: object }> }> }>
  >
  components: { schemas: Record<string, object> }
}

const device = 'mt2150x00001'
const verbosity = { source: 'syslog', severity: 'debug', for: '1h' }

describe('a change', () => {
  test.for([
    ['/api/config', { text: 'sources: {}', stages: [1, 100], soak: '1s' }],
    ['/api/config', { text: 'sources: {}', by: 'ada' }],
    ['/api/verbosity', verbosity],
    ['/api/labels', { devices: { [device]: { 'dpu.rack': 'r1', slot: null }, other: { rack: 'r2' } } }],
  ] as const)('to %s is answered as the document says', async ([path, body]) => {
    const ask = await serve()
    const document = (await ask('GET', '/openapi.json')).answer as unknown as Document
    const target = path === '/api/labels' ? '' : `?device=${device}`
    const { status, answer } = await ask('POST', path + target, body)
    expect(status).toBe(200)
    const schema = document.paths[path]?.post?.responses['200']?.content?.['application/json']?.schema
    const text = JSON.stringify({ ...schema, $defs: document.components.schemas })
    const parsed = z.fromJSONSchema(JSON.parse(text.replaceAll('#/components/schemas/', '#/$defs/')))
    expect(parsed.safeParse(answer).error?.issues).toBeUndefined()
  })

  test.for([
    ['/api/config?device=absent', { text: 'a' }, 'device'],
    ['/api/config', { text: 'a' }, 'device'],
    ['/api/config?selector=rack=nowhere', { text: 'a' }, 'selector'],
    [`/api/config?device=${device}`, { text: 'a', stages: [10, 5, 100] }, 'stages'],
    [`/api/config?device=${device}`, { text: 'a', stages: [10] }, 'stages'],
    [`/api/config?device=${device}`, { text: '' }, 'text'],
    [`/api/verbosity?device=${device}`, { ...verbosity, severity: 'loud' }, 'severity'],
    [`/api/verbosity?device=${device}`, { ...verbosity, for: '1y' }, 'for'],
    [`/api/verbosity?device=${device}`, { ...verbosity, for: '40d' }, 'for'],
    ['/api/labels', { devices: { [device]: { 'Rack!': 'r1' } } }, 'devices'],
    ['/api/labels', { devices: { 'No Device': { rack: 'r1' } } }, 'devices.No Device'],
  ] as const)('to %s with %j is refused, and what is wrong is named', async ([path, body, parameter]) => {
    const { status, answer } = await (await serve())('POST', path, body)
    expect({ status, answer }).toMatchObject({ status: 400, answer: { error: { parameter } } })
  })

  test('for a rack reaches the devices of it, by the name of the label with or without dpu.', async () => {
    const ask = await serve()
    const [first] = createFleetSample().fleet.filter(({ labels }) => Object.keys(labels).length > 0)
    const [key = '', value = ''] = Object.entries(first?.labels ?? {})[0] ?? []
    const bare = key.replace(/^dpu\./, '')
    const [one, other] = await Promise.all(
      [bare, `dpu.${bare}`].map((name) => ask('POST', `/api/verbosity?selector=${name}=${value}`, verbosity)),
    )
    expect(one?.answer.devices).toContain(first?.device)
    expect(other?.answer).toEqual(one?.answer)
  })
})

describe('with logins', () => {
  const basic = (name: string, password: string) => ({
    authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
  })

  test('only a user who speaks for no single collector may change a device, and all may look', async () => {
    const users = {
      ada: { password: await hashPassword('right') },
      'dpu-1': { password: await hashPassword('right'), collector: 'dpu-1' },
    }
    const ask = await serve({ login: { users, loopback: false } })
    const change = (headers: Record<string, string>) =>
      ask('POST', `/api/verbosity?device=${device}`, verbosity, headers)
    expect((await change({})).status).toBe(401)
    expect((await change(basic('ada', 'wrong'))).status).toBe(401)
    expect((await change(basic('dpu-1', 'right'))).status).toBe(403)
    expect((await change(basic('ada', 'right'))).status).toBe(200)
    const { answer } = await ask('GET', `/api/config/${device}`)
    expect(answer).toMatchObject({ desired: { verbosity: [{ by: 'ada' }] } })
  })

  test('this machine needs none where the configuration says so', async () => {
    const ask = await serve({ login: { users: {}, loopback: true } })
    expect((await ask('POST', `/api/verbosity?device=${device}`, verbosity)).status).toBe(200)
  })
})
