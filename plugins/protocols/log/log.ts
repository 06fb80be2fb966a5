// Opens a directory as a durable log, and holds its topics and tables together.
//
// Why files of our own, and not SQLite: with group commit they are about twice as fast, each byte is written once, and
// deleting gives the space back. What is promised:
//   - an append that resolved is on disk (fdatasync), and is there after a crash of process, kernel or power;
//   - one that rejected shows nowhere, unless the disk refused to cut it off again and the machine then crashed;
//   - damage is found by checks, passed over and reported; it never hinders opening or reading what is whole.
// A topic is a row of segment files (entry.ts), forgotten from the front by unlinking; a table is a file of changes
// that is rewritten at times (table.ts); writes of all of them are gathered in groups (group.ts). When a log is opened,
// only the last segment of each topic is read: what damage the older ones have shows when they are.
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Commit, Damage, Log, LogOptions, Table, Topic } from './api.ts'
import { DamageList } from './damage.ts'
import { nodeFileSystem, OpenFiles } from './disk.ts'
import { LogClosedError, LogError, LogFullError, systemCode } from './errors.ts'
import { entryBytes, MAX_VALUE_BYTES } from './entry.ts'
import { NEW, parse, RESERVE } from './files.ts'
import type { FileName } from './files.ts'
import { Committer } from './group.ts'
import { checkName } from './place.ts'
import type { Place } from './place.ts'
import { State, STATE } from './state.ts'
import { TableFile } from './table.ts'
import { TopicFiles } from './topic.ts'

const MIB = 1024 * 1024
const RESERVE_BYTES = MIB / 4
/** Of topics and tables, so that names that a peer chooses cannot fill the memory. */
const MAX_NAMES = 10_000
const LOADERS = 4

/** Fails with LogLockedError when another process has it open. */
export async function openLog(directory: string, options: LogOptions = {}): Promise<Log> {
  const fs = options.fs ?? nodeFileSystem
  await fs.makeDirectory(directory)
  const unlock = await fs.lock(directory)
  const log = new LogDirectory(directory, options, unlock)
  try {
    await log.load()
    return log
  } catch (error) {
    await log.abandon()
    throw error
  }
}

class LogDirectory implements Log {
  readonly directory: string
  readonly #place: Place
  readonly #unlock: () => Promise<void>
  readonly #damage: DamageList
  readonly #topics = new Map<string, TopicFiles>()
  readonly #tables = new Map<string, TableFile>()
  readonly #stateTable: TableFile
  readonly #state: State
  readonly #reserveBytes: number
  #hasReserve = false
  #bytes = 0
  #closing: Promise<void> | undefined

  constructor(directory: string, options: LogOptions, unlock: () => Promise<void>) {
    const fs = options.fs ?? nodeFileSystem
    const maxBytes = options.maxBytes ?? Infinity
    this.directory = directory
    this.#unlock = unlock
    this.#damage = new DamageList(options.onDamage)
    this.#reserveBytes = Math.min(RESERVE_BYTES, Math.floor(maxBytes / 64))
    const committer = new Committer({
      maxPendingBytes: options.maxPendingBytes ?? 256 * MIB,
      now: options.now ?? (() => BigInt(Date.now()) * 1_000_000n),
      makeRoom: () => this.#spendReserve(),
    })
    this.#place = {
      directory,
      fs,
      files: new OpenFiles(fs),
      committer,
      damage: this.#damage,
      limits: {
        segmentBytes: options.segmentBytes ?? 16 * MIB,
        maxValueBytes: Math.min(options.maxValueBytes ?? 64 * MIB, MAX_VALUE_BYTES),
        maxTableBytes: options.maxTableBytes ?? 64 * MIB,
        rewriteBytes: options.rewriteBytes ?? MIB,
      },
      grow: (bytes) => {
        this.#bytes += bytes
      },
      checkRoom: (bytes) => {
        if (this.#bytes + committer.pendingBytes + bytes <= maxBytes) return
        throw new LogFullError(`${directory} has ${this.#bytes} bytes, ${maxBytes} are allowed`)
      },
      freed: () => this.#renewReserve(),
    }
    this.#stateTable = new TableFile(this.#place, STATE)
    this.#state = new State(this.#stateTable)
  }

  get bytes(): number {
    return this.#bytes
  }

  get damage(): readonly Damage[] {
    return this.#damage.list
  }

  topic(name: string): Topic {
    return this.#topic(checkName(name))
  }

  table(name: string): Table {
    return this.#table(checkName(name))
  }

