// The aggregator's HTTP server: listens on loopback (IPv4 and IPv6) with limits on connections, headers and time,
// and puts the guard in front of the routes and the console's files.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { getRequestListener } from '@hono/node-server'
import { OpenAPIHono } from '@hono/zod-openapi'
import { PermanentError } from '../../plugins/contract/errors.ts'
import { portTaken } from '../../plugins/contract/ports.ts'
import { loadConsole } from './console.ts'
import { guard } from './guard.ts'
import { createRoutes } from './routes.ts'
import type { ApiParts } from './routes.ts'

export interface ApiOptions {
  /** `['127.0.0.1', '::1']` unless the configuration says otherwise. */
  hosts: readonly string[]
  /** 0 takes a free one. */
  port: number
  /** Names, besides `localhost` and addresses, by which it may be asked. */
  allowedHosts: readonly string[]
  /** Ends all connections, live tails included. */
  signal: AbortSignal
}

export interface Api {
  port: number
  /** For people: `http://127.0.0.1:8600`. */
  url: string
  /** Resolves when all is closed after `signal`. */
  closed: Promise<void>
}

/** Resolves once it listens; an address family that this machine lacks is left out, a port that is taken is an error. */
export async function startApi(parts: ApiParts, options: ApiOptions): Promise<Api> {
  const app = new OpenAPIHono()
  app.use(guard(options))
  app.route('/', createRoutes(parts, options.signal))
  const page = loadConsole(fileURLToPath(new URL('../../dashboards/console', import.meta.url)))
  app.notFound((context) => {
    const answer =
      context.req.method === 'GET' || context.req.method === 'HEAD' ? page.answer(context) : undefined
    if (answer !== undefined) return answer
    const message = `there is nothing at ${context.req.method} ${context.req.path}; /openapi.json lists what is`
    return context.json({ error: { code: 'NOT_FOUND', message } }, 404)
  })
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false })

  const servers: Server[] = []
  let { port } = options
  try {
    for (const host of options.hosts) {
      const server = await listen(listener, host, port)
      if (server === undefined) continue
      servers.push(server)
      port = (server.address() as AddressInfo).port // a TCP server that listens has one
    }
  } catch (error) {
    for (const server of servers) server.close()
    throw error
  }
  const [first] = servers
  if (first === undefined) throw new Error(`no address to listen on among ${options.hosts.join(', ')}`)
  return {
    port,
    url: `http://${urlHost(options.hosts[0] ?? '')}:${port}`,
    closed: closing(servers, options.signal),
  }
}

type Listener = ReturnType<typeof getRequestListener>

async function listen(listener: Listener, host: string, port: number): Promise<Server | undefined> {
  const server = createServer(
    {
      maxHeaderSize: 16_384,
      headersTimeout: 10_000,
      requestTimeout: 30_000,
      keepAliveTimeout: 10_000,
      connectionsCheckingInterval: 2000,
    },
    (request, response) => void listener(request, response),
  )
  server.maxConnections = 512
  server.listen({ host, port, ipv6Only: host.includes(':') })
  try {
    await once(server, 'listening')
    return server
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT') return undefined
    if (code !== 'EADDRINUSE') throw cause
    throw new PermanentError(
      'ADDRESS_IN_USE',
      portTaken('the console and HTTP API', port, 'tcp', '--port-offset'),
      {
        cause,
      },
    )
  }
}

// Live tails end by the signal; what else is still under way gets a moment.
async function closing(servers: readonly Server[], signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
  await Promise.all(
    servers.map(async (server) => {
      const closed = once(server, 'close')
      server.close()
      // A connection whose live tail has just ended becomes idle only now.
      const sweep = setInterval(() => server.closeIdleConnections(), 50)
      const patience = setTimeout(() => server.closeAllConnections(), 2000)
      await closed
      clearInterval(sweep)
      clearTimeout(patience)
    }),
  )
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
