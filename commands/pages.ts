// Pages arrive newest first and are printed oldest first, however many there are: a stack of texts that goes to an
// unlinked temporary file once it is bigger than memory should hold.
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'

const mostInMemory = 64 * 1024 * 1024

// Where a page lies in the file.
interface Place {
  offset: number
  bytes: number
}

export interface Pages extends Disposable {
  push(text: string): void
  /** The last pushed first. */
  drain(): Generator<string>
}

export function createPages(): Pages {
  const held: (Buffer | Place)[] = []
  let total = 0
  let file: number | undefined
  let end = 0

  function spill(page: Buffer): Place {
    if (file === undefined) {
      const path = join(tmpdir(), `dpulse-pages-${randomUUID()}`)
      file = openSync(path, 'wx+', 0o600)
      rmSync(path)
    }
    const offset = end
    for (let written = 0; written < page.length;) {
      written += writeSync(file, page, written, page.length - written, end + written)
    }
    end += page.length
    return { offset, bytes: page.length }
  }

  function load({ offset, bytes }: Place): Buffer {
    const page = Buffer.alloc(bytes)
    for (let read = 0; read < bytes;) {
      const now = readSync(file ?? -1, page, read, bytes - read, offset + read)
      if (now === 0) throw new Error('the temporary file of pages was cut')
      read += now
    }
    return page
  }

  return {
    push(text) {
      const page = Buffer.from(text)
      total += page.length
      held.push(total > mostInMemory ? spill(page) : page)
    },
    *drain() {
      for (let page = held.pop(); page !== undefined; page = held.pop()) {
        yield (Buffer.isBuffer(page) ? page : load(page)).toString()
      }
    },
    [Symbol.dispose]() {
      if (file !== undefined) closeSync(file)
      file = undefined
    },
  }
}
