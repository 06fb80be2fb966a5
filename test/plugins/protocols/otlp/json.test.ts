// OTLP/JSON against protobufjs with the official .proto files, on random data, in both directions.
import { describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import protobuf from 'protobufjs'
import { encodeHeader } from '../../../../plugins/contract/batch.ts'
import { PermanentError } from '../../../../plugins/contract/errors.ts'
import { signals } from '../../../../plugins/contract/signal.ts'
import { jsonToRequest, requestToJson } from '../../../../plugins/protocols/otlp/json.ts'
import { requests, responses } from '../../../../plugins/protocols/otlp/schema.ts'
import type { Message } from '../../../../plugins/protocols/otlp/schema.ts'
import {
  arbitraryMessage,
  decodeOfficial,
  encodeOfficial,
  expectedJson,
  officialRequest,
  officialResponse,
} from './official.ts'

/** Every message that a table reaches, beside the official type of the same place. */
function pairs(ours: Message, theirs: protobuf.Type, seen = new Map<Message, protobuf.Type>()) {
  if (seen.has(ours)) return seen
  seen.set(ours, theirs)
  for (const field of ours.fields) {
    const other = theirs.fields[field.name]?.resolve().resolvedType
    if (field.message && other instanceof protobuf.Type) pairs(field.message, other, seen)
  }
  return seen
}

const refusal = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof PermanentError) return `${error.code} ${error.message}`
    throw error
  }
  return 'accepted'
}

describe('the tables of OTLP', () => {
  test.each(signals)(
    'of %s name every field as the official files do, with number, type and rule',
    (signal) => {
      for (const table of [
        ...pairs(requests[signal], officialRequest(signal)),
        ...pairs(responses[signal], officialResponse(signal)),
      ]) {
        const [ours, theirs] = table
        const said = ours.fields.map(({ name, number, type, repeated, presence }) => {
          const bare = type === 'hex' ? 'bytes' : type
          return `${name} = ${number} ${bare}${repeated ? ' repeated' : ''}${presence ? ' presence' : ''}`
        })
        const official = theirs.fieldsArray.map((field) => {
          const { resolvedType, repeated, partOf, type, name, id } = field.resolve()
          const bare =
            resolvedType instanceof protobuf.Type
              ? 'message'
              : resolvedType instanceof protobuf.Enum
                ? 'int32'
                : type
          return `${name} = ${id} ${bare}${repeated ? ' repeated' : ''}${partOf ? ' presence' : ''}`
        })
        expect(said.toSorted()).toEqual(official.toSorted())
        expect(theirs.name).toBe(ours.name)
      }
    },
  )
})

/** JSON.stringify writes -0 as 0. */
const withNegativeZero = (_: string, value: unknown): unknown => (Object.is(value, -0) ? '-0' : value)

