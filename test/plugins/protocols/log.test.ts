// The durable log on the real file system: what its calls promise while nothing crashes.
import * as fc from 'fast-check'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encode, HEADER_BYTES, parseHeader } from '../../../plugins/protocols/log/entry.ts'
import {
  LogBusyError,
  LogClosedError,
  LogFullError,
  LogLockedError,
  LogWriteError,
  openLog,
} from '../../../plugins/protocols/log/index.ts'
import type { Log, LogOptions } from '../../../plugins/protocols/log/index.ts'
import { SimulatedDisk } from './log-disk.ts'
import { readAll } from './log-model.ts'

const ALL = { entries: 1000, bytes: 1e9 }
let directory = ''
let log: Log

const open = async (options?: LogOptions): Promise<Log> => {
  await log?.close()
  log = await openLog(directory, options)
  return log
}
const texts = async (name: string): Promise<string[]> =>
  (await readAll(log, name)).map(({ offset, value }) => `${offset} ${Buffer.from(value).toString()}`)
const append = (name: string, ...values: string[]): Promise<number> =>
  log.topic(name).appendAll(values.map((value) => ({ key: 'k', value: Buffer.from(value) })))

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'log-'))
  log = await openLog(directory)
})
afterEach(async () => {
  await log.close()
  await rm(directory, { recursive: true })
})

