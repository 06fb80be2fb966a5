// Passwords as configurations hold them: scrypt (RFC 7914) in the PHC string format, never the password itself.
//
//   $scrypt$ln=15,r=8,p=1$<salt>$<hash>        ln is log2 of the cost; salt and hash are base64 without padding
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

const derive = promisify(scrypt) as (
  password: Uint8Array,
  salt: Uint8Array,
  length: number,
  options: { N: number; r: number; p: number; maxmem: number },
) => Promise<Buffer>

const form =
  /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,88})\$([A-Za-z0-9+/]{22,88})$/
/** 32 MiB and some 80 ms for each look at a password. */
const cost = { ln: 15, r: 8, p: 1 }
const saltBytes = 16
const hashBytes = 32
/** What one look may cost, whatever the text asks for. */
const mostMemory = 256 * 1024 * 1024

interface Parts {
  ln: number
  r: number
  p: number
  salt: Buffer
  hash: Buffer
}

/** Undefined where it is no hash, or one that costs too much or too little to be one. */
function partsOf(text: string): Parts | undefined {
  const found = form.exec(text)
  if (!found) return undefined
  const [ln = 0, r = 0, p = 0] = found.slice(1, 4).map(Number)
  if (ln < 14 || r < 1 || p < 1 || p > 16 || memoryOf({ ln, r, p }) > mostMemory) return undefined
  const [salt, hash] = [found[4], found[5]].map((part = '') => Buffer.from(part, 'base64'))
  return salt && hash ? { ln, r, p, salt, hash } : undefined
}

const memoryOf = ({ ln, r, p }: Pick<Parts, 'ln' | 'r' | 'p'>): number => 128 * r * (2 ** ln + p + 2)

export const isPasswordHash = (text: string): boolean => partsOf(text) !== undefined

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64').replace(/=+$/, '')

export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(saltBytes)
  const hash = await derived(Buffer.from(password), { ...cost, salt }, hashBytes)
  return `$scrypt$ln=${cost.ln},r=${cost.r},p=${cost.p}$${base64(salt)}$${base64(hash)}`
}

/** Whether the hash is of this password; takes as long either way. */
export async function fitsPassword(password: Uint8Array, text: string): Promise<boolean> {
  const parts = partsOf(text)
  if (!parts) return false
  return timingSafeEqual(await derived(password, parts, parts.hash.length), parts.hash)
}

const derived = (password: Uint8Array, parts: Omit<Parts, 'hash'>, length: number): Promise<Buffer> => {
  const { ln, r, p, salt } = parts
  return derive(password, salt, length, { N: 2 ** ln, r, p, maxmem: memoryOf(parts) + 1024 * 1024 })
}
