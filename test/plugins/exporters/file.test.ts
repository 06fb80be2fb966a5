// The file exporter: lines on disk, rotation by size, and files that were cut off, moved away or cannot be written.
import {
  appendFileSync,
  mkdtempSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { countRecords } from '../../../plugins/contract/cursor.ts'
import type { Exporter } from '../../../plugins/contract/define.ts'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import type { Signal } from '../../../plugins/contract/signal.ts'
import file from '../../../plugins/exporters/file.ts'
import { jsonToRequest, requestToJson } from '../../../plugins/protocols/otlp/json.ts'
import { configOf } from '../../support/conformance-definition.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import type { ExporterPeer } from '../../support/conformance-exporter.ts'
import { testContext } from '../../support/context.ts'
import { sampleBatch, sampleLogs } from '../../support/records.ts'

const linesOf = (path: string): string[] => readFileSync(path, 'utf8').split('\n').slice(0, -1)
const countOf = (line: string): number => {
  const signal: Signal = line.startsWith('{"resourceMetrics') ? 'metrics' : 'logs'
  return countRecords(signal, jsonToRequest(signal, line))
}
const total = (path: string): number => linesOf(path).reduce((sum, line) => sum + countOf(line), 0)

function peer(): ExporterPeer {
  const directory = mkdtempSync(join(tmpdir(), 'file-exporter-'))
  const path = join(directory, 'deeper', 'out.jsonl')
  return {
    config: { path },
    received: async (records) => expect(total(path)).toBe(records),
    [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true }),
  }
}

conformsToExporter(file, { path: '/nowhere/out.jsonl' }, { peer: async () => peer(), local: true })

const open: (() => Promise<unknown> | void)[] = []
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close()
})

function start(config: object = {}): {
  path: string
  directory: string
  exporter: Exporter
  stop: () => Promise<void>
} {
  const directory = mkdtempSync(join(tmpdir(), 'file-exporter-'))
  open.push(() => rmSync(directory, { recursive: true }))
  return { directory, ...exporterTo(join(directory, 'out.jsonl'), config) }
}

function exporterTo(path: string, config: object = {}) {
  const exporter = file.create(
    configOf(file, { path, ...config }) as Parameters<typeof file.create>[0],
    testContext(),
  )
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  open.push(stop)
  return { path, exporter, stop }
}

const never = new AbortController().signal
const batch = (body: string) => sampleBatch(sampleLogs([{ body }]))
const bodies = (path: string): (string | undefined)[] =>
  linesOf(path).map((line) => /"body":\{"stringValue":"([^"]*)"/.exec(line)?.[1])

describe('the file exporter', () => {
  test('writes each request as one line, without the header of the batch', async () => {
    const { path, exporter } = start()
    const records = sampleLogs([{ body: 'a\nb' }])
    await exporter.export(sampleBatch(records), never)
    expect(readFileSync(path, 'utf8')).toBe(`${requestToJson('logs', records.bytes)}\n`)
  })

  test('batches that come together all get on disk, in order', async () => {
    const { path, exporter } = start()
    await Promise.all(Array.from({ length: 200 }, (_, index) => exporter.export(batch(`n${index}`), never)))
    expect(bodies(path)).toEqual(Array.from({ length: 200 }, (_, index) => `n${index}`))
  })

  test('a batch of totals only writes nothing', async () => {
    const { directory, exporter } = start()
    await exporter.export(sampleBatch(sampleLogs([]), { count: 0 }), never)
    expect(readdirSync(directory)).toEqual([])
  })

  test('goes on behind what is there', async () => {
    const { path, exporter, stop } = start()
    await exporter.export(batch('one'), never)
    await stop()
    await exporterTo(path).exporter.export(batch('two'), never)
    expect(bodies(path)).toEqual(['one', 'two'])
  })

  test('a line that a killed process left in part is cut off', async () => {
    const { path, exporter } = start()
    const whole = `${requestToJson('logs', sampleLogs([{ body: 'kept' }]).bytes)}\n`
    writeFileSync(path, whole + whole.slice(0, 30))
    await exporter.export(batch('next'), never)
    expect(bodies(path)).toEqual(['kept', 'next'])
  })

  test('a file of somebody else loses nothing', async () => {
    const { path, exporter } = start()
    writeFileSync(path, 'notes\nwithout an end')
    await exporter.export(batch('next'), never)
    expect(linesOf(path).slice(0, 2)).toEqual(['notes', 'without an end'])
    expect(bodies(path).at(-1)).toBe('next')
  })

  test('rotates by size, keeps as many files as it may, and breaks no line', async () => {
    const { directory, exporter } = start({ max_size: '4KiB', max_files: 3 })
    for (let index = 0; index < 40; index++) await exporter.export(batch(`n${index}`), never)
    expect(readdirSync(directory).toSorted()).toEqual(['out.jsonl', 'out.jsonl.1', 'out.jsonl.2'])
    const kept = ['out.jsonl.2', 'out.jsonl.1', 'out.jsonl'].flatMap((name) => {
      const path = join(directory, name)
      expect(readFileSync(path).length).toBeLessThanOrEqual(4096)
      return bodies(path)
    })
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => `n${40 - kept.length + index}`))
    expect(kept.length).toBeGreaterThan(10)
  })

  test('a line larger than the limit gets a file of its own', async () => {
    const { directory, exporter } = start({ max_size: '4KiB' })
    for (const body of ['small', 'x'.repeat(9000), 'after']) await exporter.export(batch(body), never)
    expect(bodies(join(directory, 'out.jsonl.2'))).toEqual(['small'])
    expect(bodies(join(directory, 'out.jsonl.1'))[0]?.length).toBe(9000)
    expect(bodies(join(directory, 'out.jsonl'))).toEqual(['after'])
  })

  test('a file that somebody moved away is begun anew', async () => {
    const { path, exporter } = start()
    await exporter.export(batch('one'), never)
    renameSync(path, `${path}.moved`)
    await exporter.export(batch('two'), never)
    expect([bodies(`${path}.moved`), bodies(path)]).toEqual([['one'], ['two']])
  })

  test('a path that cannot be written holds the batch until it can', async () => {
    const { path, exporter } = start()
    mkdirSync(path)
    await expect(exporter.export(batch('one'), never)).rejects.toBeInstanceOf(RetryableError)
    rmSync(path, { recursive: true })
    await exporter.export(batch('one'), never)
    appendFileSync(path, '')
    expect(bodies(path)).toEqual(['one'])
  })
})
