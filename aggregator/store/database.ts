// One DuckDB database and its connections: opening, the writer's transaction lock, and what its errors mean.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { DuckDBConnection } from '@duckdb/node-api'
import type { DuckDBValue } from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import { PermanentError, RetryableError, messageOf } from '../../plugins/contract/errors.ts'
import { filesDirectory, quoted, schemaSql, schemaVersion } from './schema.ts'
import type { DuckStoreSettings } from './settings.ts'

export type Row = DuckDBValue[]

/** A connection, at both levels of the library: SQL, and chunks for appending. */
export interface Connection {
  readonly raw: duckdb.Connection
  readonly sql: DuckDBConnection
}

/**
 * A write of at least this many rows goes to the file at once instead of through DuckDB's log, which writes them all
 * twice: half the CPU of a commit of 100,000. The default is 122,880.
 */
const rowGroup = 40_960

/**
 * Recent rows are soon sealed as files, which zstd makes small. To try each method on each column of a group costs more
 * than to decode the records; what is left takes numbers down to the bits that they need. (Ignored where it is given
 * with the other options.)
 */
const compression = `SET disabled_compression_methods = 'alp,alprd,chimp,dict_fsst,dictionary,fsst,patas,roaring,zstd'`

export class Database {
  readonly directory: string
  readonly writer: Connection
  readonly #database: duckdb.Database
  readonly #connections = new Set<Connection>()

  private constructor(directory: string, database: duckdb.Database, writer: duckdb.Connection) {
    this.directory = directory
    this.#database = database
    this.writer = { raw: writer, sql: new DuckDBConnection(writer) }
    this.#connections.add(this.writer)
  }

  /** @throws PermanentError where another process has it, or it was written by a newer dpulse. */
  static async open(directory: string, settings: DuckStoreSettings): Promise<Database> {
    await mkdir(filesDirectory(directory), { recursive: true })
    const config = duckdb.create_config()
    const options = {
      threads: String(settings.threads),
      memory_limit: `${Math.max(64, Math.floor(settings.memoryBytes / 1024 ** 2))}MiB`,
      temp_directory: join(directory, 'spill'),
      max_temp_directory_size: `${Math.floor(Math.min(4 * 1024 ** 3, settings.maxBytes / 4) / 1024)}KiB`,
      // Small commits go through the database's log; each checkpoint costs as much as they do. Larger, and reopening after
      // a kill takes longer than a second.
      checkpoint_threshold: `${Math.floor(Math.min(128 * 1024 ** 2, settings.maxBytes / 16) / 1024)}KiB`,
      preserve_insertion_order: 'false',
      // The log of the database holds the rows of many writes; without this a reader of files asks the network.
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
    }
    for (const [name, value] of Object.entries(options)) duckdb.set_config(config, name, value)
    const database = await duckdb.open(':memory:', config)
    const opened = new Database(directory, database, await duckdb.connect(database))
    try {
      await opened.run(
        `ATTACH ${quoted(join(directory, 'store.duckdb'))} AS store (ROW_GROUP_SIZE ${rowGroup})`,
      )
      await opened.run(compression)
      await opened.run('USE store')
      await opened.#prepare()
    } catch (cause) {
      opened.close()
      throw cause instanceof PermanentError ? cause : openError(directory, cause)
    }
    return opened
  }

  async #prepare(): Promise<void> {
    await this.run(`${schemaSql}
      INSERT INTO meta SELECT ${schemaVersion} WHERE NOT EXISTS (SELECT 1 FROM meta)`)
    const [[version] = []] = await this.rows('SELECT max(version) FROM meta')
    if (Number(version) === schemaVersion) return
    throw new PermanentError(
      'DATA_CORRUPTED',
      `the store in ${this.directory} has format ${String(version)}, this dpulse knows ${schemaVersion}`,
    )
  }

  async connect(): Promise<Connection> {
    const raw = await duckdb.connect(this.#database)
    await duckdb.query(raw, 'USE store')
    const connection = { raw, sql: new DuckDBConnection(raw) }
    this.#connections.add(connection)
    return connection
  }

  release(connection: Connection): void {
    if (this.#connections.delete(connection)) duckdb.disconnect_sync(connection.raw)
  }

  async run(sql: string): Promise<void> {
    await duckdb.query(this.writer.raw, sql)
  }

  async rows(sql: string, connection: Connection = this.writer): Promise<Row[]> {
    return (await connection.sql.runAndReadAll(sql)).getRows()
  }

  /** All or nothing; not to be entered twice at a time. */
  async transaction<T>(work: () => Promise<T>): Promise<T> {
    await this.run('BEGIN TRANSACTION')
    try {
      const result = await work()
      await this.run('COMMIT')
      return result
    } catch (error) {
      // After a failed COMMIT there is no transaction any more; the first error is the one to tell.
      await this.run('ROLLBACK').catch(() => undefined)
      throw error
    }
  }

  close(): void {
    for (const connection of this.#connections) duckdb.disconnect_sync(connection.raw)
    this.#connections.clear()
    duckdb.close_sync(this.#database)
  }
}

/** Runs tasks one after the other. */
export class Mutex {
  #tail: Promise<unknown> = Promise.resolve()

  run<T>(task: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(task, task)
    this.#tail = mine.catch(() => undefined)
    return mine
  }
}

function openError(directory: string, cause: unknown): Error {
  const text = messageOf(cause)
  if (/conflicting lock|could not set lock/i.test(text)) {
    return new PermanentError('ADDRESS_IN_USE', `another process has the store in ${directory} open`, {
      cause,
    })
  }
  if (isFull(cause))
    return new RetryableError('DISK_FULL', `no space for the store in ${directory}`, { cause })
  if (/permission denied/i.test(text)) {
    return new PermanentError('PERMISSION_DENIED', `the store in ${directory} may not be opened`, { cause })
  }
  return new PermanentError('DATA_CORRUPTED', `the store in ${directory} cannot be opened`, { cause })
}

const fullPattern = /no space left|disk quota|file too large|ENOSPC|EDQUOT|EFBIG|max_temp_directory_size/i

export const isFull = (error: unknown): boolean => fullPattern.test(messageOf(error))

/** DuckDB refuses everything after such an error, until it is opened again. */
export const isFatal = (error: unknown): boolean =>
  /FATAL|database has been invalidated|INTERNAL Error|(was|has been) closed|failed to (commit|rollback)/i.test(
    messageOf(error),
  )
