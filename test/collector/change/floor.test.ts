// The way of log lines while their source has a verbosity of its own: what drops by severity gives way, all else stays.
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock as clock } from '../../../collector/clock.ts'
import { parseConfig } from '../../../collector/config.ts'
import { Logger } from '../../../collector/logger.ts'
import { Runtime } from '../../../collector/runtime.ts'
import { LogCursor, defineExporter, defineSource } from '../../../plugins/contract/index.ts'
import type { Batch, Emit, Records } from '../../../plugins/contract/index.ts'
import filter from '../../../plugins/processors/filter.ts'
import severity from '../../../plugins/processors/severity.ts'
import { sampleLogs } from '../../support/records.ts'
import * as z from 'zod'

const text = `
sources: { lines: { type: lines } }
processors:
  floor: { type: severity, minimum: warn }
  rules:
    type: filter
    rules:
      - { name: noise, match: { severity: { below: error }, body: { contains: noisy } }, drop: true }
      - { name: never, match: { body: { contains: unwanted } }, drop: true }
      - { name: secrets, redact: { body: true, patterns: ['secret-[0-9]+'] } }
exporters: { out: { type: out } }
pipelines: { all: { sources: [lines], processors: [floor, rules], exporters: [out] } }
`

/** A runtime whose source is played by hand, and the bodies that arrived. */
async function started() {
  const emits: Emit[] = []
  const bodies: string[] = []
  const lines = defineSource({
    name: 'lines',
    summary: 'By hand.',
    config: z.strictObject({}),
    create: (_, context) => ({
      run: (emit, signal) => {
        emits.push(emit)
        context.ready()
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      },
    }),
  })
  const out = defineExporter({
    name: 'out',
    summary: 'To an array.',
    config: z.strictObject({}),
    create: () => ({
      export: async ({ bytes }: Batch) => {
        const cursor = new LogCursor().reset(bytes)
        while (cursor.next()) bodies.push(JSON.stringify(cursor.bodyValue()).slice(1, -1))
        return { rejected: 0 }
      },
    }),
  })
  const { config, problems } = await parseConfig(text, 'x.yaml', [lines, out, filter, severity])
  if (!config) throw new Error(JSON.stringify(problems))
  const runtime = new Runtime({
    identity: {
      collector: 'dpu-1',
      device: 'dpu-1',
      instance: '01K00000000000000000000000',
      version: '',
      since: '',
      hostname: '',
      arch: '',
      labels: {},
      identity: 'test',
      portOffset: 0,
    },
    log: undefined,
    clock,
    logger: new Logger({ write: () => undefined }),
    disk: 0,
  })
  onTestFinished(() => runtime.stop())
  await runtime.apply(config)
  const say = async (...given: [severity: number, body: string][]): Promise<string[]> => {
    bodies.length = 0
    const records: Records[] = given.map(([number, body]) => linesOf(number, body))
    for (const one of records) await emits[0]?.(one)
    return bodies.toSorted()
  }
  return { runtime, say }
}

const linesOf = (severityNumber: number, body: string): Records =>
  sampleLogs([{ severity: severityNumber, body }], 'dpu-1')

describe('a verbosity', () => {
  const given: [number, string][] = [
    [5, 'a debug line'],
    [9, 'a noisy info with secret-7'],
    [9, 'an unwanted info'],
    [17, 'an error with secret-8'],
  ]

  test('takes the place of all that drops by severity; other rules and redaction go on', async () => {
    const { runtime, say } = await started()
    expect(await say(...given)).toEqual(['an error with [redacted]'])
    runtime.setVerbosity(new Map([['lines', 'info']]))
    expect(await say(...given)).toEqual(['a noisy info with [redacted]', 'an error with [redacted]'])
    runtime.setVerbosity(new Map([['lines', 'debug']]))
    expect(await say(...given)).toEqual([
      'a debug line',
      'a noisy info with [redacted]',
      'an error with [redacted]',
    ])
    expect(runtime.measures.ruleCounts().map(({ id, rule }) => `${id}/${rule}`)).toContain('verbosity/lines')
    runtime.setVerbosity(new Map())
    expect(await say(...given)).toEqual(['an error with [redacted]'])
  })

  test('of another source changes nothing here', async () => {
    const { runtime, say } = await started()
    runtime.setVerbosity(new Map([['elsewhere', 'debug']]))
    expect(await say(...given)).toEqual(['an error with [redacted]'])
  })
})
