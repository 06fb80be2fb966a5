// `dpulse check` as a process, on configurations of the collector and of the aggregator.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { programOf } from '../../commands/configuration.ts'
import { dpulse } from '../support/command-line.ts'

const directory = mkdtempSync(join(tmpdir(), 'dpulse-check-'))
afterAll(() => rmSync(directory, { recursive: true }))

let files = 0
async function check(text: string, ...options: string[]) {
  const file = join(directory, `${(files += 1)}.yaml`)
  writeFileSync(file, text)
  const ended = await dpulse(['check', file, ...options], {})
  return {
    ...ended,
    stdout: ended.stdout.replaceAll(file, 'FILE'),
    stderr: ended.stderr.replaceAll(file, 'FILE'),
  }
}
const collector = `
sources: { lines: { type: syslog, udp: '127.0.0.1:0' } }
exporters: { out: { type: stdout } }
pipelines: { p: { sources: [lines], exporters: [out] } }
`
const aggregator = 'store: { retention: { log: 3d } }\notlp: { max_request: 1MiB }\n'

describe('dpulse check', () => {
  test('finds both programs’ configurations valid, and says whose they are', async () => {
    const one = await check(collector)
    expect([one.stdout, one.code]).toEqual(['FILE: a valid configuration of the collector\n', 0])
    const other = await check(aggregator)
    expect([other.stdout, other.code]).toEqual(['FILE: a valid configuration of the aggregator\n', 0])
  })

  test('prints every problem of a collector with line and path, and fails', async () => {
    const { stdout, stderr, code } = await check(`
sources:
  a: { type: syslogg }
  b: { type: syslog, max_length: much }
exporters: { out: { type: stdout, pretty: 1 } }
pipelines: { p: { sources: [a, c], exporters: [out] } }
`)
    expect(stdout.split('\n')).toEqual([
      'FILE:3:8: error: sources.a.type: there is no source type syslogg; did you mean syslog?',
      expect.stringMatching(/^FILE:4:\d+: error: sources\.b\.max_length: expected a size/),
      expect.stringMatching(/^FILE:4:\d+: warning: sources\.b: no pipeline uses it/),
      expect.stringMatching(/^FILE:5:\d+: error: exporters\.out\.pretty: there is no such setting/),
      expect.stringMatching(/^FILE:6:\d+: error: pipelines\.p\.sources\.1: there is no source c/),
      '',
    ])
    expect([stderr, code]).toEqual(['dpulse: FILE has 4 errors\n', 1])
  })

  test('prints every problem of an aggregator with line and path, as JSON where that is asked', async () => {
    const { stdout, code } = await check(
      'aggregator: { id: Not Good }\nstore:\n  retention: { logs: 3d, event: soon }\n',
      '-o',
      'json',
    )
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toEqual({
      file: 'FILE',
      program: 'aggregator',
      valid: false,
      problems: [
        {
          path: 'aggregator.id',
          message: expect.stringContaining('expected'),
          severity: 'error',
          line: 1,
          column: 15,
        },
        {
          path: 'store.retention.event',
          message: expect.stringContaining('duration'),
          severity: 'error',
          line: 3,
          column: 26,
        },
        {
          path: 'store.retention.logs',
          message: 'there is no such setting',
          severity: 'error',
          line: 3,
          column: 16,
        },
      ],
    })
  })

  test('names the line of what is no YAML, and a file that is not there', async () => {
    const { stdout, code } = await check('sources:\n  a: [1\n')
    expect(stdout).toMatch(/^FILE:\d+:\d+: error: /)
    expect(code).toBe(1)
    const absent = await dpulse(['check', join(directory, 'absent.yaml')], {})
    expect([absent.code, absent.stderr]).toEqual([2, expect.stringContaining('cannot be read (ENOENT)')])
  })

  test('--try runs each source once, and says what it emits or why it cannot run', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as AddressInfo
    const text = `
sources:
  load: { type: system, interval: 1s }
  lines: { type: syslog, tcp: '127.0.0.1:${port}' }
exporters: { out: { type: stdout } }
pipelines: { p: { sources: [load, lines], exporters: [out] } }
`
    const { stdout, code } = await check(text, '--try', '-o', 'json')
    taken.close()
    const { valid, sources } = JSON.parse(stdout) as { valid: boolean; sources: object[] }
    expect(valid).toBe(true)
    expect(sources).toEqual([
      { id: 'load', fine: true, outcome: expect.stringMatching(/emits \d+ metrics of class resource/) },
      { id: 'lines', fine: false, outcome: expect.stringContaining(`${port}`) },
    ])
    expect(code).toBe(1)
  })
})

test.each([
  ['pipelines: {}', 'collector'],
  ['source: {}\npipelines: {}', 'collector'],
  ['api: {}\nmax_disk: 1GiB', 'aggregator'],
  ['metrics: {}\notlp: {}', 'aggregator'],
  ['', 'collector'],
  ['[]', 'collector'],
  ['a: [', 'collector'],
])('%j is a configuration of the %s', (text, program) => expect(programOf(text)).toBe(program))
