// Inputs of sources that listen: what `bench sources` sends to them, from captures and documents of their protocols.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { encode } from '@msgpack/msgpack'
import { Aedes } from 'aedes'
import { connectAsync } from 'mqtt'
import { fixture, linesOf } from './captured.ts'
import type { Input } from './inputs.ts'
import { otlpOf, perRequest } from './traffic.ts'

const portOf = (address: string): number => Number(/:(\d+)(?!.*:\d)/.exec(address)?.[1])

async function post(url: string, body: Buffer | string, type: string): Promise<void> {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': type },
    body: Buffer.from(body),
  })
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}: ${await answer.text()}`)
}

function otlp(): Input {
  const base = BigInt(Date.now()) * 1_000_000n
  let sent = 0
  return {
    config: { http: '127.0.0.1:0', grpc: false },
    feed: async (count, address) => {
      for (let request = 0; request < count / perRequest; request++) {
        await post(
          `http://127.0.0.1:${portOf(address)}/v1/logs`,
          otlpOf('logs', base, sent++),
          'application/x-protobuf',
        )
      }
    },
  }
}

function influx(): Input {
  const text = fixture('influx/telegraf.lp')
  const lines = text.split('\n').filter((line) => line !== '').length
  return {
    config: { listen: '127.0.0.1:0' },
    // As a Telegraf does by default: at most 1000 lines a request.
    feed: async (count, address) => {
      const body = text.repeat(Math.floor(1000 / lines))
      const requests = Math.ceil(count / (Math.floor(1000 / lines) * lines))
      for (let left = requests; left > 0; left--) {
        await post(`http://127.0.0.1:${portOf(address)}/api/v2/write?precision=ns`, body, 'text/plain')
      }
    },
  }
}

function syslog(): Input {
  const text = fixture('syslog/devices.txt')
  return {
    config: { tcp: '127.0.0.1:0' },
    feed: async (count, address) => {
      const socket = connect(portOf(address), '127.0.0.1')
      socket.end(`${linesOf(text, count).join('\n')}\n`)
      await once(socket, 'close')
    },
  }
}

function statsd(): Input {
  const text = fixture('statsd/documented.txt')
  return {
    config: { udp: '127.0.0.1:0' },
    feed: async (count, address) => {
      const socket = createSocket('udp4')
      for (let left = count / 10; left > 0; left--) {
        // In order, so that no buffer of the kernel overflows.
        await new Promise((resolve) =>
          socket.send(linesOf(text, 10).join('\n'), portOf(address), '127.0.0.1', resolve),
        )
      }
      socket.close()
    },
  }
}

function fluentForward(): Input {
  return {
    config: { listen: '127.0.0.1:0' },
    // As Fluent Bit sends: many records a message, which it wants acknowledged.
    feed: async (count, address) => {
      const socket = connect(portOf(address), '127.0.0.1')
      for (let sent = 0; sent < count; sent += 100) {
        const records = Array.from({ length: 100 }, (_, index) => [
          1_795_260_000,
          {
            log: `link ${sent + index} of port ${index % 2} changed`,
            stream: 'stdout',
            pod: `flowd-${index % 7}`,
          },
        ])
        socket.write(encode(['kube.flowd', records, { chunk: `c${sent}` }]))
        await once(socket, 'data')
      }
      socket.destroy()
    },
  }
}

async function mqtt(open: AsyncDisposableStack): Promise<Input> {
  const broker = await Aedes.createBroker()
  const server = createServer((socket) => void broker.handle(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`
  const publisher = await connectAsync(url)
  open.defer(async () => {
    await publisher.endAsync(true)
    await new Promise<void>((resolve) => {
      broker.close(() => resolve())
    })
    server.close()
  })
  return {
    config: { urls: [url], topics: ['bench/#'] },
    feed: async (count) => {
      for (let sent = 0; sent < count; sent++) {
        await publisher.publishAsync(`bench/fan${sent % 4}`, `{"rpm":${4200 + (sent % 100)},"duty":0.4}`, {
          qos: 1,
        })
      }
    },
  }
}

/** By the name of the source. */
export const senders: Readonly<
  Record<string, (folder: string, open: AsyncDisposableStack) => Promise<Input> | Input>
> = {
  fluent_forward: fluentForward,
  influx,
  mqtt: (_, open) => mqtt(open),
  otlp,
  statsd,
  syslog,
}
