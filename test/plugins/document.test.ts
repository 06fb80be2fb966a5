// What plugins say of themselves is in the READMEs, and the tables say what the schemas say.
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import { defineExporter, defineSource, duration, errorCodes, secret } from '../../plugins/contract/index.ts'
import {
  configKeys,
  costsIn,
  documented,
  pluginReference,
  pluginTables,
  replaceGenerated,
} from '../../plugins/document.ts'
import { plugins } from '../../plugins/index.ts'

const root = join(import.meta.dirname, '../..')

describe('the documentation of plugins', () => {
  test('is fresh: run `node plugins/document.ts` where it is not', () => {
    for (const { is, should } of documented(root, plugins)) expect(is).toBe(should)
  })

  test('has a line for each key, with its default as it is written in YAML', () => {
    const config = z.strictObject({
      interval: duration.prefault('15s').describe('How often.'),
      password: secret.optional().describe('To log in.'),
      endpoint: z.string().describe('Where | whom.'),
      mode: z.enum(['a', 'b']).default('a').describe('How.'),
      root: z.strictObject({ proc: z.string().default('/proc').describe('Where procfs is.') }).prefault({}),
      tls: z.strictObject({ cert: z.string().describe('Ours.') }).optional(),
    })
    expect(configKeys(config)).toEqual([
      { path: 'interval', type: 'duration', default: '15s', required: false, description: 'How often.' },
      { path: 'password', type: 'secret', default: undefined, required: false, description: 'To log in.' },
      { path: 'endpoint', type: 'text', default: undefined, required: true, description: 'Where | whom.' },
      { path: 'mode', type: 'a, b', default: 'a', required: false, description: 'How.' },
      { path: 'root.proc', type: 'text', default: '/proc', required: false, description: 'Where procfs is.' },
      { path: 'tls.cert', type: 'text', default: undefined, required: 'tls', description: 'Ours.' },
    ])
    const create = () => ({ export: async () => ({ rejected: 0 }) })
    const text = pluginReference([defineExporter({ name: 'x', summary: 'Sends.', config, create })], {})
    const lines = text.split('\n').map((line) => line.replaceAll(/ +/g, ' '))
    expect(lines).toContain('| `endpoint` | text | required | Where \\| whom. |')
    expect(lines).toContain('| `interval` | duration | `15s` | How often. |')
    expect(lines).toContain('| `tls.cert` | text | required with `tls` | Ours. |')
    for (const code of Object.keys(errorCodes)) expect(text).toContain(code)
  })

  test('says what a source reads, emits and costs', () => {
    const config = z.strictObject({})
    const create = () => ({ run: async () => undefined })
    const emits = {
      'hw.temperature': { kind: 'gauge', unit: 'Cel' },
      'system.cpu.time': { kind: 'counter', unit: 's' },
    } as const
    const reading = defineSource({
      name: 'a',
      summary: 'Reads.',
      config,
      emits,
      signals: ['metrics', 'logs'],
      create,
    })
    const taking = defineSource({ name: 'b', summary: 'Takes.', config, create })
    const costs = {
      a: { per: 'reading', records: 12, micros: 1234 },
      b: { per: 'record', micros: 2.345 },
    } as const
    const lines = pluginTables([reading, taking], costs)
      .split('\n')
      .map((line) => line.replaceAll(/ +/g, ' '))
    expect(lines).toContain(
      '| `a` | Reads. | 2 metrics (environment, resource), logs | 1.2 ms a reading of 12 |',
    )
    expect(lines).toContain('| `b` | Takes. | logs | 2.3 µs a record |')
  })

  test('knows what each source costs: `npm run bench sources` measures those in bench/measure/inputs.ts', () => {
    const costs = costsIn(root)
    const sources = plugins.filter(({ kind }) => kind === 'source').map(({ name }) => name)
    expect(Object.keys(costs).toSorted()).toEqual(sources.toSorted())
  })

  test('is put between its marks, and nowhere else', () => {
    const readme = 'before\n<!-- generated: x -->\nold\n<!-- end of x -->\nafter\n'
    const once = replaceGenerated(readme, 'x', 'new')
    expect(once).toBe('before\n<!-- generated: x -->\n\nnew\n\n<!-- end of x -->\nafter\n')
    expect(replaceGenerated(once, 'x', 'new')).toBe(once)
    expect(() => replaceGenerated('no marks', 'x', 'new')).toThrow('generated: x')
  })
})
