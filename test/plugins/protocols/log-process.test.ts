// The durable log in processes of its own, on the real file system: killed with SIGKILL, and two at one directory.
import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LogLockedError, openLog } from '../../../plugins/protocols/log/index.ts'
import { random } from './log-disk.ts'
import { readAll } from './log-model.ts'

const WRITER = join(import.meta.dirname, 'log-writer.ts')
const ROUNDS = 8

let directory = ''
let child: ChildProcessByStdio<null, Readable, null> | undefined

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'log-'))
})
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await rm(directory, { recursive: true })
})

function start(): ChildProcessByStdio<null, Readable, null> {
  child = spawn(process.execPath, [WRITER, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  return child
}

/** Kills the writer when it has printed so many lines; what it acknowledged by then, and what it still printed. */
async function writeAndKill(lines: number): Promise<Map<string, number>> {
  const writer = start()
  const acknowledged = new Map<string, number>()
  let count = 0
  // A line that was cut by the kill has no newline, and must not be taken for a smaller number.
  let rest = ''
  for await (const chunk of writer.stdout) {
    rest += String(chunk)
    const whole = rest.split('\n')
    rest = whole.pop() ?? ''
    for (const line of whole) {
      const [what = '', name = '', figure = ''] = line.split(' ')
      if (what === 'open') expect(name).toBe('0')
      else acknowledged.set(`${what} ${name}`, Number(figure))
      if (++count === lines) writer.kill('SIGKILL')
    }
  }
  if (writer.exitCode === null && writer.signalCode === null) await once(writer, 'exit')
  expect(writer.signalCode).toBe('SIGKILL')
  return acknowledged
}

describe('a process that is killed while it writes', () => {
  test('leaves all that it acknowledged, and opens again without damage', async () => {
    const next = random(7)
    for (let round = 0; round < ROUNDS; round++) {
      const acknowledged = await writeAndKill(1 + Math.floor(next() * 1500))
      await using log = await openLog(directory)
      expect(log.damage).toEqual([])
      for (const name of log.topics()) {
        const topic = log.topic(name)
        const entries = await readAll(log, name)
        expect(entries.map(({ offset }) => offset)).toEqual(
          Array.from({ length: topic.next - topic.first }, (_, index) => topic.first + index),
        )
        const read = entries.map(({ value }) => Buffer.from(value).toString())
        expect(read.every((value, index) => value.startsWith(`${name} ${topic.first + index} `))).toBe(true)
        expect(topic.next).toBeGreaterThanOrEqual(acknowledged.get(`next ${name}`) ?? 0)
        expect(topic.first).toBeGreaterThanOrEqual(acknowledged.get(`first ${name}`) ?? 0)
        expect(topic.position('c') ?? 0).toBeGreaterThanOrEqual(acknowledged.get(`position ${name}`) ?? 0)
        const table = Number(Buffer.from(log.table('t').get(name) ?? []).toString() || '0')
        expect(table).toBeGreaterThanOrEqual(acknowledged.get(`next ${name}`) ?? 0)
        expect(table).toBeLessThanOrEqual(topic.next) // the table never runs ahead of what it speaks of
      }
      expect(log.damage).toEqual([])
    }
  }, 120_000)
})

describe('the lock of a directory', () => {
  test('names the process that holds it, and falls to the next when that was killed', async () => {
    const holder = start()
    const [opened] = await once(createInterface(holder.stdout), 'line')
    expect(opened).toBe('open 0')
    const refused = openLog(directory)
    await expect(refused).rejects.toThrow(LogLockedError)
    await expect(refused).rejects.toThrow(`is in use by the process ${holder.pid}`)
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    await using log = await openLog(directory)
    expect(log.damage).toEqual([])
  })

  test('is not held by another process that got the pid of the dead one', async () => {
    const boot = 'whatever'
    await writeFile(join(directory, 'lock.4'), JSON.stringify({ pid: process.pid, start: '1', boot }))
    await (await openLog(directory)).close()
    await writeFile(join(directory, 'lock.9'), '{"pid": 1, "sta')
    await (await openLog(directory)).close()
  })

  test('is given to one of many who find it orphaned at the same time', async () => {
    const holder = start()
    await once(createInterface(holder.stdout), 'line')
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    const tries = await Promise.allSettled(Array.from({ length: 12 }, () => openLog(directory)))
    const won = tries.filter((result) => result.status === 'fulfilled')
    expect(won).toHaveLength(1)
    for (const result of tries) {
      if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(LogLockedError)
    }
    await won[0]?.value.close()
  })
})
