// Requests whose fields stand in another order than ours: protobuf promises none, and the OpenTelemetry Collector writes
// every message from its last field to its first, values before their keys, records before their Resource.
import { describe, expect, test } from 'vitest'
import { CursorView } from '../../../../collector/view.ts'
import { Reader, Writer, bytesType } from '../../../../plugins/contract/wire.ts'
import { LogCursor } from '../../../../plugins/contract/cursor.ts'
import { requests } from '../../../../plugins/protocols/otlp/schema.ts'
import type { Message } from '../../../../plugins/protocols/otlp/schema.ts'
import { splitRequest } from '../../../../plugins/protocols/otlp/split.ts'
import { collect, sampleLogs, samplePoints } from '../../../support/records.ts'

/** The same message with the fields of each message from last to first; repeated ones keep their order. */
function reversed(bytes: Uint8Array, message: Message): Buffer {
  const reader = new Reader(bytes)
  const fields = new Map<number, Buffer[]>()
  while (!reader.done) {
    const began = reader.position
    const key = reader.key()
    const inner = (key & 7) === bytesType ? message.byNumber[key >>> 3]?.message : undefined
    let field: Buffer
    if (inner) {
      const out = new Writer()
      out.varint(key)
      out.bytes(reversed(reader.bytes(), inner))
      field = Buffer.from(out.take())
    } else {
      reader.skip(key)
      field = Buffer.from(bytes.subarray(began, reader.position))
    }
    fields.set(key, [...(fields.get(key) ?? []), field])
  }
  return Buffer.concat([...fields].toReversed().flatMap(([, list]) => list))
}

describe('a request whose messages are written from their last field to their first', () => {
  const logs = Buffer.concat([
    sampleLogs([{ body: 'a' }, { body: 'b', severity: 17 }], 'dpu-1').bytes,
    sampleLogs([{ body: 'c' }], 'dpu-2').bytes,
  ])

  test('is about the same devices, in the same classes', () => {
    const split = splitRequest('logs', reversed(logs, requests.logs), { device: 'own' })
    expect(split.rejected).toEqual([])
    expect(
      split.records.map(({ device, class: name, count }) => `${device} ${name} ${count}`).toSorted(),
    ).toEqual(['dpu-1 log 1', 'dpu-1 log_error 1', 'dpu-2 log 1'])
    const points = reversed(samplePoints(3, 'dpu-3').bytes, requests.metrics)
    const { records } = splitRequest('metrics', points, { device: 'own' })
    expect(new Set(records.map(({ device }) => device))).toEqual(new Set(['dpu-3']))
  })

  test('says the same', () => {
    const { bytes } = sampleLogs([{ body: 'a', attributes: { b: 'three', c: 4n } }], 'dpu-1')
    const other = reversed(bytes, requests.logs)
    expect(other.equals(bytes)).toBe(false)
    const of = (request: Uint8Array) => splitRequest('logs', request, { device: 'own' }).records
    expect(collect(of(other))).toEqual(collect(of(bytes)))
  })

  test('shows processors its attributes', () => {
    const records = sampleLogs([{ body: 'a', attributes: { a: 1, b: 'three' } }], 'dpu-1')
    const bytes = reversed(records.bytes, requests.logs)
    const cursor = new LogCursor().reset(bytes)
    const view = new CursorView().over({ ...records, bytes }, cursor)
    cursor.next()
    expect([view.attribute('b'), view.attribute('absent'), view.resource('host.id')]).toEqual([
      'three',
      undefined,
      'dpu-1',
    ])
  })
})