describe('OTLP/JSON', () => {
  test.each(signals)('%s that protobufjs wrote become the JSON that OTLP asks for', (signal) => {
    const type = officialRequest(signal)
    fc.assert(
      fc.property(arbitraryMessage(type), (value) => {
        const json: unknown = JSON.parse(requestToJson(signal, encodeOfficial(signal, value)))
        expect(json).toEqual(expectedJson(type, value))
      }),
      { numRuns: 150 },
    )
  })

  test.each(signals)('%s in JSON become the bytes that protobufjs reads as the same', (signal) => {
    const type = officialRequest(signal)
    fc.assert(
      fc.property(arbitraryMessage(type), (value) => {
        const bytes = jsonToRequest(signal, JSON.stringify(expectedJson(type, value), withNegativeZero))
        expect(decodeOfficial(signal, bytes)).toEqual(decodeOfficial(signal, encodeOfficial(signal, value)))
      }),
      { numRuns: 150 },
    )
  })

  test('the header of a batch is left out', () => {
    const request = jsonToRequest('logs', '{"resourceLogs":[{"schemaUrl":"a"}]}')
    const header = encodeHeader({
      collector: 'c',
      device: 'd',
      session: '0'.repeat(26),
      class: 'log',
      seq: 1,
      count: 0,
      from: 0n,
      to: 0n,
      produced: 0,
      dropped: {},
    })
    expect(requestToJson('logs', Buffer.concat([header, request]))).toBe(
      '{"resourceLogs":[{"schemaUrl":"a"}]}',
    )
  })

  const log = (record: string): string => `{"resourceLogs":[{"scopeLogs":[{"logRecords":[${record}]}]}]}`
  const where = 'resourceLogs[0].scopeLogs[0].logRecords[0]'

  test.each([
    ['9223372036854775807', '"9223372036854775807"'],
    ['-9223372036854775808', '"-9223372036854775808"'],
    ['"-9007199254740993"', '"-9007199254740993"'],
    ['9007199254740993', '"9007199254740993"'],
    ['12', '"12"'],
    ['-1', '"-1"'],
    ['1e3', '"1000"'],
  ])('an integer given as %s is exact', (given, written) => {
    const text = log(`{"body":{"intValue":${given}}}`)
    expect(requestToJson('logs', jsonToRequest('logs', text))).toBe(log(`{"body":{"intValue":${written}}}`))
  })

  test.each(['18446744073709551615', '1700000000000000001', '4294967295999999999', '1', '999999999'])(
    'time %s is exact as string and as number',
    (time) => {
      for (const given of [time, `"${time}"`]) {
        const text = log(`{ "timeUnixNano" : ${given} }`)
        expect(requestToJson('logs', jsonToRequest('logs', text))).toBe(log(`{"timeUnixNano":"${time}"}`))
      }
    },
  )

  test('unknown keys, nulls and a byte order mark are passed over', () => {
    const text = `\uFEFF${log('{"body":null,"vendor":{"deep":[1]},"severityNumber":9,"severity_text":"no"}')}`
    expect(requestToJson('logs', jsonToRequest('logs', Buffer.from(text)))).toBe(log('{"severityNumber":9}'))
  })

  test('a oneof keeps the last member, and a message that stands twice is merged', () => {
    // LogRecord.body twice: first {stringValue: "a"}, then {intValue: 5}; Resource twice: attributes add up.
    const record = Buffer.from([0x2a, 3, 0x0a, 1, 0x61, 0x2a, 2, 0x18, 5])
    const scope = Buffer.concat([Buffer.from([0x12, record.length]), record])
    const resource = Buffer.from([0x0a, 5, 0x0a, 3, 0x0a, 1, 0x6b])
    const body = Buffer.concat([resource, resource, Buffer.from([0x12, scope.length]), scope])
    const bytes = Buffer.concat([Buffer.from([0x0a, body.length]), body])
    expect(JSON.parse(requestToJson('logs', bytes))).toEqual({
      resourceLogs: [
        {
          resource: { attributes: [{ key: 'k' }, { key: 'k' }] },
          scopeLogs: [{ logRecords: [{ body: { intValue: '5' } }] }],
        },
      ],
    })
    expect(decodeOfficial('logs', bytes)).toEqual({
      resourceLogs: [
        {
          resource: { attributes: [{ key: 'k' }, { key: 'k' }] },
          scopeLogs: [{ logRecords: [{ body: { intValue: '5' } }] }],
        },
      ],
    })
  })

  test.each([
    [
      '{"timeUnixNano":"yesterday"}',
      `${where}.timeUnixNano: expected an unsigned 64-bit integer, got "yesterday"`,
    ],
    ['{"timeUnixNano":-1}', `${where}.timeUnixNano: expected an unsigned 64-bit integer, got the number -1`],
    ['{"timeUnixNano":18446744073709551616}', `${where}.timeUnixNano: expected an unsigned 64-bit integer`],
    ['{"severityNumber":1.5}', `${where}.severityNumber: expected an integer from`],
    ['{"severityNumber":"SEVERITY_NUMBER_INFO"}', `${where}.severityNumber: expected an integer from`],
    ['{"traceId":"xyz"}', `${where}.traceId: expected hex digits, got "xyz"`],
    ['{"body":{"bytesValue":"?"}}', `${where}.body.bytesValue: expected base64, got "?"`],
    ['{"body":"text"}', `${where}.body: expected an object, got "text"`],
    ['{"severityText":0}', `${where}.severityText: expected a string, got the number 0`],
    ['{"attributes":{}}', `${where}.attributes: expected an array, got an object`],
    ['{"attributes":[{"key":"a"},null]}', `${where}.attributes[1]: expected an object, got null`],
    [
      '{"attributes":[{"value":{"doubleValue":"1,5"}}]}',
      `${where}.attributes[0].value.doubleValue: expected a number`,
    ],
  ])('%s is refused with its path', (record, message) => {
    expect(refusal(() => jsonToRequest('logs', log(record)))).toContain(`INPUT_INVALID ${message}`)
  })

  test('what is no JSON is refused with the place', () => {
    expect(refusal(() => jsonToRequest('logs', '{"resourceLogs":[}'))).toMatch(
      /^INPUT_INVALID not JSON: Unexpected token '}'/,
    )
    expect(refusal(() => jsonToRequest('logs', '[]'))).toBe(
      'INPUT_INVALID the document: expected an object, got an array',
    )
  })

  test.each(signals)(
    '%s cut off anywhere are refused with a byte offset, or are a shorter request',
    (signal) => {
      const type = officialRequest(signal)
      fc.assert(
        fc.property(arbitraryMessage(type), fc.nat(), (value, at) => {
          const bytes = encodeOfficial(signal, value)
          const cut = bytes.subarray(0, at % (bytes.length + 1))
          const said = refusal(() => requestToJson(signal, cut))
          if (said !== 'accepted') expect(said).toMatch(/^INPUT_INVALID malformed .* at byte \d+$/)
        }),
      )
    },
  )

  test('values nested without end are refused in both directions', () => {
    let text = '{"stringValue":"x"}'
    let bytes: Buffer = Buffer.from([0x0a, 1, 0x78])
    for (let depth = 0; depth < 200; depth++) {
      text = `{"arrayValue":{"values":[${text}]}}`
      bytes = nest(0x2a, nest(0x0a, bytes))
    }
    expect(refusal(() => jsonToRequest('logs', log(`{"body":${text}}`)))).toContain('at most 128 levels')
    const request = nest(0x0a, nest(0x12, nest(0x12, nest(0x2a, bytes))))
    expect(refusal(() => requestToJson('logs', request))).toContain('nested more than 128 deep')
  })
})

function nest(tag: number, body: Buffer): Buffer {
  const length: number[] = []
  let rest = body.length
  for (; rest > 127; rest >>>= 7) length.push((rest & 127) | 128)
  return Buffer.concat([Buffer.from([tag, ...length, rest]), body])
}
