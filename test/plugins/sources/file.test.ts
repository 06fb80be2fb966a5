// The file source over real files, through everything that rotation does to them.
import {
  appendFile,
  copyFile,
  mkdtemp,
  rename,
  rm,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { openSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import type { Emit, Records } from '../../../plugins/contract/index.ts'
import { severityOf, timeOf } from '../../../plugins/protocols/lines/reading.ts'
import { isRotationOf } from '../../../plugins/protocols/tail/rotated.ts'
import file from '../../../plugins/sources/file.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectLogs } from '../../support/records.ts'

type Config = Partial<z.input<typeof file.config>>

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'dpulse-file-'))
  onTestFinished(() => rm(path, { recursive: true }))
  return path
}

/** A source that runs on a clock of its own; `saved` is the checkpoint of the run before. */
async function start(config: Config & { paths: string | string[] }, saved?: string) {
  const context = testContext({ clock: new FakeClock() })
  context.saved = saved
  const controller = new AbortController()
  const received: Records[] = []
  const emit: Emit = async (records) => void received.push(records)
  const settings = file.config.parse({ from: 'beginning', ...config })
  const running = file.create(settings, context).run(emit, controller.signal)
  await Promise.race([context.whenReady, running])
  const stop = async () => {
    controller.abort()
    await running
    return context.saved
  }
  onTestFinished(() => void stop())
  const bodies = () => collectLogs(received).map(({ body }) => body)
  /** Time passes until there are as many records. */
  const until = async (count: number) => {
    await vi.waitFor(
      async () => {
        await context.clock.advance(1000)
        expect(bodies().length).toBeGreaterThanOrEqual(count)
      },
      { timeout: 10_000, interval: 5 },
    )
    return bodies()
  }
  /** A look at the files is over once the source waits for the next one. */
  const rested = () =>
    vi.waitFor(() => expect(context.clock.waiting).toBeGreaterThan(0), { timeout: 10_000, interval: 1 })
  /** Looks again and again, each time to the end. */
  const pass = async (seconds: number) => {
    for (let left = seconds; left > 0; left--) {
      await rested()
      await context.clock.advance(1000)
      await rested()
    }
  }
  return { context, received, stop, bodies, until, pass, logs: () => collectLogs(received) }
}

