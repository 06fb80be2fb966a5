// Lines of files through a real collector: it is killed and stopped while a file is written to and rotated, and what it
// delivered is compared with what was written.
import { once } from 'node:events'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, test } from 'vitest'
import { eventually, startProgram } from '../support/programs.ts'

const portOffset = 19_800
const directory = mkdtempSync(join(tmpdir(), 'dpulse-inputs-file-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const log = join(directory, 'app.log')
const out = join(directory, 'out.jsonl')
const config = join(directory, 'collector.yaml')
let written = 0

function write(count: number): void {
  const lines = Array.from({ length: count }, () => `line ${++written} of the service\n`)
  appendFileSync(log, lines.join(''))
}

/** How often each line was delivered. */
function delivered(): Map<number, number> {
  const counts = new Map<number, number>()
  let text = ''
  try {
    text = readFileSync(out, 'utf8')
  } catch {
    return counts // nothing yet
  }
  for (const [, number] of text.matchAll(/"line (\d+) of the service"/g))
    counts.set(Number(number), (counts.get(Number(number)) ?? 0) + 1)
  return counts
}
const missing = (): number => written - delivered().size

const start = () =>
  startProgram('collector', { data: join(directory, 'data'), portOffset, arguments: ['--config', config] })

describe('lines of files', () => {
  test(
    'arrive once over clean stops and rotations, and at least once over kills',
    { timeout: 120_000 },
    async () => {
      mkdirSync(join(directory, 'data'))
      writeFileSync(
        config,
        `sources: { app: { type: file, paths: ${log}, from: beginning, interval: 100ms } }
exporters: { out: { type: file, path: ${out} } }
pipelines: { p: { sources: [app], exporters: [out] } }
`,
      )
      write(5000)
      const first = start()
      await eventually('the first lines', 20, () => missing() === 0)
      await first.stop()

      // Away: more lines, a rotation with compression, and more lines.
      write(500)
      writeFileSync(`${log}.1.gz`, gzipSync(readFileSync(log)))
      rmSync(log)
      write(500)
      const second = start()
      await eventually('the lines of the rotated file', 20, () => missing() === 0)
      write(500)
      renameSync(log, `${log}.1`)
      write(500)
      await eventually('the lines after a rename', 20, () => missing() === 0)
      await second.stop()
      expect([...delivered().values()].filter((count) => count !== 1)).toEqual([])

      const third = start()
      const before = delivered().size
      write(20_000)
      await eventually('a part of the lines', 20, () => delivered().size > before)
      third.child.kill('SIGKILL')
      await once(third.child, 'exit')
      write(500)
      const fourth = start()
      await eventually('the lines over a kill', 30, () => missing() === 0)
      await fourth.stop()
      expect(delivered().size).toBe(written)
    },
  )
})
