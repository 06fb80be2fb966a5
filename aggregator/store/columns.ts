// Rows on their way into DuckDB: column buffers of one data chunk (2048 rows), appended without a call per value.
//
// Strings: DuckDB's string_t (duckdb.h, duckdb_string_t) is 16 bytes, little-endian:
//   length u32 | up to 12 bytes inlined          for length <= 12
//   length u32 | first 4 bytes | address u64     otherwise
// All strings of a chunk lie in one slab. The slab is copied once into a vector of DuckDB's, whose address is then
// known; the string_t's are written here, with addresses into that copy. The appender copies what they point to, so
// the copy need not outlive `append`. A call of `vector_assign_string_element_len` per string cost twice as much.
import { isUtf8 } from 'node:buffer'
import duckdb from '@duckdb/node-bindings'
import { Writer } from '../../plugins/contract/wire.ts'

export type ColumnType = 'bigint' | 'ubigint' | 'double' | 'uinteger' | 'integer' | 'utinyint' | 'text'

/** Column names in the order of the table, with their types. */
export type Layout = Readonly<Record<string, ColumnType>>

const { Type } = duckdb
const idOf = {
  bigint: Type.BIGINT,
  ubigint: Type.UBIGINT,
  double: Type.DOUBLE,
  uinteger: Type.UINTEGER,
  integer: Type.INTEGER,
  utinyint: Type.UTINYINT,
  text: Type.VARCHAR,
} as const
const widthOf = {
  bigint: 8,
  ubigint: 8,
  double: 8,
  uinteger: 4,
  integer: 4,
  utinyint: 1,
  text: 16,
} as const

export const chunkRows = 2048
const slabLimit = 8 * 1024 * 1024
const two32 = 4_294_967_296

export const createTableSql = (name: string, layout: Layout): string =>
  `CREATE TABLE ${name} (${Object.entries(layout)
    .map(([column, type]) => `${column} ${type === 'text' ? 'VARCHAR' : type.toUpperCase()} NOT NULL`)
    .join(', ')})`

/** Strings of one column: extents of the slab. */
export interface TextColumn {
  readonly starts: Uint32Array
  readonly lengths: Uint32Array
}

/** One chunk being filled. Fill every column of row `rows`, then count `rows` up. */
export class Chunk {
  rows = 0
  /** What all strings of the chunk lie in. */
  readonly slab = new Writer(256 * 1024)
  readonly #layout: readonly ColumnType[]
  readonly #buffers: ArrayBuffer[]
  readonly #texts: (TextColumn | undefined)[]
  readonly #chunk: duckdb.DataChunk
  readonly #scratch: duckdb.DataChunk

