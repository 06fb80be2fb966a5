// The durable log with files that were changed, cut or removed behind its back: what is whole is read, and what is lost
// is named.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openLog } from '../../../plugins/protocols/log/index.ts'
import type { Damage, Log } from '../../../plugins/protocols/log/index.ts'
import { SimulatedDisk } from './log-disk.ts'
import { readAll } from './log-model.ts'

const SEGMENT = 4000

const open = (disk: SimulatedDisk, onDamage?: (damage: Damage) => void): Promise<Log> =>
  openLog('/simulated', { fs: disk, segmentBytes: SEGMENT, ...(onDamage && { onDamage }) })

const valueOf = (offset: number, bytes: number): string => `${offset} `.padEnd(bytes, 'value ')

/** A closed log with `count` entries of so many bytes in its topic `a`. */
async function filled(count: number, bytes: number, clean = true): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk(1)
  const log = await open(disk)
  for (let offset = 0; offset < count; offset++) {
    await log.topic('a').append('k', Buffer.from(valueOf(offset, bytes)))
  }
  if (!clean) return disk.afterKill()
  await log.close()
  return disk
}

const segments = (disk: SimulatedDisk, name = 'topic@a@'): string[] =>
  [...disk.names.keys()].filter((file) => file.startsWith(name)).sort()

function change(disk: SimulatedDisk, file: string | undefined, edit: (content: Buffer) => Buffer): void {
  const inode = disk.names.get(file ?? '')
  if (inode === undefined) throw new Error(`no file ${file}`)
  inode.written = edit(Buffer.from(inode.written))
}

const flip =
  (at: number) =>
  (content: Buffer): Buffer => {
    content[at] = (content[at] ?? 0) ^ 0xff
    return content
  }

const offsets = async (log: Log): Promise<number[]> => (await readAll(log, 'a')).map(({ offset }) => offset)
const except = (count: number, ...lost: number[]): number[] =>
  Array.from({ length: count }, (_, offset) => offset).filter((offset) => !lost.includes(offset))

