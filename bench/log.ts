// The durable log beside node:sqlite (WAL, synchronous FULL), on the disk of BENCH_DIRECTORY, in the same run.
// Batches of 32 KiB in groups of 1, 8 and 32 that become durable together, taking turns so that both see the same moods
// of the machine. Then reading, opening a gibibyte, many small entries, and eight topics at once.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { openLog } from '../plugins/protocols/log/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'

const BATCH_BYTES = 32 * 1024
const ROUNDS = 3
const SECONDS = 1
const GIB = 1024 ** 3

interface Measured {
  perSecond: number
  writtenPerByte: number
}

/** Does `work`, which handles so many batches, for a while. */
async function rate(batches: number, batchBytes: number, work: () => Promise<void>): Promise<Measured> {
  const written = await bytesWritten()
  const began = performance.now()
  let count = 0
  while (performance.now() - began < SECONDS * 1000) {
    await work()
    count += batches
  }
  const seconds = (performance.now() - began) / 1000
  return {
    perSecond: count / seconds,
    writtenPerByte: ((await bytesWritten()) - written) / (count * batchBytes),
  }
}

/** What this process has caused to be written to disks, by the kernel's account. */
async function bytesWritten(): Promise<number> {
  const io = await readFile('/proc/self/io', 'latin1')
  return Number(/^write_bytes: (\d+)/m.exec(io)?.[1])
}

const value = Buffer.alloc(BATCH_BYTES)
for (let at = 0; at < value.length; at += 4) value.writeUInt32LE(Math.floor(Math.random() * 2 ** 32), at)

async function appendTo(directory: string, group: number): Promise<Measured> {
  await using log = await openLog(directory)
  const topic = log.topic('bench')
  return await rate(group, BATCH_BYTES, async () => {
    await Promise.all(Array.from({ length: group }, () => topic.append('device', value)))
  })
}

async function insertInto(directory: string, group: number): Promise<Measured> {
  const database = new DatabaseSync(join(directory, 'bench.sqlite'))
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
  database.exec(
    'CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, key TEXT, value BLOB, time INTEGER)',
  )
  const insert = database.prepare('INSERT INTO log (key, value, time) VALUES (?, ?, ?)')
  try {
    return await rate(group, BATCH_BYTES, async () => {
      database.exec('BEGIN')
      for (let index = 0; index < group; index++) insert.run('device', value, 1)
      database.exec('COMMIT')
    })
  } finally {
    database.close()
  }
}

const median = (figures: number[]): number =>
  figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)] ?? 0

async function inDirectory<T>(root: string, work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(root, 'bench-log-'))
  try {
    return await work(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}

async function compare(root: string): Promise<void> {
  for (const group of [1, 8, 32]) {
    const ours: Measured[] = []
    const theirs: Measured[] = []
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await inDirectory(root, (directory) => appendTo(directory, group)))
      theirs.push(await inDirectory(root, (directory) => insertInto(directory, group)))
    }
    const log = median(ours.map(({ perSecond }) => perSecond))
    const sqlite = median(theirs.map(({ perSecond }) => perSecond))
    row(`append, groups of ${group}, batches/s`, figure(log), figure(sqlite), ratio(log, sqlite))
    const a = median(ours.map(({ writtenPerByte }) => writtenPerByte))
    const b = median(theirs.map(({ writtenPerByte }) => writtenPerByte))
    row('  bytes written per byte', a.toFixed(2), b.toFixed(2), ratio(a, b))
  }
}

async function fill(log: Log, bytes: number): Promise<void> {
  const entries = Array.from({ length: 64 }, () => ({ key: 'device', value }))
  for (let written = 0; written < bytes; written += 64 * BATCH_BYTES)
    await log.topic('bench').appendAll(entries)
}

async function readAndReopen(directory: string): Promise<void> {
  await (async () => {
    await using log = await openLog(directory)
    await fill(log, GIB)
    const topic = log.topic('bench')
    const began = performance.now()
    let from = 0
    while (from < topic.next) {
      const entries = await topic.read(from, { entries: 32, bytes: 1024 * 1024 })
      from = (entries.at(-1)?.offset ?? topic.next) + 1
    }
    const seconds = (performance.now() - began) / 1000
    row('read in order and checked, batches/s', figure(topic.next / seconds))
  })()
  const times: number[] = []
  for (let round = 0; round < 5; round++) {
    const began = performance.now()
    const log = await openLog(directory)
    times.push(performance.now() - began)
    await log.close()
  }
  row('open a log of 1 GiB, ms', median(times).toFixed(1))
}

async function smallAndMany(directory: string): Promise<void> {
  await using log = await openLog(directory)
  const small = Buffer.alloc(100, 'x')
  const one = await rate(1000, 100, async () => {
    await Promise.all(Array.from({ length: 1000 }, () => log.topic('small').append('device', small)))
  })
  row('append, 1,000 entries of 100 bytes a group, entries/s', figure(one.perSecond))
  const names = Array.from({ length: 8 }, (_, index) => `fleet/${index}`)
  const eight = await rate(32, BATCH_BYTES, async () => {
    await Promise.all(
      Array.from({ length: 32 }, (_, index) => log.topic(names[index % 8] ?? '').append('device', value)),
    )
  })
  row('append, groups of 32 over 8 topics, batches/s', figure(eight.perSecond))
  const noted = await rate(8, BATCH_BYTES, async () => {
    const topic = log.topic('bench')
    await Promise.all([
      ...Array.from({ length: 8 }, () => topic.append('device', value)),
      topic.setPosition('writer', topic.next),
    ])
  })
  row('append, groups of 8 with a position, batches/s', figure(noted.perSecond))
}

const figure = (value: number): string => Math.round(value).toLocaleString('en')
const ratio = (a: number, b: number): string => (a / b).toFixed(2)

function row(what: string, ...cells: string[]): void {
  console.log(`${what.padEnd(56)}${cells.map((cell) => cell.padStart(14)).join('')}`)
}

const root = process.env['BENCH_DIRECTORY'] ?? tmpdir()
row('', 'log', 'node:sqlite', 'log / sqlite')
await compare(root)
await inDirectory(root, readAndReopen)
await inDirectory(root, smallAndMany)
