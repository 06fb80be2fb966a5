// The writer's own state, kept with the rows: its position and one opaque row per stream. Changes are appended; what
// is outdated is thrown away when it outweighs the rest, since DuckDB updates rows in place at a high price.
import type { Database } from './database.ts'
import type { WriteRequest } from './messages.ts'

const positionKey = ''
const slack = 10_000

export class StateTable {
  #values = new Map<string, Uint8Array>()
  #rows = 0
  #version = 1

  get position(): Record<string, number> {
    const value = this.#values.get(positionKey)
    return value ? (JSON.parse(Buffer.from(value).toString('utf8')) as Record<string, number>) : {}
  }

  /** All but the position. */
  streams(): [string, Uint8Array][] {
    return [...this.#values].filter(([key]) => key !== positionKey)
  }

  async load(database: Database): Promise<void> {
    const rows = await database.rows(
      `SELECT version, key, value FROM state
       QUALIFY row_number() OVER (PARTITION BY key ORDER BY version DESC) = 1`,
    )
    this.#values = new Map()
    for (const [version, key, value] of rows) {
      this.#version = Math.max(this.#version, Number(version) + 1)
      if (value !== null) this.#values.set(String(key), (value as { bytes: Uint8Array }).bytes)
    }
    const [[count] = []] = await database.rows('SELECT count(*) FROM state')
    this.#rows = Number(count)
  }

  async save(database: Database, { position, streams }: WriteRequest): Promise<void> {
    const changes: (readonly [string, Uint8Array | undefined])[] = [
      [positionKey, Buffer.from(JSON.stringify(position))],
      ...streams,
    ]
    const outdated = this.#rows + changes.length > slack + 4 * (this.#values.size + changes.length)
    if (outdated) await database.run('DELETE FROM state')
    const rows = outdated ? new Map([...this.#values, ...changes]) : changes
    const appender = await database.writer.sql.createAppender('state')
    for (const [key, value] of rows) {
      appender.appendBigInt(BigInt(this.#version))
      appender.appendVarchar(key)
      if (value) appender.appendBlob(value)
      else appender.appendNull()
      appender.endRow()
    }
    appender.closeSync()
  }

  saved({ position, streams }: WriteRequest): void {
    const before = this.#values.size
    const changes = streams.length + 1
    const outdated = this.#rows + changes > slack + 4 * (before + changes)
    this.#version++
    this.#values.set(positionKey, Buffer.from(JSON.stringify(position)))
    for (const [key, value] of streams) {
      if (value) this.#values.set(key, value)
      else this.#values.delete(key)
    }
    this.#rows = outdated ? before + changes : this.#rows + changes
  }
}