describe('a topic', () => {
  test('gives back keys, values and times, in the order of their offsets', async () => {
    await open({ now: () => 1_900_000_000_123_456_789n })
    const entries = [
      { key: 'dpu-1', value: Buffer.from('first') },
      { key: '', value: Buffer.alloc(0) },
      { key: 'schlüssel', value: Buffer.alloc(30_000, 'x') },
    ]
    expect(await log.topic('a').appendAll(entries)).toBe(0)
    expect(await log.topic('a').append('last', Buffer.from('4'))).toBe(3)
    const read = await log.topic('a').read(0, ALL)
    expect(read.map(({ key, value }) => ({ key, value: Buffer.from(value) }))).toEqual([
      ...entries,
      { key: 'last', value: Buffer.from('4') },
    ])
    expect(read.map(({ offset }) => offset)).toEqual([0, 1, 2, 3])
    expect(read.every(({ appendedUnixNano }) => appendedUnixNano === 1_900_000_000_123_456_789n)).toBe(true)
  })

  test('reads within the limits, but always one entry', async () => {
    await append('a', ...Array.from({ length: 50 }, (_, index) => `${index}`.padStart(100, '-')))
    expect(await log.topic('a').read(10, { entries: 3, bytes: 1e6 })).toHaveLength(3)
    expect(await log.topic('a').read(10, { entries: 99, bytes: 550 })).toHaveLength(5)
    expect((await log.topic('a').read(49, { entries: 99, bytes: 1 })).map(({ offset }) => offset)).toEqual([
      49,
    ])
    expect(await log.topic('a').read(50, ALL)).toEqual([])
    await expect(log.topic('a').read(-1, ALL)).rejects.toThrow(RangeError)
  })

  test('reads the same over any segments and from any offset', async () => {
    await open({ segmentBytes: 3000 })
    const values = Array.from({ length: 200 }, (_, index) => `${index} `.padEnd((index * 37) % 900, '.'))
    for (let index = 0; index < 200; index += 8) await append('a', ...values.slice(index, index + 8))
    expect((await readdir(directory)).filter((file) => file.startsWith('topic@')).length).toBeGreaterThan(20)
    await open()
    for (const from of [0, 7, 8, 63, 64, 150, 199]) {
      const read = await log.topic('a').read(from, ALL)
      expect(read.map(({ value }) => Buffer.from(value).toString())).toEqual(values.slice(from))
    }
    expect(log.damage).toEqual([])
  })

  test('keeps its count, and what it forgot stays forgotten, over a restart', async () => {
    await open({ segmentBytes: 1000 })
    for (let index = 0; index < 20; index++) await append('a', `${index}`.padEnd(300))
    const before = log.bytes
    const freed = await log.topic('a').truncate(13)
    expect(freed).toBeGreaterThan(3000)
    expect(log.bytes).toBeLessThan(before - freed + 200)
    await open()
    expect(log.topic('a').first).toBe(13)
    expect((await log.topic('a').read(0, ALL)).map(({ offset }) => offset)).toEqual([
      13, 14, 15, 16, 17, 18, 19,
    ])
    await Promise.all([log.topic('a').truncate(17), log.topic('a').truncate(15)]) // the later asks for less
    await open()
    expect(log.topic('a').first).toBe(17)
    await log.topic('a').truncate(99)
    await open({ segmentBytes: 1000 })
    expect([log.topic('a').first, log.topic('a').next]).toEqual([20, 20])
    expect(await append('a', 'next')).toBe(20)
    expect(log.damage).toEqual([])
  })

  test('gives back the room of its last segment when all of it is forgotten', async () => {
    await append('a', 'x'.repeat(2_000_000))
    expect(await log.topic('a').truncate(1)).toBeGreaterThan(2_000_000)
    expect(log.topic('a').bytes).toBe(0)
    await open()
    expect(await append('a', 'y')).toBe(1)
  })

  test('keeps positions of consumers, and refuses one behind its end', async () => {
    await append('a', 'x', 'y')
    await log.topic('a').setPosition('writer', 1)
    await log.topic('a').setPosition('other', 2)
    await expect(log.topic('a').setPosition('writer', 3)).rejects.toThrow('the topic a ends at 2')
    await open()
    expect(log.topic('a').position('writer')).toBe(1)
    expect(log.topic('a').position('other')).toBe(2)
    expect(log.topic('b').position('writer')).toBeUndefined()
  })

  test('wakes those who wait for its next entry, and lets go of those who no longer do', async () => {
    const topic = log.topic('a')
    const abort = new AbortController()
    const given = topic.wait(0, abort.signal)
    const later = topic.wait(5, new AbortController().signal)
    abort.abort(new Error('enough'))
    await expect(given).rejects.toThrow('enough')
    const woken = topic.wait(0, AbortSignal.timeout(10_000))
    await append('a', 'x')
    await woken
    expect(await topic.read(0, ALL)).toHaveLength(1)
    const [ended] = await Promise.allSettled([later, log.close()])
    expect(ended).toMatchObject({ status: 'rejected', reason: expect.any(LogClosedError) })
  })

  test('is gone with its files and positions when it is removed, and begins anew', async () => {
    await open({ segmentBytes: 100 })
    await append('a/b', 'x'.repeat(90))
    await append('a/b', 'y'.repeat(90))
    await append('a', 'stays')
    await log.topic('a/b').setPosition('me', 2)
    const old = log.topic('a/b')
    await log.remove('a/b')
    await expect(old.append('k', Buffer.from('z'))).rejects.toThrow('was removed')
    await open()
    expect(log.topics()).toEqual(['a'])
    expect(log.topic('a/b').position('me')).toBeUndefined()
    expect(await append('a/b', 'anew')).toBe(0)
    expect(await texts('a')).toEqual(['0 stays'])
    expect(log.damage).toEqual([])
  })

  test('has a name that no other has on disk, and refuses what is none', async () => {
    for (const name of ['a/b', 'a.b', 'a_b', 'a-b', '..', 'x'.repeat(200)]) await append(name, name)
    await open()
    for (const name of log.topics()) expect(await texts(name)).toEqual([`0 ${name}`])
    expect(log.topics()).toHaveLength(6)
    for (const name of ['', 'A', 'a b', 'a+b', '$state', 'x'.repeat(201)]) {
      expect(() => log.topic(name)).toThrow(RangeError)
    }
  })
})

