// The real OpenTelemetry Collector as a peer: it takes our batches with their header field, and writes out what we
// sent; what it sends over gRPC and HTTP our source takes in.
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { sealBatch } from '../../plugins/contract/batch.ts'
import type { Batch, Records } from '../../plugins/contract/batch.ts'
import { countRecords } from '../../plugins/contract/cursor.ts'
import type { Exporter } from '../../plugins/contract/define.ts'
import { signals } from '../../plugins/contract/signal.ts'
import type { Signal } from '../../plugins/contract/signal.ts'
import otlpExporter from '../../plugins/exporters/otlp.ts'
import { jsonToRequest } from '../../plugins/protocols/otlp/json.ts'
import otlpSource from '../../plugins/sources/otlp.ts'
import {
  arbitraryMessage,
  decodeOfficial,
  encodeOfficial,
  officialRequest,
} from '../plugins/protocols/otlp/official.ts'
import type { Plain } from '../plugins/protocols/otlp/official.ts'
import { testContext } from '../support/context.ts'
import { freePorts } from '../support/ports.ts'

const services = resolve(import.meta.dirname, '../../../shared/services/services')
const found = existsSync(services)
  ? spawnSync(services, ['path', 'otelcol'], { encoding: 'utf8' })
  : undefined
const binary = found?.status === 0 ? found.stdout.trim() : ''
const why = 'no OpenTelemetry Collector: ../shared/services can install it'

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

const header = {
  collector: 'dpu-1',
  device: 'dpu-1',
  session: '01K00000000000000000000001',
  class: 'log',
  seq: 1,
  from: 1n,
  to: 2n,
  produced: 9,
  dropped: { overflow: 1 },
} as const

const idBytes: Readonly<Record<string, number>> = { traceId: 16, spanId: 8, parentSpanId: 8 }

/** The collector refuses ids of other lengths. */
function tamed(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) return value.map((item) => tamed(item))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, tamed(item, name)]))
  }
  const size = idBytes[key]
  if (size === undefined || value === '') return value
  return Buffer.concat([Buffer.from(String(value), 'base64'), Buffer.alloc(size, 7)], size).toString('base64')
}

/** What a request says. The collector writes messages out that were absent, such as an empty status: they are left out. */
function meaningOf(signal: Signal, request: Uint8Array): unknown {
  const settle = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(settle)
    if (typeof value !== 'object' || value === null) return value
    const kept = Object.entries(value).map(([key, item]) => [key, settle(item)] as const)
    return Object.fromEntries(
      kept.filter(
        ([, item]) => typeof item !== 'object' || Array.isArray(item) || Object.keys(item ?? {}).length > 0,
      ),
    )
  }
  return settle(decodeOfficial(signal, request))
}

/** Random requests, the same in each run. */
function requests(signal: Signal, count: number): Buffer[] {
  return fc
    .sample(arbitraryMessage(officialRequest(signal)), { numRuns: count * 4, seed: 7 })
    .map((value) => encodeOfficial(signal, tamed(value) as Plain))
    .filter((bytes) => countRecords(signal, bytes) > 0)
    .slice(0, count)
}

const batchOf = (signal: Signal, request: Uint8Array): Batch =>
  sealBatch({ ...header, count: countRecords(signal, request) }, signal, [request])

