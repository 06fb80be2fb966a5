// Senders of other people's making: bytes over plain sockets, OTLP over HTTP and over gRPC with grpc-js.
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { Client, Metadata, compressionAlgorithms, credentials } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'

type Bytes = Uint8Array | string

export async function sendUdp(port: number, ...datagrams: Bytes[]): Promise<void> {
  const socket = createSocket('udp4')
  for (const datagram of datagrams) {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    socket.send(datagram, port, '127.0.0.1', (error) => (error ? reject(error) : resolve()))
    await promise
  }
  socket.close()
}

/** All on one connection, to a port or a Unix socket; closed in good order. */
export async function sendStream(to: number | string, ...parts: Bytes[]): Promise<void> {
  const socket = typeof to === 'number' ? connect({ host: '127.0.0.1', port: to }) : connect({ path: to })
  await once(socket, 'connect')
  for (const part of parts) socket.write(part)
  socket.end()
  socket.resume()
  await once(socket, 'close')
}

/** Runs a program of the system to its end. */
export async function runTool(command: string, ...line: string[]): Promise<void> {
  const child = spawn(command, line, { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`${command} ${line.join(' ')}: exit code ${code}: ${stderr}`)
}

export interface Answer {
  status: number
  body: Buffer
}

export async function post(
  port: number,
  path: string,
  body: Bytes,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : Uint8Array.from(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
  return { status: response.status, body: Buffer.from(await response.arrayBuffer()) }
}

const services = {
  logs: '/opentelemetry.proto.collector.logs.v1.LogsService/Export',
  metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
  traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
}
const same = (bytes: Buffer): Buffer => bytes

/** One call of grpc-js; the answer, or the error with its code. */
export async function callGrpc(
  port: number,
  signal: keyof typeof services,
  message: Uint8Array,
  compression: 'identity' | 'gzip' = 'identity',
): Promise<Buffer | ServiceError> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.default_compression_algorithm': compressionAlgorithms[compression],
  })
  const { promise, resolve } = Promise.withResolvers<Buffer | ServiceError>()
  const deadline = { deadline: Date.now() + 30_000 }
  client.makeUnaryRequest(
    services[signal],
    same,
    same,
    Buffer.from(message),
    new Metadata(),
    deadline,
    (error, answer) => resolve(error ?? answer ?? Buffer.alloc(0)),
  )
  try {
    return await promise
  } finally {
    client.close()
  }
}
