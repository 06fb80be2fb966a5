// The journald source over journals that systemd-journal-remote makes of what a real journald exported.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import type { Records } from '../../../plugins/contract/index.ts'
import { parseEntry } from '../../../plugins/protocols/journal/entry.ts'
import { isOwn } from '../../../plugins/protocols/journal/own.ts'
import journald, { detectJournal } from '../../../plugins/sources/journald.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { collectLogs } from '../../support/records.ts'

const exported = readFileSync(join(import.meta.dirname, '../../fixtures/journald/export.bin'))
const remote = ['/usr/lib/systemd/systemd-journal-remote', '/lib/systemd/systemd-journal-remote'].find(
  existsSync,
)
const problem =
  remote === undefined
    ? 'systemd-journal-remote is not installed'
    : ['/usr/bin/journalctl', '/bin/journalctl'].some(existsSync)
      ? undefined
      : 'journalctl is not installed'

/** Adds entries in the export format to the journal in a folder. */
function add(folder: string, entries: Buffer | string): void {
  const output = join(folder, 'test.journal')
  execFileSync(remote ?? '', ['-o', output, '--split-mode=none', '-'], {
    input: entries,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
}
function journal(entries: Buffer | string = exported): string {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-journald-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  add(folder, entries)
  return folder
}
let entries = 0
const entry = (fields: Record<string, string>): string => {
  const micro = 1_795_300_000_000_000 + ++entries
  const all = {
    __REALTIME_TIMESTAMP: `${micro}`,
    __MONOTONIC_TIMESTAMP: `${entries}`,
    _BOOT_ID: 'a'.repeat(32),
    ...fields,
  }
  return `${Object.entries(all)
    .map(([key, value]) => `${key}=${value}`)
    .join('\n')}\n\n`
}

async function start(config: z.input<typeof journald.config>, saved?: string) {
  const context = testContext()
  context.saved = saved
  const controller = new AbortController()
  const received: Records[] = []
  const running = journald
    .create(journald.config.parse({ from: 'beginning', ...config }), context)
    .run(async (one) => void received.push(one), controller.signal)
  await Promise.race([context.whenReady, running])
  const stop = async () => {
    controller.abort()
    await running.catch(() => undefined)
    return context.saved
  }
  onTestFinished(() => void stop())
  const logs = () => collectLogs(received)
  const until = (count: number) =>
    vi.waitFor(
      () => {
        expect(logs().length).toBeGreaterThanOrEqual(count)
        return logs()
      },
      { timeout: 10_000, interval: 20 },
    )
  return { context, received, stop, logs, until }
}

describe.skipIf(problem !== undefined)(`journald${problem === undefined ? '' : ` (${problem})`}`, () => {
  conformsToSource(journald, () => ({ directory: journal(), from: 'beginning' }), {
    provoke: async ({ config, context }) => {
      add((config as { directory: string }).directory, entry({ MESSAGE: 'more', PRIORITY: '6' }))
      await context.clock.advance(6000)
    },
  })

  test('reads a journal as it did before', async () => {
    const one = await start({ directory: journal() })
    await one.until(10)
    // How many entries a batch holds depends on how fast the helper prints them.
    const said = JSON.stringify(
      one.logs().toSorted((a, b) => (a.time < b.time ? -1 : 1)),
      (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value),
      2,
    )
    await expect(`${said}\n`).toMatchFileSnapshot('../../golden/journald/export.json')
  })

  test('gives each entry once over a restart, and what came while it was away', async () => {
    const directory = journal()
    const before = await start({ directory })
    const first = await before.until(10)
    await vi.waitFor(() => expect(before.context.saved).toContain('cursor'))
    const saved = await before.stop()
    add(directory, entry({ MESSAGE: 'while away', PRIORITY: '4' }))
    const after = await start({ directory }, saved)
    await after.until(1)
    add(directory, entry({ MESSAGE: 'while here', PRIORITY: '4' }))
    expect((await after.until(2)).map(({ body }) => body)).toEqual(['while away', 'while here'])
    expect(first).toHaveLength(10)
  })

  test('makes events of lines of the kernel, and leaves them out where kmsg has them', async () => {
    const line = entry({
      MESSAGE: 'mlx5_core 0000:03:00.0 p0: Link down',
      PRIORITY: '6',
      _TRANSPORT: 'kernel',
    })
    const other = entry({
      MESSAGE: 'mlx5_core 0000:03:00.0 p0: Link down',
      PRIORITY: '6',
      _TRANSPORT: 'syslog',
    })
    const directory = journal(line + other)
    const one = await start({ directory })
    expect(
      (await one.until(2)).map(({ eventName }) => eventName).toSorted((a, b) => (a < b ? -1 : 1)),
    ).toEqual(['', 'dpu.kernel.link'])
    const without = await start({ directory, kernel: false })
    expect((await without.until(1)).map(({ eventName }) => eventName)).toEqual([''])
  })

  test('keeps more fields where it is told to, and cuts what is too long', async () => {
    const text = entry({ MESSAGE: 'x'.repeat(1000), PRIORITY: '3', TENANT: 'blue' })
    const one = await start({ directory: journal(text), fields: ['TENANT'], max_length: '100B' })
    const [log] = await one.until(1)
    expect(log).toMatchObject({
      body: 'x'.repeat(100),
      severityNumber: 17,
      attributes: { 'dpu.journal.tenant': 'blue', 'dpulse.truncated': true },
    })
  })

  test('is detected where the journal can be read, and says what is missing elsewhere', async () => {
    const directory = journal()
    expect(await detectJournal('journalctl', directory)).toMatchObject({ config: { directory } })
    expect(await detectJournal('/there/is/none')).toEqual({
      leftOut: 'the program /there/is/none is not installed',
    })
    expect(await detectJournal('journalctl', '/there/is/none')).toHaveProperty('leftOut')
  })
})

describe('entries of the journal', () => {
  test('hold text, bytes and repeated fields', () => {
    const line = '{"__CURSOR":"c","__REALTIME_TIMESTAMP":"5","MESSAGE":[99,255],"A":["x","y"],"PRIORITY":"3"}'
    const parsed = parseEntry(line)
    expect(parsed?.message).toEqual(Buffer.from([99, 255]))
    expect(parsed?.field('A')).toBe('x')
    expect(parsed).toMatchObject({ micro: 5n, level: 3 })
  })

  test.each(['', '{', '{}', '"text"', '{"__CURSOR":"c"}'])('%s is none', (line) =>
    expect(parseEntry(line)).toBeUndefined(),
  )

  test('are our own when this process, its dpulse parent or its siblings wrote them', async () => {
    const own = isOwn(process.ppid)
    expect(own(`${process.pid}`, undefined)).toBe(true)
    expect(own(`${process.ppid}`, undefined)).toBe(true)
    expect(own('1', 'ssh.service')).toBe(false)
    expect(own(undefined, undefined)).toBe(false)
    const child = spawn('sleep', ['60'])
    onTestFinished(() => void child.kill())
    await once(child, 'spawn')
    expect(own(`${child.pid}`, undefined)).toBe(true)
  })

  test('are not our own when the shell that started us, or what else it started, wrote them', () => {
    expect(isOwn(undefined)(`${process.ppid}`, undefined)).toBe(false)
  })
})
