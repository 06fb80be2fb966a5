// Schemas for what many configurations hold: durations, sizes, addresses, secrets. Text with a unit becomes a
// number once, here at the border.
import { readFileSync } from 'node:fs'
import * as z from 'zod'
import { PermanentError } from './errors.ts'

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}
const sizeUnits: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
}

/** `1h30m`, `15s`, `250ms` → milliseconds; undefined where it is no duration. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/.test(text)) return undefined
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/g)) {
    total += Number(amount) * (durationUnits[unit ?? ''] ?? 0)
  }
  return total
}

/** `64MiB`, `1GB`, `512B` → bytes; undefined where it is no size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s?([kKMGT]i?B|B)$/.exec(text)
  const unit = match && sizeUnits[match[2] ?? '']
  return match && unit ? Math.round(Number(match[1]) * unit) : undefined
}

/** Milliseconds, written with a unit: `15s`, `100ms`, `1h30m`, or 0. */
export const duration = z
  .union([z.string(), z.literal(0)], { error: 'expected a duration such as 15s, 250ms or 1h' })
  .transform((value, context) => {
    const parsed = parseDuration(String(value))
    if (parsed !== undefined) return parsed
    context.issues.push({
      code: 'custom',
      input: value,
      message: 'expected a duration such as 15s, 250ms or 1h',
    })
    return z.NEVER
  })
  .meta({ title: 'duration' })

/** Bytes, written with a unit: `64MiB`, `1GB`, `512B`. */
export const size = z
  .string()
  .transform((value, context) => {
    const parsed = parseSize(value)
    if (parsed !== undefined) return parsed
    context.issues.push({
      code: 'custom',
      input: value,
      message: 'expected a size such as 64MiB, 1GB or 512B',
    })
    return z.NEVER
  })
  .meta({ title: 'size' })

export interface Address {
  host: string
  port: number
}

/** `host:port`, `[::1]:5514` or `:5514`; the host is empty when it was left out. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^:[\]/\s]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  return match && port <= 65_535 ? { host: match[1] ?? match[2] ?? '', port } : undefined
}

/** An address to listen on or connect to: `127.0.0.1:5514`, `[::1]:5514`. */
export const address = z
  .string()
  .transform((value, context) => {
    const parsed = parseAddress(value)
    if (parsed) return parsed
    context.issues.push({
      code: 'custom',
      input: value,
      message: 'expected host:port, such as 127.0.0.1:5514 or [::1]:5514',
    })
    return z.NEVER
  })
  .meta({ title: 'address' })

/** A secret that no log, error or dump can show; `reveal` reads it when it is needed. */
export class Secret {
  readonly #read: () => string
  /** Where it comes from, such as `file /run/secrets/bmc`; safe to show. */
  readonly origin: string
  constructor(origin: string, read: () => string) {
    this.origin = origin
    this.#read = read
  }
  /** @throws PermanentError CREDENTIAL_MISSING where the file or variable is absent. */
  reveal(): string {
    try {
      return this.#read()
    } catch (cause) {
      throw new PermanentError('CREDENTIAL_MISSING', `the secret from ${this.origin} cannot be read`, {
        cause,
      })
    }
  }
  toString(): string {
    return '[redacted]'
  }
  toJSON(): string {
    return '[redacted]'
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[redacted]'
  }
}

/** `{ file: /run/secrets/bmc }` or `{ env: BMC_PASSWORD }`: never the secret itself. */
export const secret = z
  .union(
    [
      z.strictObject({ file: z.string().describe('Path of the file that holds the secret.') }),
      z.strictObject({ env: z.string().describe('Name of the environment variable that holds the secret.') }),
    ],
    { error: 'expected { file: PATH } or { env: NAME }; a secret is never written into the configuration' },
  )
  .transform((from) => {
    if ('file' in from) {
      return new Secret(`file ${from.file}`, () => readFileSync(from.file, 'utf8').replace(/\r?\n$/, ''))
    }
    return new Secret(`environment variable ${from.env}`, () => {
      const value = process.env[from.env]
      if (value === undefined) throw new Error(`${from.env} is not set`)
      return value
    })
  })
  .meta({ title: 'secret' })

/** TLS for a listener (cert and key needed) or a client (all optional). PEM files. */
export const tls = z.strictObject({
  ca: z.string().optional().describe('File with the certificate authorities to trust.'),
  cert: z.string().optional().describe('File with our certificate chain.'),
  key: z.string().optional().describe('File with our private key.'),
  verify: z.boolean().default(true).describe('Check the certificate of the peer.'),
  server_name: z.string().optional().describe('Name to expect in the certificate of the server.'),
})
