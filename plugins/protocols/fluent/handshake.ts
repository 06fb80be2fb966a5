// The handshake of the forward protocol, where a shared key is configured (specification v1, "Handshake Messages"). The key
// itself never crosses the wire, only SHA-512 over it and what both sides brought.
//
//   server → ["HELO", { nonce, auth, keepalive }]
//   client → ["PING", hostname, salt, sha512_hex(salt + hostname + nonce + key), username, sha512_hex(auth + username + password)]
//   server → ["PONG", accepted, reason, hostname, sha512_hex(salt + hostname + nonce + key)]
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { MalformedPack, PackReader } from './msgpack.ts'
import { PackWriter } from './write.ts'

const digest = (...parts: readonly (string | Uint8Array)[]): string => {
  const hash = createHash('sha512')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

const isEqual = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))

export interface Helo {
  readonly nonce: Buffer
  readonly bytes: Buffer
}

/** What a server begins with. */
export function helo(): Helo {
  const nonce = randomBytes(16)
  const bytes = new PackWriter()
    .array(2)
    .text('HELO')
    .map(3)
    .text('nonce')
    .binary(nonce)
    .text('auth')
    .text('')
    .text('keepalive')
    .value(true)
    .take()
  return { nonce, bytes }
}

/**
 * The server's answer to a PING, and whether its sender knows the key.
 * @throws MalformedPack where it is no PING.
 */
export function pong(
  ping: Buffer,
  { nonce }: Helo,
  key: string,
  hostname: string,
): { accepted: boolean; bytes: Buffer } {
  const reader = new PackReader(ping)
  if (reader.array() !== 6 || reader.string() !== 'PING') throw new MalformedPack('expected PING')
  const client = reader.string()
  reader.text()
  const salt = Buffer.from(reader.bytes.subarray(reader.start, reader.stop))
  const accepted = isEqual(reader.string(), digest(salt, client, nonce, key))
  const bytes = new PackWriter()
    .array(5)
    .text('PONG')
    .value(accepted)
    .text(accepted ? '' : 'shared_key mismatch')
    .text(hostname)
    .text(accepted ? digest(salt, hostname, nonce, key) : '')
    .take()
  return { accepted, bytes }
}

/** The client's answer to a HELO, and how to judge the PONG that follows. */
export function ping(
  heloMessage: Buffer,
  key: string,
  hostname: string,
): { bytes: Buffer; judge: (pongMessage: Buffer) => string | undefined } {
  const nonce = nonceOf(heloMessage)
  const salt = randomBytes(16)
  const bytes = new PackWriter()
    .array(6)
    .text('PING')
    .text(hostname)
    .binary(salt)
    .text(digest(salt, hostname, nonce, key))
    .text('')
    .text('')
    .take()
  const judge = (pongMessage: Buffer): string | undefined => {
    const reader = new PackReader(pongMessage)
    if (reader.array() !== 5 || reader.string() !== 'PONG') return 'it did not answer with PONG'
    const accepted = reader.bytes[reader.position] === 0xc3
    reader.skip()
    const reason = reader.string()
    if (!accepted) return `it refused the shared key: ${reason}`
    const server = reader.string()
    return isEqual(reader.string(), digest(salt, server, nonce, key))
      ? undefined
      : 'it does not know the shared key'
  }
  return { bytes, judge }
}

function nonceOf(message: Buffer): Buffer {
  const reader = new PackReader(message)
  if (reader.array() !== 2 || reader.string() !== 'HELO') throw new MalformedPack('expected HELO')
  let nonce = Buffer.alloc(0)
  for (let pairs = reader.map(); pairs > 0; pairs--) {
    const key = reader.string()
    if (key === 'nonce') {
      reader.text()
      nonce = Buffer.from(reader.bytes.subarray(reader.start, reader.stop))
    } else reader.skip()
  }
  return nonce
}
