// Compression of batches on the wire and on disk. The first bytes tell which one it is, so that no reader needs
// to be told; what comes out is bounded, so that a small message cannot fill the memory.
import { promisify } from 'node:util'
import {
  constants,
  gunzip,
  gunzipSync,
  gzip,
  gzipSync,
  zstdCompress,
  zstdCompressSync,
  zstdDecompress,
  zstdDecompressSync,
} from 'node:zlib'
import { PermanentError } from '../contract/errors.ts'

export const compressions = ['zstd', 'gzip', 'none'] as const
export type Compression = (typeof compressions)[number]

// Level 1 of both: smaller zstd levels gain a tenth of the size for several times the CPU.
const zstdOptions = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }
const gzipOptions = { level: 1 }
const usualChunk = 16 * 1024
const smallestChunk = 256

const asyncZstd = promisify(zstdCompress)
const asyncGzip = promisify(gzip)
const asyncUnzstd = promisify(zstdDecompress)
const asyncGunzip = promisify(gunzip)

/**
 * So many at once: until it is whole nobody knows how much comes out, and each may be as large as `maxBytes`, so a few
 * hundred small messages that begin together would otherwise fill the memory.
 */
const mostAtOnce = 2
let running = 0
const waiting: (() => void)[] = []

/**
 * How bytes are compressed, by their first bytes: `28 B5 2F FD` zstd (RFC 8878), `1F 8B` gzip (RFC 1952). No
 * protobuf request begins like either: 0x28 would be a varint field 5, 0x1F has wire type 7.
 */
export function compressionOf(bytes: Uint8Array): Compression {
  if (bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd) return 'zstd'
  return bytes[0] === 0x1f && bytes[1] === 0x8b ? 'gzip' : 'none'
}

export async function compress(bytes: Uint8Array, compression: Compression): Promise<Uint8Array> {
  if (compression === 'none') return bytes
  return compression === 'zstd' ? asyncZstd(bytes, zstdOptions) : asyncGzip(bytes, gzipOptions)
}

/** For batches of a few hundred KiB, where handing over to a thread costs more than the work. */
export function compressSync(bytes: Uint8Array, compression: Compression): Uint8Array {
  if (compression === 'none') return bytes
  // Room for what comes out, of which there is seldom more than what goes in; zstd makes its tables no larger either.
  const chunkSize = Math.min(usualChunk, Math.max(smallestChunk, bytes.length))
  return compression === 'zstd'
    ? zstdCompressSync(bytes, { ...zstdOptions, chunkSize, pledgedSrcSize: bytes.length })
    : gzipSync(bytes, { ...gzipOptions, chunkSize })
}

/**
 * The bytes, bare; what is not compressed comes back as it is.
 * @throws PermanentError INPUT_TOO_LARGE where more than `maxBytes` would come out, INPUT_INVALID where the
 * compressed bytes are damaged.
 */
export async function decompress(bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  const compression = checkBare(bytes, maxBytes)
  if (compression === 'none') return bytes
  // Whoever leaves hands the place on, so that nobody comes in between.
  if (running < mostAtOnce) running++
  else await new Promise<void>((resolve) => void waiting.push(resolve))
  try {
    // Each chunk is a trip to a thread and back: sixteen times fewer of them than by default.
    const options = { maxOutputLength: maxBytes, chunkSize: 256 * 1024 }
    return await (compression === 'zstd' ? asyncUnzstd(bytes, options) : asyncGunzip(bytes, options))
  } catch (cause) {
    throw failure(compression, bytes.length, maxBytes, cause)
  } finally {
    const next = waiting.shift()
    if (next) next()
    else running--
  }
}

/** @throws PermanentError as `decompress`. */
export function decompressSync(bytes: Uint8Array, maxBytes: number): Uint8Array {
  const compression = checkBare(bytes, maxBytes)
  if (compression === 'none') return bytes
  try {
    // Most batches fit one chunk, which halves the time: no parts to join.
    const options = { maxOutputLength: maxBytes, chunkSize: 256 * 1024 }
    return compression === 'zstd' ? zstdDecompressSync(bytes, options) : gunzipSync(bytes, options)
  } catch (cause) {
    throw failure(compression, bytes.length, maxBytes, cause)
  }
}

function checkBare(bytes: Uint8Array, maxBytes: number): Compression {
  const compression = compressionOf(bytes)
  if (compression === 'none' && bytes.length > maxBytes) {
    throw new PermanentError('INPUT_TOO_LARGE', `${bytes.length} bytes where at most ${maxBytes} are allowed`)
  }
  return compression
}

function failure(compression: Compression, size: number, maxBytes: number, cause: unknown): PermanentError {
  if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
    return new PermanentError(
      'INPUT_TOO_LARGE',
      `${size} bytes of ${compression} hold more than the ${maxBytes} bytes that are allowed`,
      { cause },
    )
  }
  return new PermanentError('INPUT_INVALID', `damaged ${compression} of ${size} bytes`, { cause })
}