  topics(): string[] {
    return [...this.#topics.values()].filter((topic) => topic.exists).map(({ name }) => name)
  }

  async commit(work: Commit): Promise<number[]> {
    const appends = (work.append ?? []).map(({ topic, key, value }) => {
      const to = this.#topic(checkName(topic))
      return { to, entry: to.addition(key, value) }
    })
    const sets = (work.set ?? []).map(({ table, key, value }) => {
      const to = this.#table(checkName(table))
      return { to, entry: to.change(key, value) }
    })
    this.#place.checkRoom(appends.reduce((sum, { entry }) => sum + entryBytes(entry), 0))
    return this.#place.committer.request(appends, sets)
  }

  async flush(): Promise<void> {
    await this.#place.committer.request([], [])
  }

  async remove(name: string): Promise<void> {
    const topic = this.#topics.get(checkName(name))
    if (topic === undefined) return
    topic.check()
    topic.refuse(new LogError(`the topic ${name} was removed`))
    try {
      await this.#state.markRemoved(name)
    } catch (error) {
      topic.refuse(undefined)
      throw error
    }
    // Should this fail, the topic stays refused, and the next start ends the work.
    await this.#place.committer.exclusive(() => topic.remove())
    await this.#state.forgetRemoved(name)
    this.#topics.delete(name)
    await this.#renewReserve()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async load(): Promise<void> {
    const { fs, directory } = this.#place
    const topics = new Map<string, FileName[]>()
    const tables = new Map<string, FileName[]>()
    // A process that was killed may have left a renaming unsynced: nothing may be removed on the strength of it before.
    await fs.syncDirectory(directory)
    for (const file of await fs.list(directory)) {
      if (file.endsWith(NEW)) await fs.unlink(join(directory, file))
      const name = parse(file)
      if (name === undefined) continue
      const group = name.kind === 'topic' ? topics : tables
      group.set(name.name, [...(group.get(name.name) ?? []), name])
    }
    await this.#stateTable.load(tables.get(STATE) ?? [])
    tables.delete(STATE)
    await this.#endRemovals(topics)
    const reached = this.#state.reached()
    for (const name of reached.keys()) if (!topics.has(name)) topics.set(name, [])
    await inParallel(tables, ([name, found]) => this.#table(name).load(found))
    await inParallel(topics, ([name, found]) => this.#topic(name).load(found, reached.get(name) ?? 0))
    await this.#findReserve()
  }

  /** After a load that failed. */
  async abandon(): Promise<void> {
    await this.#place.committer.close()
    await this.#place.files.close()
    await this.#unlock()
  }

  async #close(): Promise<void> {
    try {
      const ends = [...this.#topics.values()].filter((topic) => topic.exists)
      await this.#state.markEnds(new Map(ends.map(({ name, next }) => [name, next])))
    } catch {
      // The marks only help to tell a torn write from a damaged entry.
    }
    await this.#place.committer.close()
    for (const topic of this.#topics.values()) topic.refuse(new LogClosedError('the log is closed'))
    for (const table of [this.#stateTable, ...this.#tables.values()]) await table.settled()
    await this.#place.files.close()
    await this.#unlock()
  }

  #topic(name: string): TopicFiles {
    const known = this.#topics.get(name)
    if (known !== undefined) return known
    this.#checkCount()
    const topic = new TopicFiles(this.#place, this.#state, name)
    this.#topics.set(name, topic)
    return topic
  }

  #table(name: string): TableFile {
    const known = this.#tables.get(name)
    if (known !== undefined) return known
    this.#checkCount()
    const table = new TableFile(this.#place, name)
    this.#tables.set(name, table)
    return table
  }

  #checkCount(): void {
    if (this.#closing !== undefined) throw new LogClosedError('the log is closed')
    if (this.#topics.size + this.#tables.size < MAX_NAMES) return
    throw new LogFullError(`${this.directory} has ${MAX_NAMES} topics and tables, no more are allowed`)
  }

  async #endRemovals(topics: Map<string, FileName[]>): Promise<void> {
    for (const name of this.#state.removed()) {
      const rest = new TopicFiles(this.#place, this.#state, name)
      await rest.load(topics.get(name) ?? [], 0)
      await rest.remove()
      await this.#state.forgetRemoved(name)
      topics.delete(name)
    }
  }

  /** Room for the log's own notes, given up when a full disk would hinder forgetting. */
  async #findReserve(): Promise<void> {
    try {
      const bytes = await this.#place.fs.size(join(this.directory, RESERVE))
      this.#hasReserve = true
      this.#bytes += bytes
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
      await this.#renewReserve()
    }
  }

  async #renewReserve(): Promise<void> {
    if (this.#hasReserve || this.#reserveBytes === 0) return
    this.#hasReserve = true
    const { fs, files } = this.#place
    const path = join(this.directory, RESERVE)
    try {
      await files.use(
        path,
        async (file) => {
          await file.write([randomBytes(this.#reserveBytes)], 0) // zeros might not be stored
          await file.sync()
        },
        'create',
      )
      this.#bytes += this.#reserveBytes
    } catch {
      this.#hasReserve = false
      await fs.unlink(path).catch(() => undefined)
    } finally {
      await files.release(path)
    }
  }

  async #spendReserve(): Promise<boolean> {
    if (!this.#hasReserve) return false
    try {
      await this.#place.fs.unlink(join(this.directory, RESERVE))
    } catch {
      return false
    }
    this.#hasReserve = false
    this.#bytes -= this.#reserveBytes
    return true
  }
}

async function inParallel<T>(items: Iterable<T>, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]()
  const loader = async (): Promise<void> => {
    for (let step = iterator.next(); step.done !== true; step = iterator.next()) await work(step.value)
  }
  // All must have ended, also when one fails: what still loads would write to a directory that was let go.
  const ended = await Promise.allSettled(Array.from({ length: LOADERS }, loader))
  for (const result of ended) if (result.status === 'rejected') throw result.reason
}
