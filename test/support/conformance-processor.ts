// What every processor owes: a verdict at once for whatever record comes, from the closed vocabulary.
import { describe, expect, test } from 'vitest'
import { dropReasons } from '../../plugins/contract/index.ts'
import type { ProcessorDefinition, RecordView, Verdict } from '../../plugins/contract/index.ts'
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

export function conformsToProcessor(
  definition: ProcessorDefinition,
  example: ExampleConfig,
  options: { records?: readonly RecordView[] } = {},
): void {
  const create = async () => definition.create(configOf(definition, await exampleOf(example)), testContext())

  describe(`${definition.name} as a processor`, () => {
    conformsToDefinition(definition, example)

    test('decides at once about whatever record comes', async () => {
      const processor = await create()
      for (const view of [...everyKind(), ...(options.records ?? [])]) expectVerdict(processor.decide(view))
    })

    test('opens nothing while it decides', async () => {
      const processor = await create()
      const views = everyKind()
      const before = openHandles()
      for (const view of views) processor.decide(view)
      expect(openHandles()).toEqual(before)
    })

    test('flushes nothing, or well-formed records', async () => {
      const processor = await create()
      for (const view of [...everyKind(), ...(options.records ?? [])]) processor.decide(view)
      const flushed = processor.flush?.(1_790_000_060_000_000_000n)
      if (flushed) expectWellFormed(flushed)
    })
  })
}
