// InfluxDB's answers as they stream in: CSV (RFC 4180) cut into rows, whatever the borders of the chunks.
import { StringDecoder } from 'node:string_decoder'

/** No cell is larger; what is beyond is no answer to a question of ours. */
const cellLimit = 128 * 1024 * 1024

export class CsvRows {
  readonly #decoder = new StringDecoder('utf8')
  #text = ''

  /** The last row, where the answer did not end with a line feed. */
  finish(): Iterable<string[]> {
    return this.#text === '' ? [] : this.push(Buffer.from('\n'))
  }

  /** The rows that are complete with this chunk; empty lines are left out. */
  *push(chunk: Uint8Array): Generator<string[]> {
    const more = this.#decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    this.#text += more
    if (this.#text.length > cellLimit) throw new RangeError('a row of the answer is too large')
    // A long row comes in many chunks: it is not read again with each.
    if (!more.includes('\n')) return
    const text = this.#text
    let begin = 0
    for (;;) {
      const row: string[] = []
      const end = readRow(text, begin, row)
      if (end < 0) break
      begin = end
      if (row.length > 1 || row[0] !== '') yield row
    }
    this.#text = text.slice(begin)
  }
}

/** Reads one row at `begin` into `row`; where the next one begins, or -1 where the text ends within it. */
function readRow(text: string, begin: number, row: string[]): number {
  let at = begin
  for (;;) {
    if (text.charCodeAt(at) === 0x22) {
      at = readQuoted(text, at + 1, row)
      if (at < 0) return -1
    } else {
      let end = at
      let code = text.charCodeAt(end)
      while (end < text.length && code !== 0x2c && code !== 0x0a) code = text.charCodeAt(++end)
      if (end >= text.length) return -1
      row.push(text.slice(at, code === 0x0a && text.charCodeAt(end - 1) === 0x0d ? end - 1 : end))
      at = end
    }
    const separator = text.charCodeAt(at)
    if (separator === 0x0d) at++
    else if (separator === 0x2c) {
      at++
      continue
    }
    return at < text.length ? at + 1 : -1
  }
}

/** The quoted cell whose text begins at `begin`; where its closing quote is passed, or -1. */
function readQuoted(text: string, begin: number, row: string[]): number {
  let cell = ''
  let from = begin
  for (;;) {
    const quote = text.indexOf('"', from)
    // A quote at the very end may be the first of two.
    if (quote < 0 || quote + 1 >= text.length) return -1
    if (text.charCodeAt(quote + 1) !== 0x22) {
      row.push(cell + text.slice(from, quote))
      return quote + 1
    }
    cell += text.slice(from, quote + 1)
    from = quote + 2
  }
}
