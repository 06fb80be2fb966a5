// What every processor owes: a verdict at once for whatever record comes, from the closed vocabulary.
import { describe, expect, test } from 'vitest'
import { Writer, countRecords, dropReasons, writeKeyValue } from '../../plugins/contract/index.ts'
import type {
  Processor,
  ProcessorDefinition,
  RecordView,
  Records,
  Verdict,
} from '../../plugins/contract/index.ts'
import {
  configOf,
  conformsToDefinition,
  exampleOf,
  expectWellFormed,
  openHandles,
} from './conformance-definition.ts'
import type { ExampleConfig } from './conformance-definition.ts'
import { testContext } from './context.ts'
import { sampleLogs, samplePoints, viewsOf } from './records.ts'

/** Records of every signal and severity, with values that plugins trip over. */
function everyKind(): RecordView[] {
  const severities = Array.from({ length: 25 }, (_, severity) => severity)
  const span: RecordView = {
    signal: 'traces',
    class: 'log',
    device: 'dpu-under-test',
    severityNumber: 0,
    name: 'GET /',
    body: () => '',
    value: () => undefined,
    attribute: () => undefined,
    resource: () => undefined,
  }
  return [
    ...severities.flatMap((severity) => viewsOf(sampleLogs([{ severity }]))),
    ...viewsOf(sampleLogs([{ eventName: 'dpu.state.changed', severity: 9 }])),
    ...viewsOf(sampleLogs([{ body: '' }, { body: { nested: [1, 'two', true] } }, { body: '\u0000\uFFFD' }])),
    ...viewsOf(sampleLogs([{ attributes: { big: 2n ** 63n - 1n, list: [], bytes: new Uint8Array(3) } }])),
    ...viewsOf(samplePoints(8)),
    span,
  ]
}

function expectVerdict(verdict: Verdict): void {
  if (typeof verdict === 'object') expect(Object.keys(verdict)).toEqual(['set'])
  else expect(['keep', ...dropReasons]).toContain(verdict)
}

/** Records of every signal, for a processor that takes them as bytes. */
function everyRecords(): Records[] {
  const out = new Writer()
  for (const tag of [0x0a, 0x12, 0x12]) {
    out.byte(tag)
    out.open()
  }
  writeKeyValue(out, 9, 'http.route', '/')
  const depth = out.position
  for (let mark = 5; mark <= 15; mark += 5) out.close(mark)
  const spans: Records = { ...sampleLogs([{}]), signal: 'traces', bytes: out.buffer.subarray(0, depth) }
  return [
    sampleLogs(Array.from({ length: 17 }, (_, severity) => ({ severity }))),
    sampleLogs(Array.from({ length: 8 }, (_, more) => ({ severity: 17 + more }))),
    sampleLogs([{ eventName: 'dpu.state.changed', severity: 9 }]),
    sampleLogs([{ body: '' }, { body: { nested: [1, 'two', true] } }, { body: '\u0000\uFFFD' }]),
    sampleLogs([{ attributes: { big: 2n ** 63n - 1n, list: [], bytes: new Uint8Array(3) } }]),
    samplePoints(8),
    spans,
  ]
}

/** Gives a processor all of it; what comes out must be well formed, and nothing may be missing. */
function give(processor: Processor, views: readonly RecordView[], records: readonly Records[]): void {
  if ('decide' in processor) {
    for (const view of views) expectVerdict(processor.decide(view))
    return
  }
  for (const one of records) {
    const { kept, dropped, taken } = processor.pass(one)
    for (const each of kept) {
      // One that changes the class knows better than the name.
      if (each.signal !== 'traces' && each.class === one.class) expectWellFormed(each)
      expect(countRecords(each.signal, each.bytes)).toBe(each.count)
    }
    for (const reason of Object.keys(dropped)) expect(dropReasons).toContain(reason)
    const sum = Object.values(dropped).reduce((total, count) => total + count, taken)
    expect(kept.reduce((total, { count }) => total + count, sum)).toBe(one.count)
  }
}

export function conformsToProcessor(
  definition: ProcessorDefinition,
  example: ExampleConfig,
  options: { records?: readonly RecordView[] } = {},
): void {
  const create = async () => definition.create(configOf(definition, await exampleOf(example)), testContext())
  const giveAll = (processor: Processor) =>
    give(processor, [...everyKind(), ...(options.records ?? [])], everyRecords())

  describe(`${definition.name} as a processor`, () => {
    conformsToDefinition(definition, example)

    test('decides at once about whatever record comes', async () => {
      giveAll(await create())
    })

    test('opens nothing while it decides', async () => {
      const processor = await create()
      const before = openHandles()
      giveAll(processor)
      expect(openHandles()).toEqual(before)
    })

    test('flushes nothing, or well-formed records', async () => {
      const processor = await create()
      giveAll(processor)
      const flushed = processor.flush?.(1_790_000_060_000_000_000n, true)
      if (flushed) expectWellFormed(flushed.records)
    })
  })
}
