// Numbers for what repeats from row to row: streams, devices, services and Resources. A new number is saved in the
// transaction of the rows that use it, and stays pending until one succeeds.
import { Writer } from '../../plugins/contract/wire.ts'
import { ByteInterner } from './interner.ts'
import { JsonText } from './json-text.ts'
import type { Connection, Database, Row } from './database.ts'

/** Names, all of them in memory: as many as there are devices, or runs of collectors. */
export class Names {
  readonly #ids = new Map<string, number>()
  readonly #table: string
  #next = 1
  #pending: { id: number; name: string }[] = []

  constructor(table: string) {
    this.#table = table
  }

  load(rows: readonly Row[]): void {
    for (const [id, name] of rows) {
      this.#ids.set(String(name), Number(id))
      this.#next = Math.max(this.#next, Number(id) + 1)
    }
  }

  find(name: string): number | undefined {
    return this.#ids.get(name)
  }

  get size(): number {
    return this.#ids.size
  }

  intern(name: string): number {
    const known = this.#ids.get(name)
    if (known !== undefined) return known
    const id = this.#next++
    this.#ids.set(name, id)
    this.#pending.push({ id, name })
    return id
  }

  /** Of a name whose row was removed. Its number is not given to another. */
  forget(name: string): void {
    this.#ids.delete(name)
  }

  async save({ sql }: Connection): Promise<void> {
    if (this.#pending.length === 0) return
    const appender = await sql.createAppender(this.#table)
    for (const { id, name } of this.#pending) {
      appender.appendUInteger(id)
      appender.appendVarchar(name)
      appender.endRow()
    }
    appender.closeSync()
  }

  saved(): void {
    this.#pending = []
  }
}

const serviceLimit = 65_536
const resourceCache = 20_000

/** Services by the bytes of their name. Beyond the limit they are all 0, the nameless: names may be anything. */
export class Services {
  readonly #names = new Names('services')
  readonly #found = new ByteInterner()

  load(rows: readonly Row[]): void {
    this.#names.load(rows)
  }

  intern(bytes: Buffer, start: number, end: number): number {
    if (end <= start) return 0
    const known = this.#found.find(bytes, start, end)
    if (known >= 0) return known
    const name = bytes.toString('utf8', start, end)
    const old = this.#names.find(name)
    if (old === undefined && this.#names.size >= serviceLimit) return 0
    const id = old ?? this.#names.intern(name)
    // Two spellings of invalid UTF-8 may share a name, so this cache has its own limit.
    if (this.#found.size >= 2 * serviceLimit) this.#found.clear()
    this.#found.set(bytes, start, end, id)
    return id
  }

  save(connection: Connection): Promise<void> {
    return this.#names.save(connection)
  }
  saved(): void {
    this.#names.saved()
  }
}

/**
 * Resources by the bytes of their message. The cache is bounded; one that was forgotten gets another number, which
 * costs a row and changes no answer.
 */
export class Resources {
  readonly #found = new ByteInterner()
  readonly #json = new JsonText()
  #next = 1
  #pending: { id: number; attributes: string }[] = []
  /** Numbers given out or used since it was last emptied: none of them may be removed as unused. */
  readonly touched = new Set<number>()

  load(next: number): void {
    this.#next = Math.max(this.#next, next)
  }

  intern(bytes: Buffer, start: number, end: number): number {
    const known = this.#found.find(bytes, start, end)
    if (known >= 0) {
      this.touched.add(known)
      return known
    }
    const text = new Writer(1024)
    this.#json.attributes(text, bytes, start, end, 1)
    const id = this.#next++
    this.#pending.push({ id, attributes: text.buffer.toString('utf8', 0, text.position) })
    if (this.#found.size >= resourceCache) this.#found.clear()
    this.#found.set(bytes, start, end, id)
    this.touched.add(id)
    return id
  }

  /** After rows of the table were removed: what is cached may be gone. */
  forget(): void {
    this.#found.clear()
    this.touched.clear()
  }

  async save({ sql }: Connection): Promise<void> {
    if (this.#pending.length === 0) return
    const appender = await sql.createAppender('resources')
    for (const { id, attributes } of this.#pending) {
      appender.appendUInteger(id)
      appender.appendVarchar(attributes)
      appender.endRow()
    }
    appender.closeSync()
  }
  saved(): void {
    this.#pending = []
  }
}

export interface Dictionaries {
  readonly streams: Names
  readonly devices: Names
  readonly services: Services
  readonly resources: Resources
}

export async function loadDictionaries(database: Database): Promise<Dictionaries> {
  const streams = new Names('streams')
  const devices = new Names('devices')
  const services = new Services()
  const resources = new Resources()
  streams.load(await database.rows('SELECT id, name FROM streams'))
  devices.load(await database.rows('SELECT id, name FROM devices'))
  services.load(await database.rows('SELECT id, name FROM services'))
  const [[next] = []] = await database.rows(
    'SELECT greatest((SELECT coalesce(max(id), 0) FROM resources), (SELECT coalesce(max(resource), 0) FROM series)) + 1',
  )
  resources.load(Number(next))
  return { streams, devices, services, resources }
}
