// Quotas of senders in a running collector: one that floods loses what is beyond, or is held back, and others do not.
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { ledgerOf } from '../../collector/api.ts'
import { groupName } from '../../plugins/protocols/native/process.ts'
import syslog from '../../plugins/sources/syslog.ts'
import { startWithQuotas } from './with-quotas.ts'

const start = (senders: string, source: string) => startWithQuotas(syslog, senders, source)

const line = (service: string, number: number) =>
  `<134>1 2026-11-21T10:00:00Z dpu-1 ${service} - - - line ${number} of ${service}`

async function sendDatagrams(port: number, lines: readonly string[], isRead: (count: number) => boolean) {
  const socket = createSocket('udp4')
  for (const [index, text] of lines.entries()) {
    socket.send(text, port, '127.0.0.1')
    if (index % 100 === 99) await vi.waitFor(() => expect(isRead(index + 1)).toBe(true), { timeout: 30_000 })
  }
  await new Promise<void>((resolve) => void socket.close(resolve))
}

test('datagrams beyond the quota of an address are dropped, counted as budget and under its name', async () => {
  const { runtime, port } = await start('{ records: 10, burst: 10s }', "udp: '127.0.0.1:0'")
  const lines = Array.from({ length: 2000 }, (_, index) => line('noisy', index))
  await sendDatagrams(port, lines, (count) => ledgerOf(runtime).produced >= count)
  const { produced, dropped, balanced } = ledgerOf(runtime)
  expect({ produced, balanced }).toEqual({ produced: 2000, balanced: true })
  expect(Object.keys(dropped)).toEqual(['budget'])
  const [counts] = runtime.budget.quotas.counts()
  expect(counts).toMatchObject({ sender: '127.0.0.1', dropped: dropped.budget })
  expect(counts?.records).toBeGreaterThanOrEqual(100)
  expect(2000 - (dropped.budget ?? 0)).toBe(counts?.records)
})

test('a service that floods takes nothing from another on the same address', async () => {
  const { runtime, port } = await start('{ records: 10, burst: 10s, by: service }', "udp: '127.0.0.1:0'")
  const lines = Array.from({ length: 2000 }, (_, index) => line(index % 40 === 0 ? 'quiet' : 'noisy', index))
  await sendDatagrams(port, lines, (count) => ledgerOf(runtime).produced >= count)
  const counts = new Map(runtime.budget.quotas.counts().map((one) => [one.sender, one]))
  expect(counts.get('quiet')).toMatchObject({ records: 50, dropped: 0 })
  expect(counts.get('noisy')?.dropped).toBe(ledgerOf(runtime).dropped.budget)
  expect(counts.get('noisy')?.dropped).toBeGreaterThan(1500)
})

test('a connection beyond its quota is held back and loses nothing', async () => {
  const { runtime, port } = await start('{ records: 2000, burst: 100ms }', "tcp: '127.0.0.1:0'")
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const began = performance.now()
  const text = Array.from({ length: 4000 }, (_, index) => `${line('noisy', index)}\n`).join('')
  socket.end(text)
  await vi.waitFor(() => expect(ledgerOf(runtime).produced).toBe(4000), { timeout: 30_000 })
  expect(performance.now() - began).toBeGreaterThan(500)
  expect(ledgerOf(runtime).dropped).toEqual({})
  expect(runtime.budget.quotas.counts()[0]).toMatchObject({ sender: '127.0.0.1', records: 4000, dropped: 0 })
  expect(runtime.budget.quotas.counts()[0]?.slowedSeconds).toBeGreaterThan(0.3)
})

test('the sender on a Unix socket is known by its process', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-senders-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const { runtime } = await start('{ records: 1000000 }', `unix: ${join(folder, 's')}`)
  const socket = connect(join(folder, 's'))
  await once(socket, 'connect')
  socket.end(`${line('app', 1)}\n`)
  await vi.waitFor(() => expect(ledgerOf(runtime).produced).toBe(1), { timeout: 30_000 })
  expect(runtime.budget.quotas.counts()[0]?.sender).toMatch(/^uid \d+$|\.service$|^container /)
})

test('datagrams on a Unix socket are charged to the process that sent each', async ({ skip }) => {
  if (process.getuid?.() !== 0) skip('another user is started as sender, which takes root')
  const named = groupName(readFileSync('/proc/self/cgroup', 'latin1'))
  if (named !== undefined) skip(`senders that this test starts are all known as ${named}`)
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-senders-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  chmodSync(folder, 0o755)
  const path = join(folder, 's')
  const { runtime, counts } = await start('{ records: 1, burst: 100s }', `unix_datagram: ${path}`)
  const log = async (uid: number, count: number): Promise<void> => {
    const logger = spawn('logger', ['-u', path, '-t', 'app'], { uid, stdio: ['pipe', 'ignore', 'ignore'] })
    logger.stdin.end('a line\n'.repeat(count))
    await once(logger, 'exit')
  }
  await Promise.all([log(65_534, 1000), log(0, 50)])
  await vi.waitFor(() => expect(ledgerOf(runtime).produced).toBe(1050), { timeout: 30_000 })
  const noisy = counts().get('uid 65534')
  expect(counts().get('uid 0')).toMatchObject({ records: 50, dropped: 0 })
  expect(noisy?.dropped).toBeGreaterThan(800)
  expect(ledgerOf(runtime)).toMatchObject({ dropped: { budget: noisy?.dropped }, balanced: true })
})
