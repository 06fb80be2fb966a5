// The way to an OTLP receiver: through proxies as the environment says, over TLS with an authority of our own, over
// IPv6, with endpoints that are names.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { RetryableError } from '../../../../plugins/contract/errors.ts'
import { proxyFor } from '../../../../plugins/protocols/grpc-connect.ts'
import type { Delivery, DeliveryOptions } from '../../../../plugins/protocols/otlp/delivery.ts'
import { createGrpcDelivery } from '../../../../plugins/protocols/otlp/grpc-delivery.ts'
import { createHttpDelivery } from '../../../../plugins/protocols/otlp/http-delivery.ts'
import { bytes, closeAll, open, start } from './senders.ts'

afterEach(closeAll)

/** A forward proxy with a login: CONNECT, and plain requests by their whole URL. */
async function proxy(login = ''): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = []
  const wanted = login === '' ? undefined : `Basic ${Buffer.from(login).toString('base64')}`
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    if (request.headers['proxy-authorization'] !== wanted) {
      response.writeHead(407).end()
      return
    }
    const onward = httpRequest(request.url ?? '', { method: request.method ?? '', headers: request.headers })
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.on('connect', (request, client: Socket) => {
    asked.push(`${request.method} ${request.url}`)
    client.on('error', () => undefined)
    if (request.headers['proxy-authorization'] !== wanted) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
      return
    }
    const { hostname, port } = new URL(`http://${request.url}`)
    const onward = connect(Number(port), hostname.replace(/^\[|\]$/g, ''), () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(client).pipe(onward)
    })
    sockets.add(onward)
    onward.on('error', () => client.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://${login === '' ? '' : `${login}@`}127.0.0.1:${port}`, asked }
}

const creators = { http: createHttpDelivery, grpc: createGrpcDelivery }
function delivery(
  protocol: 'http' | 'grpc',
  endpoint: string,
  options: Partial<DeliveryOptions> = {},
): Delivery {
  const made = creators[protocol]({
    endpoints: [new URL(endpoint)],
    compression: 'gzip',
    headers: () => ({}),
    timeoutMs: 5000,
    tls: { rejectUnauthorized: true },
    environment: {},
    ...options,
  })
  open.push(() => made.close())
  return made
}
const never = new AbortController().signal
const send = (by: Delivery): Promise<unknown> => by.send('logs', bytes, never)

describe.each(['http', 'grpc'] as const)('a proxy in front of OTLP/%s', (protocol) => {
  test('is used where HTTP_PROXY names it, with its login', async () => {
    const { url, asked } = await proxy('user:pass')
    const { httpPort, grpcPort, received } = await start()
    const target = `127.0.0.1:${protocol === 'http' ? httpPort : grpcPort}`
    await send(delivery(protocol, `http://${target}`, { environment: { HTTP_PROXY: url } }))
    expect(asked).toEqual([protocol === 'http' ? `POST http://${target}/v1/logs` : `CONNECT ${target}`])
    expect(received.length).toBe(1)
  })

  test('is passed by where NO_PROXY names the host', async () => {
    const { url, asked } = await proxy()
    const { httpPort, grpcPort, received } = await start()
    const endpoint = `http://127.0.0.1:${protocol === 'http' ? httpPort : grpcPort}`
    await send(
      delivery(protocol, endpoint, { environment: { HTTP_PROXY: url, NO_PROXY: 'other,127.0.0.1' } }),
    )
    expect([asked, received.length]).toEqual([[], 1])
  })

  test('that is gone leaves the batch to be tried again', async () => {
    const { httpPort, grpcPort } = await start()
    const endpoint = `http://127.0.0.1:${protocol === 'http' ? httpPort : grpcPort}`
    const environment = { HTTP_PROXY: 'http://127.0.0.1:9' }
    await expect(send(delivery(protocol, endpoint, { environment }))).rejects.toBeInstanceOf(RetryableError)
  })
})

