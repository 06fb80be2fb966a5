// The parent process alone: what it says, that it restarts what dies, and that nothing of it stays behind.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { assert, double, nat, property } from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { restartDelay } from '../../commands/supervise.ts'
import { ports } from '../../plugins/contract/options.ts'
import { root } from '../support/command-line.ts'
import { freeOffset, freePort } from '../support/ports.ts'

interface Entry {
  name: string
  pid: number
  event: 'started' | 'stopped' | 'peer'
  line?: string[]
  peer?: { program: string; ready: boolean }
}

interface Running {
  offset: number
  parent: ChildProcess
  stdout: () => string
  stderr: () => string
  journal: () => Entry[]
  ended: Promise<number | null>
}

const patient = { timeout: 45_000, interval: 20 }

async function startUp(line: readonly string[], environment: NodeJS.ProcessEnv): Promise<Running> {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-up-'))
  const file = join(data, 'journal')
  const offset = await freeOffset()
  const parent = spawn(
    process.execPath,
    [
      join(root, 'test/support/up-with-child-program.ts'),
      'up',
      '--data',
      data,
      '--port-offset',
      String(offset),
      ...line,
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', CHILD_JOURNAL: file, ...environment },
    },
  )
  let stdout = ''
  let stderr = ''
  parent.stdout.on('data', (text: Buffer) => (stdout += text.toString()))
  parent.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
  const ended = once(parent, 'close').then(([code]) => code as number | null)
  const journal = () =>
    existsSync(file)
      ? readFileSync(file, 'utf8')
          .split('\n')
          .filter(Boolean)
          .map((text) => JSON.parse(text) as Entry)
      : []
  onTestFinished(async () => {
    parent.kill('SIGTERM')
    await ended
    await vi.waitFor(() => expect(journal().filter(({ pid }) => isAlive(pid))).toEqual([]), patient)
    rmSync(data, { recursive: true })
  })
  return { offset, parent, stdout: () => stdout, stderr: () => stderr, journal, ended }
}

