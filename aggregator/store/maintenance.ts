// What happens behind the writes: recent rows are sealed as sorted Parquet files, old files are removed, and the
// directory is kept below its limit. A crash at any instant leaves each row exactly once: a file counts only when the
// transaction that drops its table and names it has committed.
import { open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../plugins/contract/errors.ts'
import { rank } from '../../plugins/contract/signal.ts'
import type { Counter } from './count.ts'
import { Mutex } from './database.ts'
import type { Connection } from './database.ts'
import type { LogEvent } from './messages.ts'
import { prune } from './prune.ts'
import { longMs } from './runner.ts'
import type { QueryRunner } from './runner.ts'
import { filesDirectory, hotTable, quoted, sortOf } from './schema.ts'
import type { Segment } from './segments.ts'
import { sealLatestMs } from './settings.ts'
import { addTally } from './tally.ts'
import type { Engine } from './write.ts'

/** Between two looks for what no row speaks of any more: each reads a column of every row. */
const pruneMs = 6 * 3_600_000
/** Kept free for what is under way: the next write, and a table that is being sealed, which lies there twice. */
const underWayBytes = 512 * 1024 ** 2
const never = new AbortController().signal

export class Maintenance {
  readonly #engine: Engine
  readonly #runner: QueryRunner
  readonly #counter: Counter
  readonly #say: (event: LogEvent) => void
  /** Held while the list of segments and the database do not agree; counting waits for it. */
  readonly layout = new Mutex()
  readonly #turn = new Mutex()
  #connection: Connection | undefined
  /** The newest failure, until a pass without one. */
  error: string | undefined
  #stopped = false
  #pruneDue = false
  #prunedMs = 0
  /** Bytes written since the directory was measured. */
  #grown = 0

  constructor(engine: Engine, runner: QueryRunner, counter: Counter, say: (event: LogEvent) => void) {
    this.#engine = engine
    this.#runner = runner
    this.#counter = counter
    this.#say = say
  }

  /** One pass. What fails is told and in `error`; the other steps are taken all the same. */
  pass(seal: 'due' | 'all', nowMs: number): Promise<void> {
    return this.#turn.run(async () => {
      let failed: string | undefined
      for (const step of [() => this.#sealAll(seal, nowMs), () => this.#retain(nowMs), () => this.#fit()]) {
        if (this.#stopped) return
        try {
          await step()
        } catch (error) {
          if (this.#stopped) return
          failed = messageOf(error)
          this.#say({ level: 'error', message: 'sealing or retention failed', fields: { error: failed } })
        }
      }
      this.error = failed
    })
  }

  /**
   * Tells how much a write added. Resolves at once, unless that is much beside the limit on bytes: then after a pass,
   * so that a flood cannot outrun the removal.
   */
  async grown(bytes: number): Promise<void> {
    this.#grown += bytes
    if (this.#grown > this.#engine.settings.maxBytes / 20) await this.pass('due', Date.now())
  }

  async #sealAll(seal: 'due' | 'all', nowMs: number): Promise<void> {
    for (const segment of await this.#close(seal, nowMs)) {
      if (this.#stopped) return
      await this.#seal(segment)
    }
  }

  /** Closes what is due: under the writer's lock, so that no write that began before still adds rows. */
  #close(seal: 'due' | 'all', nowMs: number): Promise<Segment[]> {
    const { segments, lock, settings } = this.#engine
    return lock.run(async () => {
      const hot = segments.all.filter((each) => each.state !== 'sealed' && each.rows > 0)
      let total = hot.reduce((sum, each) => sum + each.bytes, 0)
      for (const segment of [...hot].sort((a, b) => b.bytes - a.bytes)) {
        const ageMs = nowMs - segment.arrivalFrom / 1e6
        const due =
          (ageMs > settings.segmentMs && segment.rows >= settings.segmentMinRows) || ageMs > sealLatestMs
        if (seal === 'all' || due || total > settings.hotBytes) segment.state = 'closed'
        if (segment.state === 'closed') total -= segment.bytes
      }
      return hot.filter((each) => each.state === 'closed').sort((a, b) => a.id - b.id)
    })
  }

  async #seal(segment: Segment): Promise<void> {
    const { database, lock } = this.#engine
    this.#connection ??= await database.connect()
    const table = hotTable(segment.id)
    const file = `${segment.signal}-${segment.class}-${segment.id}.parquet`
    const path = join(filesDirectory(database.directory), file)
    const temporary = `${path}.tmp`
    await this.#connection.sql.run(
      `COPY (SELECT * FROM ${table} ORDER BY ${sortOf[segment.signal]}) TO ${quoted(temporary)}
       (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 122880)`,
    )
    const [[written, ...times] = []] = await database.rows(
      `SELECT (SELECT count(*) FROM read_parquet(${quoted(temporary)})),
         min(ts), max(ts), min(arrival), max(arrival), count(*) FROM ${table}`,
      this.#connection,
    )
    if (Number(written) !== Number(times[4])) {
      throw new Error(`${file} has ${String(written)} rows of ${String(times[4])}`)
    }
    await sync(temporary)
    await rename(temporary, path)
    await sync(filesDirectory(database.directory))
    const { size } = await stat(path)
    const before = { ...segment }
    await this.layout.run(async () => {
      // Queries from now on read the file; those before are let to their end, then the table goes.
      Object.assign(segment, { state: 'sealed', file, bytes: size, rows: Number(written) })
      await this.#runner.idle()
      try {
        await lock.run(() =>
          database.transaction(() =>
            database.run(
              `DROP TABLE ${table};
               UPDATE segments SET file = ${quoted(file)}, rows = ${String(written)}, bytes = ${size},
                 at_from = ${String(times[0])}, at_to = ${String(times[1])},
                 arrival_from = ${String(times[2])}, arrival_to = ${String(times[3])}
               WHERE id = ${segment.id}`,
            ),
          ),
        )
      } catch (error) {
        Object.assign(segment, before)
        throw error
      }
    })
    const fields = { file, rows: segment.rows, bytes: size }
    this.#say({ level: 'debug', message: 'segment sealed', fields })
  }

  /** Removes files of which every record is older than its class is kept. */
  async #retain(nowMs: number): Promise<void> {
    const { segments, settings } = this.#engine
    const old = segments.all.filter(
      (each) => each.state === 'sealed' && each.arrivalTo / 1e6 < nowMs - settings.retentionMs[each.class],
    )
    for (const segment of old) {
      await this.#remove(segment)
      const fields = { file: segment.file, rows: segment.rows, class: segment.class }
      this.#say({ level: 'info', message: 'segment removed: older than its class is kept', fields })
    }
    if (old.length > 0) this.#pruneDue = true
    const crowded = this.#engine.series.size > settings.maxSeries * 0.9
    const waitMs = crowded ? pruneMs / 24 : pruneMs
    if (!(this.#pruneDue || crowded) || nowMs - this.#prunedMs < waitMs) return
    await prune(this.#engine, this.#runner)
    this.#pruneDue = false
    this.#prunedMs = nowMs
  }

  /** Keeps the directory below its limit: the least precious class gives first, and of it the oldest. */
  async #fit(): Promise<void> {
    const { segments, settings } = this.#engine
    this.#grown = 0
    const most = settings.maxBytes - Math.min(settings.maxBytes / 4, underWayBytes)
    let bytes = await this.measure()
    while (bytes > most && !this.#stopped) {
      const [first] = segments.all
        .filter((each) => each.state === 'sealed')
        .sort((a, b) => rank[b.class] - rank[a.class] || a.arrivalTo - b.arrivalTo)
      if (first) {
        await this.#remove(first)
        const fields = { file: first.file, rows: first.rows, class: first.class, limit: settings.maxBytes }
        this.#say({ level: 'warn', message: 'segment removed: the store is at its limit', fields })
      } else {
        // Recent rows are all that there is: only what is sealed can go.
        const hot = await this.#close('all', Date.now())
        if (hot.length === 0) break
        for (const segment of hot) await this.#seal(segment)
        await this.#free()
      }
      bytes = await this.measure()
    }
    if (bytes > settings.maxBytes) {
      const free = await this.#free()
      bytes = (await this.measure()) - free
    }
    this.#engine.full =
      bytes > settings.maxBytes
        ? `the store takes ${bytes} bytes, its limit is ${settings.maxBytes}`
        : undefined
  }

  /**
   * Frees the blocks of tables that were dropped, and gives the bytes of all that are free: the next rows go there, since
   * the database's file hardly ever shrinks.
   */
  #free(): Promise<number> {
    const { database, lock } = this.#engine
    return lock.run(async () => {
      await database.run('CHECKPOINT')
      const [[free] = []] = await database.rows(
        `SELECT block_size * free_blocks FROM pragma_database_size() WHERE database_name = 'store'`,
      )
      return Number(free ?? 0)
    })
  }

  /** Takes a sealed segment away; what it really held stays counted. */
  #remove(segment: Segment): Promise<void> {
    const { database, segments, lock } = this.#engine
    return this.layout.run(async () => {
      const { found } = await this.#runner.run(
        never,
        (context) => this.#counter.countSegment(context, segment),
        longMs,
      )
      segments.remove(segment)
      await this.#runner.idle()
      try {
        await lock.run(() =>
          database.transaction(async () => {
            await addTally(database, 'removed', found)
            await database.run(
              `DELETE FROM batches WHERE segment = ${segment.id}; DELETE FROM segments WHERE id = ${segment.id}`,
            )
          }),
        )
      } catch (error) {
        segments.add(segment)
        throw error
      }
      this.#counter.forget(segment)
      await rm(segments.path(segment), { force: true })
    })
  }

  /** Bytes of the directory. */
  measure(): Promise<number> {
    return directoryBytes(this.#engine.database.directory)
  }

  /** Interrupts a pass and waits for its end. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#connection?.sql.interrupt()
    await this.#turn.run(async () => undefined)
  }
}

/** Bytes of all files below a directory. */
async function directoryBytes(directory: string): Promise<number> {
  let total = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    try {
      total += (await stat(join(entry.parentPath, entry.name))).size
    } catch (error) {
      // Files of DuckDB come and go.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  return total
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