describe.each(['http', 'grpc'] as const)('TLS of OTLP/%s', (protocol) => {
  let directory = ''
  const file = (name: string): string => join(directory, name)
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'otlp-tls-'))
    const made = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
    ]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    execFileSync('openssl', [...made, ...subject, '-keyout', file('key.pem'), '-out', file('cert.pem')], {
      stdio: 'ignore',
    })
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  const secured = async (ca?: string) => {
    const tls = {
      cert: file('cert.pem'),
      key: file('key.pem'),
      verify: true,
      ...(ca === undefined ? {} : { ca }),
    }
    const receiver = await start({ tls })
    const address = receiver.server.addresses.find((one) =>
      one.startsWith(protocol === 'http' ? 'https' : 'grpcs'),
    )
    return { ...receiver, endpoint: address?.replace(/^\w+:/, 'https:') ?? '' }
  }

  test('works with the authority that is configured, and through a proxy', async () => {
    const { endpoint, received } = await secured()
    const tls = { ca: readFileSync(file('cert.pem')), rejectUnauthorized: true }
    await send(delivery(protocol, endpoint, { tls }))
    const { url, asked } = await proxy()
    await send(delivery(protocol, endpoint, { tls, environment: { HTTPS_PROXY: url } }))
    expect(asked).toEqual([`CONNECT ${new URL(endpoint).host}`])
    expect(received.length).toBe(2)
  })

  test('fails for a certificate that nobody vouches for, or for another name', async () => {
    const { endpoint, received } = await secured()
    await expect(send(delivery(protocol, endpoint))).rejects.toBeInstanceOf(RetryableError)
    const tls = { ca: readFileSync(file('cert.pem')), rejectUnauthorized: true, servername: 'other' }
    await expect(send(delivery(protocol, endpoint, { tls }))).rejects.toBeInstanceOf(RetryableError)
    expect(received).toEqual([])
  })

  test('asks for the certificate of the sender where an authority is configured', async () => {
    const { endpoint, received } = await secured(file('cert.pem'))
    const ca = readFileSync(file('cert.pem'))
    const without = delivery(protocol, endpoint, { tls: { ca, rejectUnauthorized: true } })
    await expect(send(without)).rejects.toBeInstanceOf(RetryableError)
    const key = readFileSync(file('key.pem'))
    await send(delivery(protocol, endpoint, { tls: { ca, cert: ca, key, rejectUnauthorized: true } }))
    expect(received.length).toBe(1)
  })
})

describe('proxyFor', () => {
  const target = { host: 'aggregator.site.example', port: 4317, secure: false }
  const of = (environment: NodeJS.ProcessEnv, to: object = {}): string | undefined =>
    proxyFor({ ...target, ...to }, environment)?.host

  test('takes the variable of the scheme, in upper and in lower case', () => {
    expect(of({ HTTP_PROXY: 'http://a:1', https_proxy: 'http://b:2' })).toBe('a:1')
    expect(of({ HTTP_PROXY: 'http://a:1', https_proxy: 'b:2' }, { secure: true })).toBe('b:2')
    expect(of({ http_proxy: 'http://a:1', HTTP_PROXY: '' })).toBeUndefined()
    expect(of({})).toBeUndefined()
  })

  test.each([
    ['*', {}],
    ['aggregator.site.example', {}],
    ['.site.example', {}],
    ['*.site.example', {}],
    ['site.example', {}],
    ['x, SITE.example:4317', {}],
    ['10.0.0.0/8', { host: '10.1.2.3' }],
    ['fd00::/8', { host: 'fd00::1' }],
    ['::1', { host: '::1' }],
    ['[::1]:4317', { host: '::1' }],
  ])('NO_PROXY=%s excludes the target', (NO_PROXY, to) => {
    expect(of({ HTTP_PROXY: 'http://a:1', NO_PROXY }, to)).toBeUndefined()
  })

  test.each([
    ['example.site', {}],
    ['ite.example', {}],
    ['site.example:4318', {}],
    ['10.0.0.0/8', { host: '11.1.2.3' }],
    ['10.0.0.0/99', { host: '10.1.2.3' }],
    ['', {}],
  ])('NO_PROXY=%s does not', (NO_PROXY, to) => {
    expect(of({ HTTP_PROXY: 'http://a:1', NO_PROXY }, to)).toBe('a:1')
  })
})

test('endpoints may be names', async () => {
  const { grpcPort, httpPort, received } = await start()
  await send(delivery('grpc', `http://localhost:${grpcPort}`))
  await send(delivery('http', `http://localhost:${httpPort}`))
  expect(received.length).toBe(2)
})

test('endpoints may be IPv6 literals', async ({ skip }) => {
  if (networkInterfaces().lo?.every(({ family }) => family !== 'IPv6') !== false) {
    skip('this machine has no loopback of IPv6')
  }
  const { server, received } = await start({
    grpc: [{ host: '::1', port: 0 }],
    http: [{ host: '::1', port: 0 }],
  })
  const [grpc = '', http = ''] = server.addresses
  await send(delivery('grpc', grpc.replace('grpc:', 'http:')))
  await send(delivery('http', http))
  expect(received.length).toBe(2)
})
