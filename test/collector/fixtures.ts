// Small real plugins for tests of the runtime: a source that takes lines over TCP and one that emits what a test gives
// it, an exporter that writes to TCP and one that keeps what it gets in memory, a processor that filters by number.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { ulid } from 'ulid'
import * as z from 'zod'
import {
  LogsEncoder,
  RetryableError,
  defineExporter,
  defineProcessor,
  defineSource,
} from '../../plugins/contract/index.ts'
import type { Batch, Emit, Records } from '../../plugins/contract/index.ts'

/** Who the collectors of these tests are. */
export const identity = {
  collector: 'dpu-1',
  device: 'dpu-1',
  instance: ulid(),
  version: '0',
  since: '',
  hostname: 'host',
  arch: 'arm64',
  labels: {},
  identity: 'test',
  portOffset: 0,
}

/** Waits until the signal aborts. */
const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

export const lines = defineSource({
  name: 'lines',
  summary: 'Lines over TCP, one record each; a line is answered with nothing, the connection waits instead.',
  config: z.strictObject({
    port: z.number().default(0).describe('Port.'),
    tag: z.string().default('').describe('Any.'),
  }),
  create: ({ port }, context) => ({
    async run(emit, signal) {
      const sockets = new Set<Socket>()
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        sockets.add(socket)
        socket.on('error', () => undefined)
        void serve(socket, emit, context.device, context.resource())
      })
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      const bound = server.address()
      context.ready(typeof bound === 'object' && bound ? `${bound.port}` : '')
      await aborted(signal)
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }),
})

async function serve(socket: Socket, emit: Emit, device: string, resource: Uint8Array): Promise<void> {
  const encoder = new LogsEncoder({ name: 'lines' })
  encoder.begin(resource)
  let isOpen = true
  const flush = async () => {
    if (encoder.count === 0) return
    const records = encoder.finish(device, 'log')
    encoder.begin(resource)
    await emit(records)
  }
  let under: Promise<unknown>[] = []
  try {
    for await (const line of createInterface({ input: socket })) {
      encoder.record(1_790_000_000, 0, 1_790_000_000, 0, 9)
      encoder.body(line)
      encoder.end()
      if (!encoder.full) continue
      under.push(flush())
      if (under.length >= 16) {
        await Promise.all(under)
        under = []
      }
    }
    await Promise.all([...under, flush()])
  } catch {
    isOpen = false
  }
  if (isOpen) socket.end('done\n')
}

/** A source that a test drives: `emits` has its emit while it runs. */
export const driven = (emits: Map<string, Emit>) =>
  defineSource({
    name: 'driven',
    summary: 'Emits what a test gives it.',
    config: z.strictObject({ tag: z.string().default('').describe('Any text.') }),
    create: ({ tag }, context) => ({
      async run(emit, signal) {
        emits.set(context.id, emit)
        context.ready(tag)
        await aborted(signal)
        emits.delete(context.id)
      },
    }),
  })

export const memory = (taken: Map<string, Batch[]>) =>
  defineExporter({
    name: 'memory',
    summary: 'Keeps batches.',
    config: z.strictObject({ tag: z.string().default('').describe('Any text.') }),
    create: (_, context) => ({
      async export(batch) {
        const list = taken.get(context.id) ?? []
        list.push(batch)
        taken.set(context.id, list)
        return { rejected: 0 }
      },
    }),
  })

/** Each batch with its length before it; the peer answers each with one byte. */
export const wire = defineExporter({
  name: 'wire',
  summary: 'Batches over one TCP connection.',
  config: z.strictObject({ port: z.number().describe('Port.') }),
  create: ({ port }, context) => {
    let socket: Socket | undefined
    let waiting: PromiseWithResolvers<void>[] = []
    return {
      async run(signal) {
        const connection = connect(port, '127.0.0.1')
        await once(connection, 'connect')
        connection.on('data', (bytes: Buffer) => {
          for (const answer of waiting.splice(0, bytes.length)) answer.resolve()
        })
        connection.on('close', () => {
          for (const answer of waiting.splice(0))
            answer.reject(new RetryableError('PEER_UNREACHABLE', 'closed'))
          socket = undefined
        })
        socket = connection
        context.ready(`${connection.localPort}`)
        await aborted(signal)
        connection.destroy()
      },
      async export(batch) {
        if (!socket) throw new RetryableError('PEER_UNREACHABLE', 'not connected')
        const answer = Promise.withResolvers<void>()
        waiting.push(answer)
        const size = Buffer.alloc(4)
        size.writeUInt32BE(batch.bytes.length)
        socket.cork()
        socket.write(size)
        socket.write(batch.bytes)
        socket.uncork()
        await answer.promise
        return { rejected: 0 }
      },
    }
  },
})

export const odd = defineProcessor({
  name: 'odd',
  summary: 'Keeps odd numbers, and marks them.',
  config: z.strictObject({ mark: z.boolean().default(false).describe('Whether to set an attribute.') }),
  create: ({ mark }) => ({
    decide(record) {
      if (Number(record.attribute('number')) % 2 === 0) return 'filter'
      return mark ? { set: { odd: true, number: -1 } } : 'keep'
    },
  }),
})

/** Makes one record of all that it saw, when asked. */
export const summed = (made: (count: number) => Records) =>
  defineProcessor({
    name: 'summed',
    summary: 'Joins records.',
    config: z.strictObject({}),
    create: () => {
      let count = 0
      return {
        decide() {
          count++
          return 'aggregated' as const
        },
        flush() {
          if (count === 0) return undefined
          const records = made(count)
          const taken = count
          count = 0
          return { records, taken, rows: [] }
        },
      }
    },
  })
