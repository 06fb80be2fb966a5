// Compression: what went in comes out, whatever it is; damage and bombs are refused by name.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import {
  compress,
  compressSync,
  compressionOf,
  compressions,
  decompress,
  decompressSync,
} from '../../../plugins/protocols/compression.ts'
import { PermanentError } from '../../../plugins/contract/errors.ts'

const codeFrom = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    return error instanceof PermanentError ? error.code : String(error)
  }
  return 'nothing thrown'
}

describe('compression', () => {
  test.each(compressions)('%s gives back what went in, and is told by its first bytes', async (name) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 4000 }), async (data) => {
        // A request never begins with the mark of a compression.
        const bytes = Buffer.concat([Buffer.of(0x0a), data])
        const packed = await compress(bytes, name)
        expect(compressionOf(packed)).toBe(name)
        expect(compressionOf(compressSync(bytes, name))).toBe(name)
        expect(Buffer.compare(await decompress(packed, bytes.length), bytes)).toBe(0)
        expect(Buffer.compare(decompressSync(packed, bytes.length), bytes)).toBe(0)
      }),
      { numRuns: 50 },
    )
  })

  test.each(compressions)('one byte more than allowed is refused for %s', async (name) => {
    const packed = compressSync(Buffer.alloc(1001, 10), name)
    expect(codeFrom(() => decompressSync(packed, 1000))).toBe('INPUT_TOO_LARGE')
    await expect(decompress(packed, 1000)).rejects.toMatchObject({ code: 'INPUT_TOO_LARGE' })
    expect(decompressSync(packed, 1001).length).toBe(1001)
  })

  test('a bomb of 64 MiB in a few KiB is refused without being unpacked', () => {
    const zeros = Buffer.alloc(64 * 1024 * 1024)
    for (const bomb of [zstdCompressSync(zeros), gzipSync(zeros)]) {
      expect(bomb.length).toBeLessThan(100_000)
      expect(codeFrom(() => decompressSync(bomb, 1024 * 1024))).toBe('INPUT_TOO_LARGE')
    }
  })

  test.each(['zstd', 'gzip'] as const)(
    '%s that is cut off or damaged is refused as invalid',
    async (name) => {
      const packed = Buffer.from(compressSync(Buffer.from('temperature '.repeat(50)), name))
      for (let size = 4; size < packed.length; size++) {
        expect(codeFrom(() => decompressSync(packed.subarray(0, size), 10_000))).toBe('INPUT_INVALID')
      }
      await expect(decompress(packed.subarray(0, packed.length - 3), 10_000)).rejects.toMatchObject({
        code: 'INPUT_INVALID',
      })
    },
  )
})