describe('a table', () => {
  test('holds the newest value of each key, over restarts and rewritings', async () => {
    await open({ rewriteBytes: 10_000 })
    const table = log.table('retained')
    const expected = new Map<string, string>()
    for (let index = 0; index < 2000; index++) {
      const key = `k${index % 30}`
      const value = index % 7 === 0 ? undefined : `${index}`.padEnd(50)
      if (value === undefined) expected.delete(key)
      else expected.set(key, value)
      await table.set(key, value === undefined ? undefined : Buffer.from(value))
    }
    const content = (): Map<string, string> =>
      new Map(
        [...log.table('retained').entries()].map(([key, value]) => [key, Buffer.from(value).toString()]),
      )
    expect(content()).toEqual(expected)
    await open()
    expect(content()).toEqual(expected)
    expect(log.table('retained').size).toBe(expected.size)
    const files = (await readdir(directory)).filter((file) => file.startsWith('table@retained@'))
    expect(files).toHaveLength(1)
    expect((await stat(join(directory, files[0] ?? ''))).size).toBeLessThan(40_000)
  })

  test('is not changed by who changes a value afterwards', async () => {
    const value = Buffer.from('kept')
    await log.table('t').set('k', value)
    value.fill('x')
    expect(Buffer.from(log.table('t').get('k') ?? []).toString()).toBe('kept')
  })

  test('refuses what would exceed its limit, and takes removals', async () => {
    await open({ maxTableBytes: 1000 })
    await log.table('t').set('a', Buffer.alloc(600))
    await expect(log.table('t').set('b', Buffer.alloc(600))).rejects.toThrow(LogFullError)
    await log.table('t').set('a', undefined)
    await log.table('t').set('b', Buffer.alloc(600))
    expect([...log.table('t').keys()]).toEqual(['b'])
  })
})

describe('a commit', () => {
  test('gives the offsets in the order asked for, and sets tables', async () => {
    await append('b', 'x')
    const entry = (topic: string) => ({ topic, key: 'k', value: Buffer.from('v') })
    const set = [{ table: 't', key: 'k', value: Buffer.from('w') }]
    const both = Promise.all([
      log.commit({ append: [entry('a'), entry('b'), entry('a')], set }),
      append('a', 'after'),
    ])
    expect(await both).toEqual([[0, 1, 1], 2])
    expect(log.table('t').get('k')).toEqual(new Uint8Array(Buffer.from('w')))
    expect(await log.commit({ set: [{ table: 't', key: 'k', value: undefined }] })).toEqual([])
    expect(log.table('t').size).toBe(0)
  })

  test('that one disk operation spoils leaves nothing in any topic or table', async () => {
    const disk = new SimulatedDisk(1)
    await open({ fs: disk })
    await append('a', 'before')
    await log.table('t').set('k', Buffer.from('before'))
    disk.fault = { kind: 'write', code: 'EIO', after: 2, times: 1 }
    const entry = (topic: string) => ({ topic, key: 'k', value: Buffer.from('v') })
    const set = [{ table: 't', key: 'k', value: Buffer.from('after') }]
    await expect(log.commit({ append: [entry('a'), entry('b')], set })).rejects.toThrow(LogWriteError)
    expect(await texts('a')).toEqual(['0 before'])
    expect(await texts('b')).toEqual([])
    expect(Buffer.from(log.table('t').get('k') ?? []).toString()).toBe('before')
    await log.commit({ append: [entry('a'), entry('b')], set })
    expect([await texts('a'), await texts('b')]).toEqual([['0 before', '1 v'], ['0 v']])
  })
})

