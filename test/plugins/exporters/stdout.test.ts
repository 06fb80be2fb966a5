// The stdout exporter: one line of OTLP/JSON for each batch, on the standard output of a process.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { countRecords } from '../../../plugins/contract/cursor.ts'
import type { Signal } from '../../../plugins/contract/signal.ts'
import stdout from '../../../plugins/exporters/stdout.ts'
import { jsonToRequest } from '../../../plugins/protocols/otlp/json.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import type { ExporterPeer } from '../../support/conformance-exporter.ts'

/** Stands in the place of this process's standard output. */
function reader(): ExporterPeer {
  const write = process.stdout.write.bind(process.stdout)
  let count = 0
  process.stdout.write = ((line: string, done?: (error?: Error) => void) => {
    const signal: Signal = line.startsWith('{"resourceMetrics') ? 'metrics' : 'logs'
    count += countRecords(signal, jsonToRequest(signal, line))
    done?.()
    return true
  }) as typeof process.stdout.write
  return {
    config: {},
    received: async (records) => expect(count).toBe(records),
    [Symbol.asyncDispose]: async () => {
      process.stdout.write = write
    },
  }
}

conformsToExporter(stdout, {}, { peer: async () => reader(), local: true })

/** A process that exports three batches to its standard output and says on stderr how that ended. */
const program = (file: string): string => `
  import stdout from '${file}/plugins/exporters/stdout.ts'
  import { sampleBatch, sampleLogs } from '${file}/test/support/records.ts'
  import { testContext } from '${file}/test/support/context.ts'
  const exporter = stdout.create({}, testContext())
  const controller = new AbortController()
  const running = exporter.run(controller.signal)
  if (process.argv.includes('wait')) await new Promise((resolve) => process.stdin.once('end', resolve).resume())
  for (const body of ['first', 'ü\\nsecond', 'third']) {
    await exporter.export(sampleBatch(sampleLogs([{ body }])), controller.signal).then(
      () => console.error('delivered'),
      (error) => console.error(error.name, error.code),
    )
  }
  controller.abort()
  await running
`
const root = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '')
const start = (...args: string[]) =>
  spawn(process.execPath, ['--input-type=module', '-e', program(root), ...args], { stdio: 'pipe' })

describe('the stdout exporter', () => {
  test('prints one request a line', async () => {
    const child = start()
    const [lines, told] = await Promise.all([
      child.stdout.toArray(),
      child.stderr.toArray(),
      once(child, 'close'),
    ])
    const texts = Buffer.concat(lines as Buffer[])
      .toString()
      .trimEnd()
      .split('\n')
    const bodies = texts.map((line) => /"body":\{"stringValue":("[^}]*")\}/.exec(line)?.[1])
    expect(bodies).toEqual(['"first"', JSON.stringify('ü\nsecond'), '"third"'])
    expect(Buffer.concat(told as Buffer[]).toString()).toContain('delivered\ndelivered\ndelivered\n')
  })

  test('a pipe that is closed leaves the batch to be tried again, and the process alive', async () => {
    const child = start('wait')
    child.stdout.destroy()
    await once(child.stdout, 'close')
    child.stdin.end()
    const [told, [code]] = await Promise.all([child.stderr.toArray(), once(child, 'close')])
    expect(Buffer.concat(told as Buffer[]).toString()).toMatch(/^(RetryableError PEER_UNREACHABLE\n){3}/m)
    expect(code).toBe(0)
  })
})
