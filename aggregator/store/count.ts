// What the store holds of each stream, counted from the rows themselves and compared with what was written. Sealed
// files do not change, so each is counted once and again only when its size or time differs.
import { stat } from 'node:fs/promises'
import { parseStreamKey } from '../../plugins/contract/batch.ts'
import type { Row } from './database.ts'
import { fileInError } from './runner.ts'
import type { QueryContext } from './runner.ts'
import { hotTable, quoted } from './schema.ts'
import type { Segment, Segments } from './segments.ts'
import type { StreamCount } from './store.ts'

/** Most damaged batches that are named for one stream of one segment. */
const namedLimit = 10_000

interface Counted {
  /** Rows found, by stream. */
  readonly found: ReadonlyMap<number, number>
  readonly damaged: readonly { stream: number; seq: number; written: number; found: number }[]
}

interface Total {
  stored: number
  kept: number
  rejected: number
  damaged: { seq: number; written: number; found: number }[]
}

export class Counter {
  readonly #segments: Segments
  readonly #counted = new Map<number, { print: string; counted: Counted }>()

  constructor(segments: Segments) {
    this.#segments = segments
  }

  async count(context: QueryContext, device: string | undefined): Promise<StreamCount[]> {
    const segments = this.#segments.all
    const totals = new Map<number, Total>()
    const totalOf = (stream: number) => {
      let total = totals.get(stream)
      if (!total) totals.set(stream, (total = { stored: 0, kept: 0, rejected: 0, damaged: [] }))
      return total
    }
    for (const segment of segments) {
      const { found, damaged } = await this.countSegment(context, segment)
      for (const [stream, rows] of found) {
        const total = totalOf(stream)
        total.stored += rows
        total.kept += rows
      }
      for (const { stream, ...batch } of damaged) totalOf(stream).damaged.push(batch)
    }
    for (const [stream, removed, rejected] of await context.rows(
      'SELECT stream, removed, rejected FROM tally',
    )) {
      const total = totalOf(Number(stream))
      total.stored += Number(removed)
      total.rejected += Number(rejected)
    }
    const names = await context.rows('SELECT id, name FROM streams')
    const counts: StreamCount[] = []
    for (const [id, name] of names) {
      const total = totals.get(Number(id))
      const stream = String(name)
      if (!total || (device !== undefined && parseStreamKey(stream).device !== device)) continue
      total.damaged.sort((a, b) => a.seq - b.seq)
      counts.push({ stream, ...total })
    }
    return counts
  }

  /** Rows of one segment, whatever became of its file. */
  async countSegment(context: QueryContext, segment: Segment): Promise<Counted> {
    if (segment.state !== 'sealed') return query(context, segment.id, hotTable(segment.id))
    const path = this.#segments.path(segment)
    const print = await fingerprint(path)
    const known = this.#counted.get(segment.id)
    if (known?.print === print) return known.counted
    const counted = await this.#countFile(context, segment, print === '' ? undefined : path)
    this.#counted.set(segment.id, { print, counted })
    return counted
  }

  forget(segment: Segment): void {
    this.#counted.delete(segment.id)
  }

  async #countFile(context: QueryContext, segment: Segment, path: string | undefined): Promise<Counted> {
    const nothing = '(SELECT 0::UINTEGER AS stream, 0::BIGINT AS seq WHERE false)'
    if (path === undefined) return query(context, segment.id, nothing)
    try {
      const counted = await query(context, segment.id, `read_parquet(${quoted(path)})`)
      segment.unreadable = false
      return counted
    } catch (error) {
      // Only a file that is itself broken counts as empty; being short of memory does not make it so.
      if (fileInError(error) !== segment.file) throw error
      segment.unreadable = true
      return query(context, segment.id, nothing)
    }
  }
}

async function query(context: QueryContext, segment: number, source: string): Promise<Counted> {
  const rows: Row[] = await context.rows(`
    WITH pairs AS (
      SELECT stream, seq, coalesce(b.written, 0) AS written, coalesce(r.found, 0) AS found
      FROM (SELECT stream, seq, sum(written)::BIGINT AS written FROM batches WHERE segment = ${segment}
            GROUP BY stream, seq) b
      FULL JOIN (SELECT stream, seq, count(*) AS found FROM ${source} GROUP BY stream, seq) r USING (stream, seq))
    SELECT stream, NULL::BIGINT, 0::BIGINT, sum(found)::BIGINT FROM pairs GROUP BY stream
    UNION ALL (SELECT stream, seq, written, found FROM pairs WHERE written <> found LIMIT ${namedLimit})`)
  const found = new Map<number, number>()
  const damaged: { stream: number; seq: number; written: number; found: number }[] = []
  for (const [stream, seq, written, count] of rows) {
    if (seq === null) found.set(Number(stream), Number(count))
    else {
      damaged.push({
        stream: Number(stream),
        seq: Number(seq),
        written: Number(written),
        found: Number(count),
      })
    }
  }
  return { found, damaged }
}

/** What tells whether a file was touched; empty where there is none. */
async function fingerprint(path: string): Promise<string> {
  try {
    const { size, mtimeNs, ino } = await stat(path, { bigint: true })
    return `${size}/${mtimeNs}/${ino}`
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}