describe('limits', () => {
  test('a full directory refuses appends, and takes them again after forgetting', async () => {
    await open({ maxBytes: 400_000, segmentBytes: 50_000 })
    const full = async (): Promise<never> => {
      for (;;) await append('a', 'x'.repeat(10_000))
    }
    await expect(full()).rejects.toThrow(LogFullError)
    expect(log.bytes).toBeLessThanOrEqual(400_000)
    expect(log.bytes).toBeGreaterThan(380_000)
    await log.topic('a').truncate(20)
    await append('a', 'x'.repeat(10_000))
  })

  test('a full disk refuses appends, keeps what it has, and can forget', async () => {
    // The first two writes of the group fail: alone the truncation passes. A third: it takes the reserve.
    for (const [failures, spends] of [
      [2, false],
      [3, true],
    ] as const) {
      const disk = new SimulatedDisk(2)
      await open({ fs: disk, segmentBytes: 1000 })
      for (let index = 0; index < 10; index++) await append('a', `${index}`.padEnd(300))
      const reserve = disk.names.get('reserve')
      disk.fault = { kind: 'write', code: 'ENOSPC', after: 0, times: failures }
      const [appended, truncated] = await Promise.allSettled([
        append('a', 'no room'),
        log.topic('a').truncate(8),
      ])
      expect(appended).toMatchObject({ status: 'rejected', reason: expect.any(LogFullError) })
      expect(truncated).toMatchObject({ status: 'fulfilled' })
      expect((await log.topic('a').read(0, ALL)).map(({ offset }) => offset)).toEqual([8, 9])
      expect(await append('a', 'room')).toBe(10)
      expect(disk.names.has('reserve')).toBe(true) // renewed with the room that the truncation gave
      expect(disk.names.get('reserve') !== reserve).toBe(spends)
    }
  })

  test('too much that waits for the disk is refused at once', async () => {
    await open({ maxPendingBytes: 100_000 })
    const asked = Array.from({ length: 5 }, () => log.topic('a').append('k', Buffer.alloc(30_000)))
    const settled = await Promise.allSettled(asked)
    expect(settled.map(({ status }) => status).slice(0, 4)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
    ])
    expect(settled[4]).toMatchObject({ reason: expect.any(LogBusyError) })
  })

  test('a value or key that is too long is refused, and the next is taken', async () => {
    await open({ maxValueBytes: 1000 })
    await expect(append('a', 'x'.repeat(1001))).rejects.toThrow('at most 1000')
    await expect(log.topic('a').append('k'.repeat(65_536), Buffer.from(''))).rejects.toThrow('at most 65535')
    expect(await append('a', 'x'.repeat(1000))).toBe(0)
  })

  test('more topics than files may be open are read and written', async () => {
    const names = Array.from({ length: 150 }, (_, index) => `t${index}`)
    await Promise.all(names.map((name) => append(name, 'x')))
    await Promise.all(names.map((name) => append(name, 'y')))
    await open()
    for (const name of names) expect(await texts(name)).toEqual(['0 x', '1 y'])
  })
})

describe('a directory', () => {
  test('is refused to the second who opens it, with the pid of the first', async () => {
    const second = openLog(directory)
    await expect(second).rejects.toThrow(LogLockedError)
    await expect(second).rejects.toMatchObject({ pid: process.pid })
    await log.close()
    const [one, two] = await Promise.allSettled([openLog(directory), openLog(directory)])
    expect([one.status, two.status].sort()).toEqual(['fulfilled', 'rejected'])
    for (const result of [one, two]) if (result.status === 'fulfilled') await result.value.close()
  })

  test('refuses work once it is closed, and ends what was asked for before', async () => {
    const last = append('a', 'last')
    await log.close()
    expect(await last).toBe(0)
    await expect(append('a', 'late')).rejects.toThrow(LogClosedError)
    await expect(log.topic('a').read(0, ALL)).rejects.toThrow(LogClosedError)
    await expect(log.flush()).rejects.toThrow(LogClosedError)
  })
})

describe('the form of an entry', () => {
  test('gives back any offset, key and length, and no header whose bits changed', () => {
    const salt = 0x1234_5678
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.string(), fc.uint8Array(), fc.nat(), (offset, key, value, bit) => {
        const keyBytes = Buffer.byteLength(key)
        const bytes = Buffer.concat(encode([{ key, keyBytes, value }], offset, 7n, salt))
        expect(parseHeader(bytes, 0, salt)).toMatchObject({ offset, keyBytes, valueBytes: value.length })
        expect(parseHeader(bytes, 0, salt + 1)).toBeUndefined()
        const at = (bit >>> 3) % HEADER_BYTES
        bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit & 7))
        expect(parseHeader(bytes, 0, salt)).toBeUndefined()
      }),
    )
  })
})
