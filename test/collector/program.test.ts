// The collector as a process, beside a real aggregator: what a change of its configuration, a second start and a stop do.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { freeOffset } from '../support/ports.ts'

const root = new URL('../..', import.meta.url).pathname
const running: ChildProcess[] = []
let directory = ''
let offset = 0

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'dpulse-program-'))
  offset = await freeOffset()
  await startProgram('aggregator', [])
  await answers(8600, '/api/health')
}, 150_000)

afterEach(async () => {
  // The first is the aggregator; a collector that a failed test left would hinder the next one.
  await Promise.all(running.splice(1).map((child) => stop(child)))
})

afterAll(async () => {
  await Promise.all(running.map((child) => stop(child)))
  await rm(directory, { recursive: true, force: true })
})

async function startProgram(name: string, more: string[]): Promise<ChildProcess & { errors: string[] }> {
  const args = [join(root, 'dpulse.ts'), name, '--data', directory, '--port-offset', `${offset}`, ...more]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  running.push(child)
  const errors: string[] = []
  child.stderr.setEncoding('utf8').on('data', (text: string) => errors.push(text))
  return Object.assign(child, { errors })
}

async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const ended = once(child, 'exit') as Promise<[number | null]>
  child.kill('SIGTERM')
  return (await ended)[0]
}

async function answers(port: number, path: string): Promise<unknown> {
  return vi.waitFor(
    async () => {
      const response = await fetch(`http://127.0.0.1:${port + offset}${path}`)
      expect(response.status).toBe(200)
      return (await response.json()) as unknown
    },
    { timeout: 60_000, interval: 50 },
  )
}

interface Ledger {
  produced: number
  stored: number
  unknown: number
  inFlight: number
  balanced: boolean
  streams: { class: string; session: string; produced: number; stored: number }[]
}

const yaml = (interval: number) => `
sources:
  syslog: { type: syslog }
  system: { type: system, interval: ${interval}s }
exporters: { fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:${1883 + offset}'] } }
pipelines: { p: { sources: [syslog, system], exporters: [fleet] } }
`

describe('the collector as a process', () => {
  test('changes a source under a flow of 1,000,000 records without closing a connection or losing one', async () => {
    const file = join(directory, 'collector.yaml')
    await writeFile(file, yaml(10))
    const collector = await startProgram('collector', ['--config', file])
    await answers(8601, '/api/health')
    const client = connect(5514 + offset, '127.0.0.1')
    await once(client, 'connect')
    let isClosed = false
    client.on('close', () => (isClosed = true))
    const total = 1_000_000
    const changed = () => collector.errors.join('').split('configuration is in force').length - 1
    for (let from = 0; from < total; from += 1000) {
      if (from % 100_000 === 0) await writeFile(file, yaml(11 + from / 100_000))
      const lines = Array.from(
        { length: 1000 },
        (_, at) => `<14>1 2026-11-20T10:00:00Z host app - - - line ${from + at}\n`,
      )
      if (!client.write(lines.join(''))) await once(client, 'drain')
    }
    await vi.waitFor(() => expect(changed()).toBeGreaterThan(0), { timeout: 60_000 })
    await vi.waitFor(
      async () => {
        const found = (await answers(8600, '/api/ledger')) as Ledger
        const logs = found.streams.filter((stream) => stream.class === 'log')
        // One stream: the exporter, and so its session, is the one that was started.
        expect(logs).toMatchObject([{ produced: total, stored: total }])
      },
      { timeout: 180_000, interval: 250 },
    )
    expect(isClosed).toBe(false)
    expect(collector.errors.join('')).not.toContain('connection')
    client.destroy()
    expect(await stop(collector)).toBe(0)
    const after = (await answers(8600, '/api/ledger')) as Ledger
    expect(after).toMatchObject({ balanced: true, unknown: 0 })
  }, 400_000)

  test('keeps a configuration that cannot be used out, and says why', async () => {
    const file = join(directory, 'bad.yaml')
    await writeFile(file, yaml(10))
    const collector = await startProgram('collector', ['--config', file])
    await answers(8601, '/api/health')
    await writeFile(file, yaml(10).replace('type: mqtt', 'type: mqqt'))
    await vi.waitFor(() => expect(collector.errors.join('')).toContain('did you mean mqtt?'), {
      timeout: 60_000,
    })
    await answers(8601, '/api/health')
    expect(await stop(collector)).toBe(0)
  }, 150_000)

  test('refuses a directory in which another collector works, and names that one', async () => {
    const first = await startProgram('collector', [])
    await answers(8601, '/api/health')
    const second = await startProgram('collector', [])
    const [code] = (await once(second, 'close')) as [number]
    expect(code).not.toBe(0)
    expect(second.errors.join('')).toContain(`another collector (process ${first.pid})`)
    expect(await stop(first)).toBe(0)
  }, 150_000)
})
