// The official OTLP messages, as protobufjs builds them from the .proto files, with random values of them. Nothing
// here knows our own tables: both sides of each differential test are independent.
import { fileURLToPath } from 'node:url'
import * as fc from 'fast-check'
import protobuf from 'protobufjs'
import type { Signal } from '../../../../plugins/contract/signal.ts'

const directory = fileURLToPath(new URL('../../../fixtures/proto/', import.meta.url))
function load(): protobuf.Root {
  const root = new protobuf.Root()
  root.resolvePath = (_origin, target) => (target.startsWith('/') ? target : directory + target)
  const services = ['logs', 'metrics', 'trace']
  return root.loadSync(
    services.map((name) => `opentelemetry/proto/collector/${name}/v1/${name}_service.proto`),
  )
}
const root = load().resolveAll()

const named: Readonly<Record<Signal, string>> = { logs: 'logs', metrics: 'metrics', traces: 'trace' }
const capital = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1)

const requestName = (signal: Signal): string =>
  `opentelemetry.proto.collector.${named[signal]}.v1.Export${capital(named[signal])}ServiceRequest`

/** Export*ServiceRequest of the official files. */
export const officialRequest = (signal: Signal): protobuf.Type => root.lookupType(requestName(signal))

/** The same, with a field at every level that is unknown to everyone else: a later version of the protocol. */
export function withUnknownFields(signal: Signal): protobuf.Type {
  const later = load()
  const extend = (type: protobuf.Type): void => {
    if (type.fields.unknown) return
    type.add(new protobuf.Field('unknown', 900, 'string'))
    for (const field of type.fieldsArray) {
      const { resolvedType } = field.resolve()
      if (resolvedType instanceof protobuf.Type) extend(resolvedType)
    }
  }
  const type = later.lookupType(requestName(signal))
  extend(type)
  return type
}
export const officialResponse = (signal: Signal): protobuf.Type =>
  root.lookupType(
    `opentelemetry.proto.collector.${named[signal]}.v1.Export${capital(named[signal])}ServiceResponse`,
  )

export type Plain = Record<string, unknown>

/** What protobufjs reads from bytes: 64-bit integers as strings, bytes as base64, enums as numbers. */
export const decodeOfficial = (signal: Signal, bytes: Uint8Array): Plain => {
  const type = officialRequest(signal)
  return type.toObject(type.decode(bytes), { longs: String, bytes: String, enums: Number })
}

/** Encodes what `decodeOfficial` gives. */
export const encodeOfficial = (signal: Signal, value: Plain): Buffer => {
  const type = officialRequest(signal)
  return Buffer.from(type.encode(type.fromObject(value)).finish())
}

const bigs = (least: bigint, most: bigint): fc.Arbitrary<string> =>
  fc.bigInt({ min: least, max: most }).map(String)

const scalars: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  string: fc.string({ unit: 'grapheme', maxLength: 60 }),
  bytes: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes).toString('base64')),
  bool: fc.boolean(),
  int32: fc.integer(),
  uint32: fc.nat({ max: 2 ** 32 - 1 }),
  sint32: fc.integer(),
  fixed32: fc.nat({ max: 2 ** 32 - 1 }),
  int64: bigs(-(2n ** 63n), 2n ** 63n - 1n),
  sfixed64: bigs(-(2n ** 63n), 2n ** 63n - 1n),
  uint64: bigs(0n, 2n ** 64n - 1n),
  fixed64: bigs(0n, 2n ** 64n - 1n),
  double: fc.double(),
}

/** Fields that only profiles may use. */
const foreign = new Set(['keyStrindex', 'stringValueStrindex'])

/** Random plain objects of an official message; fields at random absent, of each oneof at most one present. */
export function arbitraryMessage(type: protobuf.Type, depth = 0): fc.Arbitrary<Plain> {
  const one = (field: protobuf.Field): fc.Arbitrary<unknown> => {
    const { resolvedType } = field.resolve()
    if (resolvedType instanceof protobuf.Type) {
      // AnyValue refers to itself: laziness and a limit on the depth.
      return depth > 7
        ? fc.constant({})
        : fc.constant(0).chain(() => arbitraryMessage(resolvedType, depth + 1))
    }
    if (resolvedType instanceof protobuf.Enum) return fc.constantFrom(...Object.values(resolvedType.values))
    const scalar = scalars[field.type]
    if (!scalar) throw new Error(`no values for ${field.type}`)
    return scalar
  }
  const alone: Record<string, fc.Arbitrary<unknown>> = {}
  const groups = new Map<string, fc.Arbitrary<Plain>[]>()
  for (const field of type.fieldsArray) {
    if (foreign.has(field.name)) continue
    const value = field.resolve().repeated
      ? fc.array(one(field), { maxLength: depth < 3 ? 3 : 2 })
      : one(field)
    const group = field.partOf
    if (!group || group.oneof.length === 1) alone[field.name] = value
    else {
      const members = groups.get(group.name) ?? [fc.constant({})]
      members.push(value.map((inner) => ({ [field.name]: inner })))
      groups.set(group.name, members)
    }
  }
  return fc
    .tuple(
      fc.record(alone, { requiredKeys: depth < 3 ? Object.keys(alone) : [] }),
      ...[...groups.values()].map((members) => fc.oneof(...members)),
    )
    .map((parts) => Object.assign({}, ...parts) as Plain)
}

const idNames = new Set(['traceId', 'spanId', 'parentSpanId'])

/** The OTLP/JSON that stands for a plain object: ids in hex, fields at their default left out. */
export function expectedJson(type: protobuf.Type, value: Plain): Plain {
  const out: Plain = {}
  for (const field of type.fieldsArray) {
    const item = value[field.name]
    if (item === undefined) continue
    const { resolvedType, repeated, partOf } = field.resolve()
    const convert = (inner: unknown): unknown => {
      if (resolvedType instanceof protobuf.Type) return expectedJson(resolvedType, inner as Plain)
      if (idNames.has(field.name)) return Buffer.from(String(inner), 'base64').toString('hex')
      return typeof inner === 'number' && !Number.isFinite(inner) ? String(inner) : inner
    }
    if (repeated) {
      if ((item as unknown[]).length > 0) out[field.name] = (item as unknown[]).map(convert)
      continue
    }
    const text = ['string', 'bytes'].includes(field.type)
    const isDefault = item === (text ? '' : '0') || item === false || Object.is(item, 0)
    if (!isDefault || partOf || resolvedType instanceof protobuf.Type) out[field.name] = convert(item)
  }
  return out
}