/** What has ended, and is only listed until somebody asks for its exit code, is gone. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

function startsOf(running: Running, name: string): number[] {
  return running
    .journal()
    .filter((entry) => entry.event === 'started' && entry.name === name)
    .map(({ pid }) => pid)
}

async function linesOf(running: Running): Promise<{ name: string; text: string }[]> {
  const started = () => running.journal().filter(({ event }) => event === 'started')
  await vi.waitFor(() => expect(started()).toHaveLength(2), patient)
  return started().map(({ name, line }) => ({ name, text: line?.join(' ') ?? '' }))
}

describe('dpulse up', () => {
  test('tells what runs, what was left out and why, where the data is, and how to send to it', async () => {
    const running = await startUp(['--max-disk', '2GiB'], {})
    await vi.waitFor(() => expect(running.stdout()).toContain('Ctrl-C stops it.'), patient)
    const text = running.stdout()
    expect(text).toContain('dpulse 9.9.9 is up')
    expect(text).toMatch(/data +\S*dpulse-up-\S+, at most 2 GiB/)
    expect(text).toContain(`http://127.0.0.1:${ports.api + running.offset}`)
    expect(text).toMatch(/hwmon +this machine shows no sensors/)
    expect(text).toContain('logger -n 127.0.0.1 -P 15514 --tcp --octet-count --rfc5424')
    expect(text).toContain('logger -n 127.0.0.1 -P 15515 --udp')
    expect(text).toContain('curl http://127.0.0.1:14318/v1/logs')
    expect(text).toContain(`logs hello --since 15m --port-offset ${running.offset}`)
  })

  test('hands its options on to both', async () => {
    const running = await startUp(['--max-disk', '1.5GiB', '--store', 'influxdb://h:8086/o/b'], {})
    for (const line of await linesOf(running)) {
      expect(line.text).toContain('--max-disk 1610612736B')
      expect(line.text).toContain('--store influxdb://h:8086/o/b')
      expect(line.text).not.toContain('--config')
    }
  })

  test.for([
    ['pipelines: {}', 'collector'],
    ['mqtt: { root: lab }', 'aggregator'],
    ['pipelines: [', 'collector'],
  ] as const)('gives the configuration %j to the %s alone', async ([text, owner]) => {
    const folder = mkdtempSync(join(tmpdir(), 'dpulse-config-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'x.yaml')
    writeFileSync(file, text)
    const lines = await linesOf(await startUp(['--config', file], {}))
    expect(lines.filter((line) => line.text.includes(`--config ${file}`)).map(({ name }) => name)).toEqual([
      owner,
    ])
  })

  test('a configuration that cannot be read is wrong usage, and nothing is started', async () => {
    const running = await startUp(['--config', '/absent.yaml'], {})
    expect(await running.ended).toBe(2)
    expect(running.stderr()).toContain('--config /absent.yaml cannot be read')
    expect(running.journal()).toEqual([])
  })

  test('starts again what was killed, and tells the aggregator how the collector is', async () => {
    const running = await startUp([], {})
    await vi.waitFor(() => expect(running.stdout()).toContain('is up'), patient)
    for (let round = 1; round <= 3; round += 1) {
      process.kill(startsOf(running, 'collector').at(-1) ?? 0, 'SIGKILL')
      await vi.waitFor(() => expect(startsOf(running, 'collector')).toHaveLength(round + 1), patient)
      await vi.waitFor(
        () => expect(running.stderr().match(/collector is back/g)).toHaveLength(round),
        patient,
      )
    }
    expect(running.stderr()).toContain('collector died (SIGKILL); starting it again in 0.2 s')
    const states = () =>
      running
        .journal()
        .filter(({ event, name }) => event === 'peer' && name === 'aggregator')
        .map(({ peer }) => peer?.ready)
    await vi.waitFor(() => expect(states().at(-1)).toBe(true), patient)
    expect(states()).toContain(false)
    expect(startsOf(running, 'aggregator')).toHaveLength(1)
  })

  test('stops both on SIGTERM, the collector first, and ends with 0', async () => {
    const running = await startUp([], {})
    await vi.waitFor(() => expect(running.stdout()).toContain('is up'), patient)
    running.parent.kill('SIGTERM')
    expect(await running.ended).toBe(0)
    const stopped = running.journal().filter(({ event }) => event === 'stopped')
    expect(stopped.map(({ name }) => name)).toEqual(['collector', 'aggregator'])
  })

  test('its children go when it is killed', async () => {
    const running = await startUp([], {})
    await vi.waitFor(() => expect(running.stdout()).toContain('is up'), patient)
    running.parent.kill('SIGKILL')
    await vi.waitFor(() => expect(running.journal().filter(({ pid }) => isAlive(pid))).toEqual([]), patient)
    expect(running.journal().filter(({ event }) => event === 'stopped')).toHaveLength(2)
  })

  test('a program that refuses its configuration ends it all with 2, after its own message', async () => {
    const running = await startUp([], { CHILD_REFUSES: 'collector' })
    expect(await running.ended).toBe(2)
    expect(running.stderr()).toMatch(/configuration is wrong: sources\.x[^]*the collector did not start/)
    expect(startsOf(running, 'collector')).toEqual([])
  })

  test('a port that is taken is named with its holder and the option that moves it, and nothing is started', async () => {
    const port = await freePort()
    const server = createServer().listen(port, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const running = await startUp(['--port-offset', String(port - ports.syslog)], {})
    expect(await running.ended).toBe(1)
    expect(running.stderr()).toContain(`port ${port}/tcp for syslog is taken by process ${process.pid}`)
    expect(running.stderr()).toContain('--port-offset')
    expect(running.journal()).toEqual([])
  })
})

describe('the delay before a restart', () => {
  test('lies between 0.2 s and 10 s, and grows until there', () => {
    assert(
      property(nat(200), double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
        const delayMs = restartDelay(failures, random)
        expect(delayMs).toBeGreaterThanOrEqual(200)
        expect(delayMs).toBeLessThanOrEqual(10_000)
        expect(restartDelay(failures + 1, random)).toBeGreaterThanOrEqual(delayMs)
      }),
    )
  })
})
