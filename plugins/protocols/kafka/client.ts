// How we speak to Kafka: one client from the settings, zstd through node:zlib, kafkajs' own messages as debug, and its
// errors as ours. kafkajs is loaded by whoever imports this file, which happens only where Kafka is configured.
import { promisify } from 'node:util'
import type { ConnectionOptions } from 'node:tls'
import { readFileSync } from 'node:fs'
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib'
import './tuning.ts'
import kafkajs from 'kafkajs'
import type * as z from 'zod'
import type { ISocketFactory, Kafka, KafkaConfig, LogEntry, SASLOptions } from 'kafkajs'
import type { Log } from '../../contract/define.ts'
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import type { Secret, tls } from '../../contract/settings.ts'

export interface KafkaSettings {
  /** `host:port` each. */
  brokers: readonly string[]
  /** The consumer group of the aggregators, and the beginning of every transactional id. */
  group: string
  /** Before the name of every topic, so that several fleets can share a cluster. */
  prefix: string
  partitions: number
  /** Copies of each partition; as many as there are brokers, at most three, where absent. */
  replication?: number | undefined
  retentionMs: number
  /** Producers that send at once. */
  senders: number
  /** Whether missing topics are made. */
  create: boolean
  tls?: z.output<typeof tls> | undefined
  sasl?:
    | { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: Secret }
    | undefined
  sessionTimeoutMs: number
  /** No other aggregator may share the journal: the store keeps what it knows to itself. */
  alone: boolean
  /** Tests put faults here. */
  socketFactory?: ISocketFactory
}

/** What a fetched record batch may hold once it is unpacked; a peer that packs more into it is not honest. */
const unpackedBytes = 128 * 1024 * 1024
const connectMs = 3000
const requestMs = 10_000

const pack = promisify(zstdCompress)
const unpack = promisify(zstdDecompress)
const level = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }

const { CompressionCodecs, CompressionTypes, Partitioners, logLevel } = kafkajs
export const zstd = CompressionTypes.ZSTD
/** Every message names its partition; without one given, kafkajs prints a notice. */
export const createPartitioner = Partitioners.DefaultPartitioner

/** Of what is expected to come out: mostly one is enough, and there are no parts to join. */
const chunkSize = (expected: number): number => Math.min(Math.max(expected, 16 * 1024), 1024 * 1024)

/** The way to a thread and back costs as much CPU as packing 100 KiB; this much keeps others waiting half a millisecond. */
const packHere = 512 * 1024
const unpackHere = 128 * 1024

CompressionCodecs[zstd] = () => ({
  async compress({ buffer }: { buffer: Buffer }) {
    const options = { ...level, chunkSize: chunkSize(buffer.length / 3) }
    return buffer.length <= packHere ? zstdCompressSync(buffer, options) : pack(buffer, options)
  },
  async decompress(bytes: Buffer) {
    const options = { maxOutputLength: unpackedBytes, chunkSize: chunkSize(bytes.length * 8) }
    return bytes.length <= unpackHere ? zstdDecompressSync(bytes, options) : unpack(bytes, options)
  },
})

/** `kafka://host:port,host:port` → the addresses. @throws PermanentError CONFIG_INVALID */
export function brokersOf(url: string): string[] {
  const brokers = url
    .replace(/^kafka:\/\//, '')
    .replace(/\/$/, '')
    .split(',')
  const bad = brokers.find((broker) => !/^(\[[0-9a-fA-F:.]+\]|[^:[\]/\s,]+):\d{1,5}$/.test(broker))
  if (!url.startsWith('kafka://') || bad !== undefined) {
    throw new PermanentError('CONFIG_INVALID', `--journal ${url}: expected kafka://host:port,host:port`)
  }
  return brokers
}

/** What a connection needs, whoever makes it. */
export type KafkaConnection = Pick<KafkaSettings, 'brokers' | 'tls' | 'sasl' | 'socketFactory'>

export function connectKafka(settings: KafkaConnection, log: Log, clientId = 'dpulse-aggregator'): Kafka {
  const { brokers, sasl, socketFactory } = settings
  const config: KafkaConfig = {
    clientId,
    brokers: [...brokers],
    connectionTimeout: connectMs,
    authenticationTimeout: requestMs,
    requestTimeout: requestMs,
    // Ours is the longer patience; a short one here shows an outage early.
    retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 6, factor: 0.2, multiplier: 2 },
    logLevel: logLevel.INFO,
    logCreator: () => (entry) => tell(log, entry),
    ...(settings.tls && { ssl: tlsOf(settings.tls) }),
    ...(sasl && { sasl: saslOf(sasl) }),
    ...(socketFactory && { socketFactory }),
  }
  return new kafkajs.Kafka(config)
}