describe.skipIf(binary === '')(`the OpenTelemetry Collector${binary === '' ? ` (${why})` : ''}`, () => {
  let directory = ''
  let collector: ChildProcess | undefined
  let source: { received: Records[]; stop: () => Promise<void> }
  let ports: number[] = []
  let said = ''

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'otelcol-'))
    const started = await startSource()
    source = started
    // It does not tell which ports it took, so it is told.
    ports = await freePorts(4)
    const file = join(directory, 'config.yaml')
    writeFileSync(file, configuration(directory, ports, started))
    collector = spawn(binary, ['--config', file], { stdio: ['ignore', 'ignore', 'pipe'] })
    collector.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-20_000)))
    await vi.waitFor(
      async () => {
        if (collector?.exitCode !== null) throw new Error(`the collector ended: ${said}`)
        for (const port of ports) if (!(await answers(port))) throw new Error(`port ${port}: ${said}`)
      },
      { timeout: 90_000, interval: 100 },
    )
  })

  afterAll(async () => {
    if (collector?.exitCode === null) {
      const ended = once(collector, 'exit')
      collector.kill('SIGTERM')
      await ended
    }
    await source?.stop()
    rmSync(directory, { recursive: true })
  })

  const linesOf = (signal: Signal): string[] => {
    const path = join(directory, `${signal}.jsonl`)
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
  }

  test.each(
    signals.flatMap((signal) => [
      [signal, 'http', 'gzip'] as const,
      [signal, 'http', 'zstd'] as const,
      [signal, 'grpc', 'gzip'] as const,
      [signal, 'grpc', 'none'] as const,
    ]),
  )(
    'writes the %s out that we sent over %s with %s, header and all',
    async (signal, protocol, compression) => {
      const before = linesOf(signal).length
      const sent = requests(signal, 20)
      await using exporter = exporterTo(
        `http://127.0.0.1:${ports[protocol === 'grpc' ? 0 : 1]}`,
        protocol,
        compression,
      )
      for (const request of sent) {
        const receipt = await exporter.export(batchOf(signal, request), AbortSignal.timeout(30_000))
        expect(receipt.rejected).toBe(0)
      }
      const lines = await vi.waitFor(
        () => {
          const now = linesOf(signal).slice(before)
          if (now.length < sent.length) throw new Error(`${now.length} of ${sent.length}`)
          return now
        },
        { timeout: 60_000, interval: 50 },
      )
      const written = lines.map((line) => meaningOf(signal, jsonToRequest(signal, line)))
      expect(written).toEqual(sent.map((request) => meaningOf(signal, request)))
    },
  )

  test.each(
    signals.flatMap((signal) => [[signal, 'otlp_grpc', 2] as const, [signal, 'otlp_http', 3] as const]),
  )('hands %s on to our source by its exporter %s', async (signal, _exporter, port) => {
    const before = source.received.length
    const sent = requests(signal, 20)
    await using exporter = exporterTo(`http://127.0.0.1:${ports[port]}`, 'http', 'gzip')
    // The collector answers when our source has answered, so that all is there afterwards.
    for (const request of sent) await exporter.export(batchOf(signal, request), AbortSignal.timeout(30_000))
    const received = source.received.slice(before)
    expect(received.reduce((sum, { count }) => sum + count, 0)).toBe(
      sent.reduce((sum, request) => sum + countRecords(signal, request), 0),
    )
    expect(
      texts(
        signal,
        received.map(({ bytes }) => bytes),
      ),
    ).toEqual(texts(signal, sent))
  })
})

/** Every record as text, in an order of its own: dividing by class changes the order among classes. */
function texts(signal: Signal, requests: readonly Uint8Array[]): string[] {
  const items = { logs: 'logRecords', metrics: 'dataPoints', traces: 'spans' }[signal]
  const found: string[] = []
  const look = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(look)
    else if (typeof value === 'object' && value !== null) {
      for (const [key, inner] of Object.entries(value)) {
        if (key === items) for (const record of inner as unknown[]) found.push(JSON.stringify(record))
        else look(inner)
      }
    }
  }
  for (const request of requests) look(meaningOf(signal, request))
  return found.toSorted((one, other) => (one < other ? -1 : 1))
}

function exporterTo(endpoint: string, protocol: string, compression: string): Exporter & AsyncDisposable {
  const config = otlpExporter.config.parse({ endpoint, protocol, compression })
  const exporter = otlpExporter.create(config, testContext())
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  return {
    export: (batch, signal) => exporter.export(batch, signal),
    [Symbol.asyncDispose]: async () => {
      controller.abort()
      await running
    },
  }
}

async function startSource() {
  const context = testContext()
  const received: Records[] = []
  const config = otlpSource.config.parse({ grpc: '127.0.0.1:0', http: '127.0.0.1:0' })
  const controller = new AbortController()
  const running = otlpSource
    .create(config, context)
    .run(async (records) => void received.push(records), controller.signal)
  const [grpc = '', http = ''] = (await context.whenReady).split(', ')
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  return { received, stop, grpc: grpc.replace('grpc://', ''), http }
}

function configuration(
  directory: string,
  [grpc, http, toGrpc, toHttp]: number[],
  source: { grpc: string; http: string },
): string {
  const pipelines = signals.flatMap((signal) => [
    [`${signal}/file`, 'otlp/file', `file/${signal}`],
    [`${signal}/grpc`, 'otlp/grpc', 'otlp_grpc'],
    [`${signal}/http`, 'otlp/http', 'otlp_http'],
  ])
  const at = (port: number | undefined) => ({ endpoint: `127.0.0.1:${port}` })
  const direct = { sending_queue: { enabled: false }, retry_on_failure: { enabled: false } }
  // YAML takes JSON.
  return JSON.stringify({
    receivers: {
      'otlp/file': { protocols: { grpc: at(grpc), http: at(http) } },
      'otlp/grpc': { protocols: { http: at(toGrpc) } },
      'otlp/http': { protocols: { http: at(toHttp) } },
    },
    exporters: {
      ...Object.fromEntries(
        signals.map((signal) => [
          `file/${signal}`,
          { path: join(directory, `${signal}.jsonl`), flush_interval: '50ms' },
        ]),
      ),
      otlp_grpc: { endpoint: source.grpc, tls: { insecure: true }, compression: 'zstd', ...direct },
      otlp_http: { endpoint: source.http, compression: 'gzip', ...direct },
    },
    service: {
      telemetry: { metrics: { level: 'none' }, logs: { level: 'warn' } },
      pipelines: Object.fromEntries(
        pipelines.map(([name, receiver, exporter]) => [
          name,
          { receivers: [receiver], exporters: [exporter] },
        ]),
      ),
    },
  })
}
