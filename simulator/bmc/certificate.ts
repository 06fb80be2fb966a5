// A self-signed certificate, made when the simulator starts: node:crypto signs but writes no certificates, so its few fields are
// written here as DER (RFC 5280 §4.1, X.690).
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'

export interface Certificate {
  readonly cert: string
  readonly key: string
}

const tag = {
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
} as const
/** Ids of what is used, as their encoded bytes. */
const oid = {
  commonName: '550403',
  subjectAltName: '551d11',
  subjectKeyId: '551d0e',
  ecdsaWithSha256: '2a8648ce3d040302',
} as const

function der(type: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  const { length } = body
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([type, ...size]), body])
}

const sequence = (...parts: readonly Buffer[]): Buffer => der(tag.sequence, ...parts)
const oidOf = (name: keyof typeof oid): Buffer => der(tag.oid, Buffer.from(oid[name], 'hex'))
const bits = (bytes: Buffer): Buffer => der(tag.bits, Buffer.from([0]), bytes)
const extension = (name: keyof typeof oid, value: Buffer): Buffer =>
  sequence(oidOf(name), der(tag.octets, value))

/** GeneralizedTime, in UTC. */
const timeOf = (ms: number): Buffer =>
  der(0x18, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]|\.\d+Z$/g, '')}Z`))

const yearMs = 365 * 86_400_000

/** For `localhost`, 127.0.0.1 and ::1; valid for ten years, as BMCs' are. */
export function selfSigned(name: string): Certificate {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const nowMs = Date.now()
  const subject = sequence(der(tag.set, sequence(oidOf('commonName'), der(tag.utf8, Buffer.from(name)))))
  const algorithm = sequence(oidOf('ecdsaWithSha256'))
  const serial = randomBytes(16)
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40 // positive, and of full length
  const loopback = Buffer.alloc(16)
  loopback[15] = 1
  const names = sequence(
    der(0x82, Buffer.from('localhost')),
    der(0x87, Buffer.from([127, 0, 0, 1])),
    der(0x87, loopback),
  )
  const keyId = der(tag.octets, createHash('sha1').update(spki).digest())
  const extensions = sequence(extension('subjectAltName', names), extension('subjectKeyId', keyId))
  const content = sequence(
    der(0xa0, der(tag.integer, Buffer.from([2]))),
    der(tag.integer, serial),
    algorithm,
    subject,
    sequence(timeOf(nowMs - 86_400_000), timeOf(nowMs + 10 * yearMs)),
    subject,
    spki,
    der(0xa3, extensions),
  )
  const signed = sequence(content, algorithm, bits(sign('sha256', content, privateKey)))
  const lines = signed.toString('base64').match(/.{1,64}/g) ?? []
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}