  constructor(layout: Layout) {
    this.#layout = Object.values(layout)
    this.#buffers = this.#layout.map((type) => new ArrayBuffer(chunkRows * widthOf[type]))
    this.#texts = this.#layout.map((type) =>
      type === 'text'
        ? { starts: new Uint32Array(chunkRows), lengths: new Uint32Array(chunkRows) }
        : undefined,
    )
    this.#chunk = duckdb.create_data_chunk(this.#layout.map((type) => duckdb.create_logical_type(idOf[type])))
    this.#scratch = duckdb.create_data_chunk([duckdb.create_logical_type(Type.BLOB)])
  }

  /** 64-bit integers as pairs of low and high half. */
  words(column: number): Uint32Array {
    return new Uint32Array(this.#buffer(column))
  }
  integers(column: number): Int32Array {
    return new Int32Array(this.#buffer(column))
  }
  doubles(column: number): Float64Array {
    return new Float64Array(this.#buffer(column))
  }
  bytes(column: number): Uint8Array {
    return new Uint8Array(this.#buffer(column))
  }
  text(column: number): TextColumn {
    const text = this.#texts[column]
    if (!text) throw new RangeError(`column ${column} is no text`)
    return text
  }

  #buffer(column: number): ArrayBuffer {
    const buffer = this.#buffers[column]
    if (!buffer) throw new RangeError(`there is no column ${column}`)
    return buffer
  }

  get full(): boolean {
    return this.rows >= chunkRows || this.slab.position >= slabLimit
  }

  /** Forgets the rows. */
  clear(): void {
    this.rows = 0
    this.slab.reset()
  }

  append(appender: duckdb.Appender): void {
    const { rows } = this
    if (rows === 0) return
    duckdb.data_chunk_reset(this.#chunk)
    duckdb.data_chunk_reset(this.#scratch)
    if (this.#texts.some(Boolean)) this.#fillStrings()
    for (const [column, type] of this.#layout.entries()) {
      const vector = duckdb.data_chunk_get_vector(this.#chunk, column)
      duckdb.copy_data_to_vector(vector, 0, this.#buffer(column), 0, rows * widthOf[type])
    }
    duckdb.data_chunk_set_size(this.#chunk, rows)
    duckdb.append_data_chunk(appender, this.#chunk)
    this.clear()
  }

  #fillStrings(): void {
    this.#repairText()
    const { slab, rows } = this
    const vector = duckdb.data_chunk_get_vector(this.#scratch, 0)
    // Never inlined: an inlined slab would have no address.
    while (slab.position < 16) slab.byte(0)
    duckdb.vector_assign_string_element_len(vector, 0, slab.buffer.subarray(0, slab.position))
    const head = duckdb.vector_get_data(vector, 16)
    const view = new DataView(head.buffer, head.byteOffset, 16)
    const baseLow = view.getUint32(8, true)
    const baseHigh = view.getUint32(12, true)
    const { buffer } = slab
    for (const [column, text] of this.#texts.entries()) {
      if (!text) continue
      const out = new Uint32Array(this.#buffer(column))
      const { starts, lengths } = text
      for (let row = 0; row < rows; row++) {
        const length = lengths[row] ?? 0
        const start = starts[row] ?? 0
        const at = row * 4
        out[at] = length
        out[at + 1] = wordAt(buffer, start, length)
        if (length > 12) {
          const low = baseLow + start
          out[at + 2] = low
          out[at + 3] = low >= two32 ? baseHigh + 1 : baseHigh
        } else {
          out[at + 2] = wordAt(buffer, start + 4, length - 4)
          out[at + 3] = wordAt(buffer, start + 8, length - 8)
        }
      }
    }
  }

  /**
   * DuckDB's functions assume valid UTF-8, and a peer may send anything. A valid slab of which no piece begins with
   * a continuation byte has only valid pieces; otherwise each is looked at, and repaired with U+FFFD.
   */
  #repairText(): void {
    const { slab, rows } = this
    let valid = isUtf8(slab.buffer.subarray(0, slab.position))
    for (const text of this.#texts) {
      if (!valid || !text) continue
      for (let row = 0; row < rows; row++) {
        const first = slab.buffer[text.starts[row] ?? 0] ?? 0
        if ((first & 0xc0) === 0x80 && (text.lengths[row] ?? 0) > 0) valid = false
      }
    }
    if (valid) return
    for (const text of this.#texts) {
      if (!text) continue
      for (let row = 0; row < rows; row++) {
        const start = text.starts[row] ?? 0
        const piece = slab.buffer.subarray(start, start + (text.lengths[row] ?? 0))
        if (isUtf8(piece)) continue
        const repaired = Buffer.from(piece.toString('utf8'))
        text.starts[row] = slab.position
        text.lengths[row] = repaired.length
        slab.raw(repaired)
      }
    }
  }
}

/** Up to four bytes as a little-endian word. */
function wordAt(buffer: Buffer, start: number, length: number): number {
  if (length <= 0) return 0
  let word = buffer[start] ?? 0
  if (length > 1) word |= (buffer[start + 1] ?? 0) << 8
  if (length > 2) word |= (buffer[start + 2] ?? 0) << 16
  if (length > 3) word |= (buffer[start + 3] ?? 0) << 24
  return word
}
