// Which segments there are: hot tables and sealed files, with the times that they span. The list in memory is what
// queries go by; the table `segments` is what a restart goes by.
import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Class } from '../../plugins/contract/signal.ts'
import type { Database } from './database.ts'
import { filesDirectory, hotTable, quoted } from './schema.ts'

export type StoredSignal = 'logs' | 'metrics'

export interface Segment {
  readonly id: number
  readonly signal: StoredSignal
  readonly class: Class
  /** `open` takes rows, `closed` waits to be sealed, `sealed` is a file. */
  state: 'open' | 'closed' | 'sealed'
  /** Name in the directory of files; of sealed ones. */
  file: string | undefined
  /** A file that DuckDB could not read: left out of queries, its batches are damaged. */
  unreadable: boolean
  rows: number
  /** Of the file; of a hot table an estimate. */
  bytes: number
  /** Effective times and arrivals, ns as doubles; compare with `marginNano`. */
  atFrom: number
  atTo: number
  arrivalFrom: number
  arrivalTo: number
}

/** Times as doubles are exact to a microsecond; comparisons allow for it. */
export const marginNano = 1024

export class Segments {
  readonly #directory: string
  #list: Segment[] = []
  #next = 1

  constructor(directory: string) {
    this.#directory = filesDirectory(directory)
  }

  get all(): readonly Segment[] {
    return this.#list
  }

  reserve(): number {
    return this.#next++
  }

  add(segment: Segment): void {
    this.#list = [...this.#list, segment]
  }

  remove(segment: Segment): void {
    this.#list = this.#list.filter((each) => each !== segment)
  }

  path(segment: Segment): string {
    return join(this.#directory, segment.file ?? '')
  }

  readable(segment: Segment): boolean {
    return segment.state !== 'sealed' || (!segment.unreadable && existsSync(this.path(segment)))
  }

  /** Those with rows that may have an effective time in [from, to), of one signal. */
  within(signal: StoredSignal, from: number, to: number): Segment[] {
    return this.#list.filter(
      (each) =>
        each.signal === signal &&
        each.rows > 0 &&
        each.atTo + marginNano >= from &&
        each.atFrom - marginNano < to &&
        this.readable(each),
    )
  }

  /** One relation over all given segments, with these columns. */
  relation(segments: readonly Segment[], columns: string): string {
    const parts = segments
      .filter((each) => each.state !== 'sealed')
      .map((each) => `SELECT ${columns} FROM ${hotTable(each.id)}`)
    const files = segments.filter((each) => each.state === 'sealed').map((each) => quoted(this.path(each)))
    if (files.length > 0) parts.push(`SELECT ${columns} FROM read_parquet([${files.join(', ')}])`)
    return `(${parts.join(' UNION ALL ')})`
  }

  /** Reads the manifest, measures the hot tables, and removes files that no transaction ever named. */
  async load(database: Database, limits: Readonly<Record<StoredSignal, number>>): Promise<void> {
    const rows = await database.rows(
      `SELECT id, signal, class, file, rows, bytes, at_from, at_to, arrival_from, arrival_to
       FROM segments ORDER BY id`,
    )
    this.#list = rows.map(([id, signal, name, file, count, bytes, ...times]) => ({
      id: Number(id),
      signal: signal as StoredSignal,
      class: name as Class,
      state: file === null ? 'closed' : 'sealed',
      file: file === null ? undefined : String(file),
      unreadable: false,
      rows: Number(count),
      bytes: Number(bytes),
      atFrom: Number(times[0]),
      atTo: Number(times[1]),
      arrivalFrom: Number(times[2]),
      arrivalTo: Number(times[3]),
    }))
    this.#next = 1 + Math.max(0, ...this.#list.map((each) => each.id))
    const open = new Map<string, Segment>()
    for (const segment of this.#list) {
      if (segment.state === 'sealed') continue
      await measure(database, segment)
      open.set(`${segment.signal}/${segment.class}`, segment)
    }
    for (const segment of open.values()) {
      if (segment.rows < limits[segment.signal]) segment.state = 'open'
    }
    await this.#removeOrphans()
  }

  /** What a crash left: files that were being written, or whose transaction did not commit, or was the removal. */
  async #removeOrphans(): Promise<void> {
    const known = new Set(this.#list.map((each) => each.file))
    for (const name of await readdir(this.#directory)) {
      if (!known.has(name)) await rm(join(this.#directory, name), { force: true })
    }
  }
}

export const emptySegment = (id: number, signal: StoredSignal, name: Class): Segment => ({
  id,
  signal,
  class: name,
  state: 'open',
  file: undefined,
  unreadable: false,
  rows: 0,
  bytes: 0,
  atFrom: Infinity,
  atTo: -Infinity,
  arrivalFrom: Infinity,
  arrivalTo: -Infinity,
})

async function measure(database: Database, segment: Segment): Promise<void> {
  const [[rows, from, to, arrivalFrom, arrivalTo] = []] = await database.rows(
    `SELECT count(*), min(ts), max(ts), min(arrival), max(arrival) FROM ${hotTable(segment.id)}`,
  )
  segment.rows = Number(rows)
  segment.bytes = segment.rows * hotRowBytes[segment.signal]
  if (segment.rows === 0) return
  segment.atFrom = Number(from)
  segment.atTo = Number(to)
  segment.arrivalFrom = Number(arrivalFrom)
  segment.arrivalTo = Number(arrivalTo)
}

/** Measured: what a row takes in DuckDB's own file, bodies of 100 bytes and six attributes. */
export const hotRowBytes = { logs: 400, metrics: 40 } as const