const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}`)
const sorted = (lines: readonly unknown[]): string[] => lines.map(String).toSorted((a, b) => (a < b ? -1 : 1))
const text = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('')

describe('file', () => {
  conformsToSource(
    file,
    async () => {
      const path = join(await folder(), 'app.log')
      await writeFile(path, text(numbered(1, 2000)))
      return { paths: path, from: 'beginning' }
    },
    {
      provoke: async ({ config, context }) => {
        const [path = ''] = (config as z.output<typeof file.config>).paths
        await appendFile(path, 'ERROR more\nand more\n')
        await context.clock.advance(1000)
      },
    },
  )

  test('makes events of lines of the kernel where it is asked to, and of nobody else', async () => {
    const path = join(await folder(), 'console.log')
    const oops = 'EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2'
    const lines = [`Oct 12 08:00:00 leaf1 kernel: ${oops}`, `[  812.345678] ${oops}`, `leaf1 app: ${oops}`]
    await writeFile(path, text(lines))
    const asked = await start({ paths: path, kernel_events: true })
    await asked.until(3)
    const eventNames = (logs: typeof asked) => logs.logs().map(({ eventName }) => eventName)
    expect(eventNames(asked).toSorted()).toEqual([
      '',
      'dpu.kernel.filesystem_error',
      'dpu.kernel.filesystem_error',
    ])
    const silent = await start({ paths: path })
    await silent.until(3)
    expect(eventNames(silent)).toEqual(['', '', ''])
  })

  test('reads a log with stack traces as it did before', async () => {
    const fixture = join(import.meta.dirname, '../../fixtures/file/service.log')
    const one = await start({ paths: fixture, multiline: { start: String.raw`^\d{4}-` } })
    await one.until(17)
    // Its times name no zone, and the last record waited for more lines until the clock had moved.
    const said = golden(one.received)
      .replaceAll(fixture, '/var/log/service.log')
      .replaceAll(/"timeUnixNano": "\d+(\d{9})"/g, '"timeUnixNano": "local $1"')
      .replaceAll(/"observedTimeUnixNano": "\d+"/g, '"observedTimeUnixNano": "then"')
    await expect(said).toMatchFileSnapshot('../../golden/file/service.json')
  })

  test('begins at the end of files that are there at the first start, and at the beginning of later ones', async () => {
    const at = await folder()
    await writeFile(join(at, 'old.log'), text(numbered(1, 10)))
    const one = await start({ paths: join(at, '*.log'), from: 'end' })
    await writeFile(join(at, 'new.log'), text(['of the new']))
    await appendFile(join(at, 'old.log'), text(numbered(11, 11)))
    expect(sorted(await one.until(2))).toEqual(['line 11', 'of the new'])
  })

  test('keeps every line once when a file is renamed and written to for a while longer', async () => {
    const path = join(await folder(), 'app.log')
    await writeFile(path, text(numbered(1, 10)))
    const one = await start({ paths: path })
    await one.until(10)
    await appendFile(path, text(numbered(11, 12)))
    await rename(path, `${path}.1`)
    await appendFile(`${path}.1`, text(numbered(13, 13)))
    await writeFile(path, text(numbered(14, 15)))
    await appendFile(`${path}.1`, 'line 16 without an end')
    expect(sorted(await one.until(16))).toEqual(sorted([...numbered(1, 15), 'line 16 without an end']))
  })

  test('keeps every line once when a file is copied and truncated', async () => {
    const path = join(await folder(), 'app.log')
    await writeFile(path, text(numbered(1, 10)))
    const one = await start({ paths: path })
    await one.until(10)
    await appendFile(path, text(numbered(11, 12)))
    await copyFile(path, `${path}.1`)
    await truncate(path)
    await appendFile(path, text(numbered(13, 13)))
    expect(await one.until(13)).toEqual(numbered(1, 13))
  })

  test('begins anew where a file was written anew, even when it is longer than before', async () => {
    const path = join(await folder(), 'app.log')
    await writeFile(path, text(numbered(1, 3)))
    const one = await start({ paths: path })
    await one.until(3)
    await writeFile(path, text(['another file altogether', ...numbered(4, 9)]))
    expect(await one.until(10)).toEqual([...numbered(1, 3), 'another file altogether', ...numbered(4, 9)])
  })

  test('goes on after a restart where it was, without losing or repeating a line', async () => {
    const path = join(await folder(), 'app.log')
    await writeFile(path, text(numbered(1, 10)))
    const before = await start({ paths: path })
    await before.until(10)
    const saved = await before.stop()
    await appendFile(path, text(numbered(11, 12)))
    const after = await start({ paths: path }, saved)
    expect(await after.until(2)).toEqual(numbered(11, 12))
  })

  test.each([
    ['gzip', '.gz', gzipSync],
    ['zstd', '.zst', zstdCompressSync],
  ] as const)(
    'reads the rest of a file that was rotated twice and compressed by %s while away',
    async (...[, suffix, compress]) => {
      const path = join(await folder(), 'app.log')
      await writeFile(path, text(numbered(1, 10)))
      const before = await start({ paths: path })
      await before.until(10)
      const saved = await before.stop()
      await writeFile(`${path}.2${suffix}`, compress(text(numbered(1, 14))))
      await utimes(`${path}.2${suffix}`, new Date(), new Date(Date.now() - 60_000))
      await unlink(path)
      await writeFile(`${path}.1`, text(numbered(15, 20)))
      await writeFile(path, text(numbered(21, 22)))
      const after = await start({ paths: path }, saved)
      expect(await after.until(12)).toEqual(numbered(11, 22))
      await after.pass(30)
      expect(after.bodies()).toHaveLength(12)
      // And once more: nothing of it is read again.
      const again = await start({ paths: path }, await after.stop())
      await again.pass(30)
      expect(again.bodies()).toEqual([])
    },
  )

  test('says when what was not read is gone', async () => {
    const at = await folder()
    const path = join(at, 'app.log')
    await writeFile(path, text(numbered(1, 10)))
    const before = await start({ paths: join(at, '*.log') })
    await before.until(10)
    const saved = await before.stop()
    await unlink(path)
    const after = await start({ paths: join(at, '*.log') }, saved)
    await after.pass(90)
    expect(after.context.logged.map(({ message, fields }) => [message, fields.path])).toContainEqual([
      'a file is gone, and what was not read of it',
      path,
    ])
  })

  test.for(['create', 'copytruncate'])(
    'keeps every line once through logrotate with %s',
    async (how, { skip }) => {
      try {
        execFileSync('/usr/sbin/logrotate', ['--version'], { stdio: 'ignore' })
      } catch {
        skip('logrotate is not installed')
      }
      const at = await folder()
      const path = join(at, 'app.log')
      const conf = join(at, 'logrotate.conf')
      await writeFile(conf, `${path} {\n rotate 4\n compress\n ${how}\n su root root\n}\n`, { mode: 0o644 })
      const rotate = () => execFileSync('/usr/sbin/logrotate', ['-f', '-s', join(at, 'state'), conf])
      await writeFile(path, text(numbered(1, 10)))
      const one = await start({ paths: path })
      await one.until(10)
      await appendFile(path, text(numbered(11, 20)))
      rotate()
      await appendFile(path, text(numbered(21, 30)))
      expect(sorted(await one.until(30))).toEqual(sorted(numbered(1, 30)))
      const saved = await one.stop()
      await appendFile(path, text(numbered(31, 40)))
      rotate()
      await appendFile(path, text(numbered(41, 50)))
      const after = await start({ paths: path }, saved)
      expect(sorted(await after.until(20))).toEqual(sorted(numbered(31, 50)))
    },
  )

  test('joins the lines of a record, and does not wait for ever for more', async () => {
    const path = join(await folder(), 'app.log')
    const trace = ['Exception in thread "main" java.lang.Error', '\tat Main.run', '\tat Main.main']
    await writeFile(path, text(['first', ...trace]))
    const one = await start({ paths: path, multiline: { continuation: String.raw`^\s` } })
    expect(await one.until(2)).toEqual(['first', trace.join('\n')])
  })

  test('cuts a line that is too long, and says so', async () => {
    const path = join(await folder(), 'app.log')
    await writeFile(path, text([`${'ä'.repeat(200_000)} end`, 'next']))
    const one = await start({ paths: path, max_length: '1001B' })
    await one.until(2)
    const [long, next] = one.logs()
    expect(long?.body).toBe('ä'.repeat(500))
    expect(long?.attributes['dpulse.truncated']).toBe(true)
    expect(next?.body).toBe('next')
  })

  test('keeps what is no UTF-8, and says so', async () => {
    const path = join(await folder(), 'app.log')
    await writeFile(path, Buffer.from([0x61, 0xff, 0x62, 0x0a]))
    const one = await start({ paths: path })
    await one.until(1)
    expect(one.logs()[0]).toMatchObject({ body: 'a\ufffdb', attributes: { 'dpulse.malformed': true } })
  })

  test('does not read a file that this process writes', async () => {
    const at = await folder()
    const path = join(at, 'own.log')
    openSync(path, 'a') // closed with the process, as a log is
    await writeFile(join(at, 'other.log'), text(['of another']))
    const one = await start({ paths: join(at, '*.log') })
    expect(await one.until(1)).toEqual(['of another'])
    await appendFile(path, text(['of our own']))
    await one.pass(3)
    expect(one.bodies()).toEqual(['of another'])
    expect(one.context.logged[0]).toMatchObject({ message: 'a file that we write ourselves is not read' })
  })

  test('follows no more files than it may, and leaves out what was rotated and excluded', async () => {
    const at = await folder()
    for (const name of ['a.log', 'a.log.1', 'a.log.2.gz', 'b.log', 'c.log', 'x.log'])
      await writeFile(join(at, name), text([name]))
    const one = await start({ paths: join(at, '*.log*'), exclude: [join(at, 'x*')], max_files: 2 })
    await one.until(2)
    expect(sorted(one.bodies())).toEqual(['a.log', 'b.log'])
    expect(one.context.logged[0]).toMatchObject({ fields: { followed: 2, left: 1 } })
  })

  test('gives every line once however writes and reads interleave', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.record({ do: fc.constant('write' as const), parts: fc.array(fc.nat(40), { maxLength: 8 }) }),
            fc.constant({ do: 'rename' as const }),
            fc.constant({ do: 'read' as const }),
            fc.constant({ do: 'restart' as const }),
          ),
          { maxLength: 14 },
        ),
        async (steps) => {
          const at = await mkdtemp(join(tmpdir(), 'dpulse-file-'))
          const path = join(at, 'app.log')
          const config = { paths: path, interval: '1s', search: '1s', wait: '2s' }
          await writeFile(path, '')
          let one = await start(config)
          const got: unknown[] = []
          const written: string[] = []
          let rotations = 0
          for (const step of steps) {
            if (step.do === 'write') {
              for (const length of step.parts) {
                const line = `${written.length} ${'x'.repeat(length)}`
                written.push(line)
                await appendFile(path, `${line}\n`)
              }
            } else if (step.do === 'rename') {
              await rename(path, `${path}.${++rotations}`)
              await writeFile(path, '')
              await one.pass(1) // two rotations between looks are more than a follower can see
            } else if (step.do === 'read') await one.pass(1)
            else {
              const saved = await one.stop()
              got.push(...one.bodies())
              one = await start(config, saved)
            }
          }
          await one.pass(6)
          await one.stop()
          got.push(...one.bodies())
          expect(sorted(got)).toEqual(sorted(written))
          await rm(at, { recursive: true })
        },
      ),
      { numRuns: 60 },
    )
  })
})

describe('what rotation makes of app.log', () => {
  test.each([
    'app.log.1',
    'app.log.12.gz',
    'app.log-20261121',
    'app.log-20261121.gz',
    'app-20261121.log',
    'app.log.old',
  ])('is %s', (name) => expect(isRotationOf(name, 'app.log')).toBe(true))
  test.each(['app.log', 'app.log.audit', 'application.log', 'app2.log', 'other.log.1'])('is not %s', (name) =>
    expect(isRotationOf(name, 'app.log')).toBe(false),
  )
})

describe('what a line says of itself', () => {
  test.each([
    ['2026-11-21 16:25:00,123 ERROR [main] it failed', 17],
    ['time="2026-11-21T16:25:00Z" level=warning msg="error budget"', 13],
    ['{"level":"info","msg":"no errors"}', 9],
    ['[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6', 17],
    ['E1121 16:25:00.123456       1 file.go:12] text', 17],
    ['there were no errors, and no warning', undefined],
  ])('%s has severity %s', (line, severity) => expect(severityOf(line)?.number).toBe(severity))

  test.each([
    ['2026-11-21T16:25:00.5Z text', Date.UTC(2026, 10, 21, 16, 25, 0) / 1000, 500_000_000],
    ['[2026-11-21 16:25:00,123456+0130] text', Date.UTC(2026, 10, 21, 14, 55, 0) / 1000, 123_456_000],
    ['2026-11-21 16:25:00 text', new Date(2026, 10, 21, 16, 25, 0).getTime() / 1000, 0],
  ])('%s has its time', (line, seconds, nanos) => expect(timeOf(line)).toEqual({ seconds, nanos }))

  test.each(['no time', '2026-13-21T16:25:00Z', '16:25:00 text'])('%s has none', (line) =>
    expect(timeOf(line)).toBeUndefined(),
  )
})