/** What needs a person is told by our own code, once; kafkajs tells each attempt. */
function tell(log: Log, { label, namespace, log: entry }: LogEntry): void {
  const { message, timestamp: _timestamp, stack: _stack, ...fields } = entry
  log.debug('kafkajs', { label, namespace, text: message, ...fields })
}

function tlsOf({ ca, cert, key, verify, server_name }: NonNullable<KafkaSettings['tls']>): ConnectionOptions {
  const read = (file: string): Buffer => {
    try {
      return readFileSync(file)
    } catch (cause) {
      throw new PermanentError('CREDENTIAL_MISSING', `${file} cannot be read`, { cause })
    }
  }
  return {
    rejectUnauthorized: verify,
    ...(ca !== undefined && { ca: read(ca) }),
    ...(cert !== undefined && { cert: read(cert) }),
    ...(key !== undefined && { key: read(key) }),
    ...(server_name !== undefined && { servername: server_name }),
  }
}

function saslOf({ mechanism, username, password }: NonNullable<KafkaSettings['sasl']>): SASLOptions {
  return { mechanism, username, password: password.reveal() }
}

const loginRefused = 'KafkaJSSASLAuthenticationError'

interface KafkaFailure {
  name?: string
  code?: string
  type?: string
  retriable?: boolean
  cause?: unknown
}

/** The Kafka error in question, below the wrappers that kafkajs puts around it. */
export function originOf(error: unknown): KafkaFailure & Error {
  let origin = error
  for (let depth = 0; depth < 5 && origin instanceof Error && origin.cause instanceof Error; depth++) {
    origin = origin.cause
  }
  return origin instanceof Error ? origin : new Error(String(origin))
}

const overloaded = new Set([
  'THROTTLING_QUOTA_EXCEEDED',
  'NOT_ENOUGH_REPLICAS',
  'NOT_ENOUGH_REPLICAS_AFTER_APPEND',
])
const refused = new Set([
  'TOPIC_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
  'SASL_AUTHENTICATION_FAILED',
])

/** Trying again helps nobody: the login is refused, or the certificate is not trusted. */
export function isHopeless(error: unknown): boolean {
  const { name, code = '' } = originOf(error)
  // Codes of OpenSSL and of Node's check of names.
  return name === loginRefused || /CERT|SIGNATURE|SELF_SIGNED|ALTNAME/.test(code)
}

/** What an append says when Kafka does not take it: there is always hope, and the sender still has its records. */
export function failureOf(what: string, error: unknown): RetryableError {
  const origin = originOf(error)
  const type = origin.type ?? ''
  if (overloaded.has(type)) return new RetryableError('PEER_OVERLOADED', `${what}: ${type}`, { cause: error })
  if (refused.has(type)) return new RetryableError('PEER_REFUSED', `${what}: ${type}`, { cause: error })
  if (origin.name === loginRefused) {
    const text = `${what}: the login of journal.kafka.sasl is refused: ${origin.message}`
    return new RetryableError('PEER_REFUSED', text, { cause: error })
  }
  return new RetryableError('PEER_UNREACHABLE', `${what}: ${origin.message}`, { cause: error })
}