describe('a damaged log', () => {
  test('loses only the entry in which a byte of the last segment changed, and says so when it is opened', async () => {
    const disk = await filled(5, 500)
    change(disk, segments(disk).at(-1), flip(537 * 2 + 100))
    const told: Damage[] = []
    const log = await open(disk, (damage) => told.push(damage))
    expect(log.damage).toEqual([{ topic: 'a', from: 2, to: 3, bytes: 537, file: segments(disk).at(-1) }])
    expect(told).toEqual(log.damage)
    expect(await offsets(log)).toEqual(except(5, 2))
    expect(await offsets(log)).toEqual(except(5, 2))
    expect(told).toHaveLength(1)
    expect(await log.topic('a').append('k', Buffer.from('goes on'))).toBe(5)
  })

  test('loses only the entry whose header changed, whatever its length then says', async () => {
    for (const field of [0, 4, 8, 12, 15, 16, 20, 30]) {
      const disk = await filled(5, 500)
      change(disk, segments(disk).at(-1), flip(537 * 2 + field))
      const log = await open(disk)
      expect(await offsets(log)).toEqual(except(5, 2))
      expect(log.damage).toMatchObject([{ from: 2, to: 3, bytes: 537 }])
    }
  })

  test('finds damage of an older segment when that is read', async () => {
    const disk = await filled(20, 1000)
    expect(segments(disk).length).toBeGreaterThan(4)
    change(disk, segments(disk)[1], flip(1037 + 500))
    const log = await open(disk)
    expect(log.damage).toEqual([])
    expect(await offsets(log)).toEqual(except(20, 4))
    expect(log.damage).toMatchObject([{ topic: 'a', from: 4, to: 5, file: segments(disk)[1] }])
  })

  test('names the entries at the end of an older segment that was cut', async () => {
    const disk = await filled(20, 1000)
    change(disk, segments(disk)[1], (content) => content.subarray(0, 1037 + 200))
    const log = await open(disk)
    expect(await offsets(log)).toEqual(except(20, 4, 5))
    expect(log.damage).toMatchObject([{ from: 4, to: 6, file: segments(disk)[1] }])
  })

  test('names at once the entries of a segment that was removed: the first, one between, the last', async () => {
    const lost = [
      [0, 1, 2],
      [6, 7, 8],
      [18, 19],
    ]
    for (const [index, file] of [0, 2, 6].entries()) {
      const disk = await filled(20, 1000)
      disk.names.delete(segments(disk)[file] ?? '')
      const log = await open(disk)
      const [from, to] = [lost[index]?.[0], (lost[index]?.at(-1) ?? 0) + 1]
      expect(log.damage).toMatchObject([{ topic: 'a', from, to }])
      expect(await offsets(log)).toEqual(except(20, ...(lost[index] ?? [])))
      expect(await log.topic('a').append('k', Buffer.from('goes on'))).toBe(20)
      expect(log.damage).toHaveLength(1)
    }
  })

  test('names the entries of a segment that is removed while it is open', async () => {
    const log = await open(await filled(20, 1000))
    const disk = await filled(20, 1000)
    await log.close()
    const other = await open(disk)
    disk.names.delete(segments(disk)[2] ?? '')
    expect(await offsets(other)).toEqual(except(20, 6, 7, 8))
    expect(other.damage).toMatchObject([{ from: 6, to: 9 }])
  })

  test('never gives an offset a second time when all its files are gone', async () => {
    const disk = await filled(7, 1000)
    for (const file of segments(disk)) disk.names.delete(file)
    const log = await open(disk)
    expect(log.damage).toMatchObject([{ topic: 'a', from: 0, to: 7 }])
    expect(await log.topic('a').read(0, { entries: 9, bytes: 9e9 })).toEqual([])
    const waiting = log.topic('a').wait(0, AbortSignal.timeout(10_000))
    expect(await log.topic('a').append('k', Buffer.from('goes on'))).toBe(7)
    await waiting
    expect(await offsets(log)).toEqual([7])
  })

  test('tells a last entry that was acknowledged and then damaged, by what a clean end or a consumer noted', async () => {
    const cut = (content: Buffer): Buffer => content.subarray(0, content.length - 1)
    const closed = await filled(3, 500)
    change(closed, segments(closed).at(-1), cut)
    expect((await open(closed)).damage).toMatchObject([{ from: 2, to: 3 }])

    const killed = await filled(3, 500, false)
    const log = await open(killed)
    await log.topic('a').setPosition('writer', 3)
    const again = killed.afterKill()
    change(again, segments(again).at(-1), cut)
    expect((await open(again)).damage).toMatchObject([{ from: 2, to: 3 }])
  })

  test('cuts a torn write off and calls nothing lost, wherever it was torn', async () => {
    for (let bytes = 1; bytes < 537; bytes++) {
      const disk = await filled(3, 500, false)
      change(disk, segments(disk).at(-1), (content) => content.subarray(0, 2 * 537 + bytes))
      const log = await open(disk)
      expect(log.damage).toEqual([])
      expect(await log.topic('a').append('k', Buffer.from('goes on'))).toBe(2)
      expect(await offsets(log)).toEqual([0, 1, 2])
    }
  })

  test('calls a last entry lost that is there in full, but wrong', async () => {
    const disk = await filled(3, 500, false)
    change(disk, segments(disk).at(-1), flip(2 * 537 + 300))
    const log = await open(disk)
    expect(log.damage).toMatchObject([{ from: 2, to: 3, bytes: 537 }])
    expect(await log.topic('a').append('k', Buffer.from('goes on'))).toBe(3)
  })

  test('takes no entry from inside a value, even behind damage', async () => {
    const inner = await filled(3, 200)
    const copy = inner.names.get(segments(inner)[0] ?? '')?.written ?? Buffer.alloc(0)
    const disk = new SimulatedDisk(3)
    const log = await open(disk)
    for (let index = 0; index < 3; index++) await log.topic('a').append('k', copy)
    await log.close()
    change(disk, segments(disk)[0], flip(2))
    const again = await open(disk)
    expect(await offsets(again)).toEqual([1, 2])
    expect((await readAll(again, 'a')).every(({ value }) => Buffer.from(value).equals(copy))).toBe(true)
  })

  test('reads around blocks that the disk cannot read', async () => {
    const disk = await filled(20, 1000)
    disk.fault = { kind: 'read', code: 'EIO', after: 1, times: 2 } // behind the log's notes: the last segment, and its first block
    const log = await open(disk)
    disk.fault = undefined
    expect(log.damage.length).toBe(1)
    expect(await log.topic('a').append('k', Buffer.from('goes on'))).toBe(20)
    const lost = log.damage.flatMap(({ from, to }) =>
      Array.from({ length: to - from }, (_, index) => from + index),
    )
    expect(lost.length).toBeGreaterThan(0)
    expect(await offsets(log)).toEqual(except(21, ...lost))
  })

  test('keeps the other keys of a table, and says that one change is lost', async () => {
    const disk = new SimulatedDisk(4)
    const log = await open(disk)
    for (const key of ['x', 'y', 'z']) await log.table('t').set(key, Buffer.from(key.repeat(100)))
    await log.close()
    change(disk, segments(disk, 'table@t@')[0], flip(137 + 80))
    const again = await open(disk)
    expect([...again.table('t').keys()]).toEqual(['x', 'z'])
    expect(again.damage).toMatchObject([{ topic: 'table:t', from: 1, to: 2 }])
  })

  test('opens whatever was done to its files, shows only what was appended, and accounts for the rest', async () => {
    const edit = fc.record({
      file: fc.nat(),
      at: fc.integer({ min: 0, max: 9999 }).map((part) => part / 10_000),
      what: fc.constantFrom('flip', 'zero', 'random', 'cut', 'insert', 'drop'),
      length: fc.integer({ min: 1, max: 1500 }),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 900 }),
        async (edits, bytes) => {
          const disk = await filled(30, bytes)
          for (const { file, at, what, length } of edits) {
            const names = segments(disk)
            change(disk, names[file % names.length], (content) => {
              const from = Math.floor(at * content.length)
              const to = Math.min(content.length, from + length)
              if (what === 'flip') return flip(from)(content)
              if (what === 'zero') return content.fill(0, from, to)
              if (what === 'random') return content.fill('\u009dLg1garbage', from, to, 'latin1')
              if (what === 'cut') return content.subarray(0, from)
              const rest = content.subarray(what === 'drop' ? to : from)
              const between = what === 'insert' ? content.subarray(0, length) : Buffer.alloc(0)
              return Buffer.concat([content.subarray(0, from), between, rest])
            })
          }
          const log = await open(disk)
          expect(await log.topic('a').append('k', Buffer.from(valueOf(30, bytes)))).toBe(30)
          const read = await readAll(log, 'a')
          for (const { offset, value } of read)
            expect(Buffer.from(value).toString()).toBe(valueOf(offset, bytes))
          const lost = new Set<number>()
          for (const { from, to } of log.damage)
            for (let offset = from; offset < to; offset++) lost.add(offset)
          expect([...read.map(({ offset }) => offset), ...lost].sort((a, b) => a - b)).toEqual(except(31))
        },
      ),
      { numRuns: 300 },
    )
  })
})
