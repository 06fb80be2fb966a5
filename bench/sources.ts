// `npm run bench sources [NAME …]`: CPU that a source takes for a reading, or for a record, its helpers included.
//
// Each runs in a process of its own over the input of its tests; its peers are in this one. Rounds of readings (or records)
// are measured after others that warm it up; the figure is the median. Without names they go to results/sources.txt, and
// to results/sources.json, from which `node plugins/document.ts` makes the tables of sources.
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os, { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cost } from '../plugins/document.ts'
import { plugins } from '../plugins/index.ts'
import { inputOf } from './measure/inputs.ts'
import type { Input } from './measure/inputs.ts'
import { alignedTable } from './measure/process.ts'
import type { Passing, Standing } from './measure/source.ts'

/** The median, and between which values it was. */
interface Measured extends Cost {
  least: number
  most: number
}

const warmUps = 2
const rounds = 7
const readingsOfRound = 40
const recordsOfRound = 5000
/** Longer than any interval of readings by default but that of smbios, and a whole number of most of them. */
const passing = 60_000
const results = join(import.meta.dirname, 'results')

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0

async function ask(child: ChildProcess, ms: number): Promise<Standing> {
  const message: Passing = { ms }
  child.send(message)
  const [standing] = (await once(child, 'message')) as [Standing]
  return standing
}

/** Records of a feed have all come when no more do. */
async function fed(child: ChildProcess, feed: NonNullable<Input['feed']>, from: Standing): Promise<Standing> {
  await feed(recordsOfRound, from.address)
  let last = await ask(child, 1000)
  for (;;) {
    await sleep(200)
    const next = await ask(child, last.records === from.records ? 10_000 : 1000)
    if (next.records === last.records && next.records > from.records) return next
    last = next
  }
}

async function read(child: ChildProcess, intervalMs: number): Promise<Standing> {
  for (let left = readingsOfRound; left > 1; left--) await ask(child, intervalMs)
  return ask(child, intervalMs)
}

async function measure({ config, feed }: Input, name: string, intervalMs: number): Promise<Measured> {
  const child = fork(join(import.meta.dirname, 'measure/source.ts'), [name, JSON.stringify(config)])
  try {
    let [before] = (await once(child, 'message')) as [Standing]
    before = await ask(child, 0)
    const costs: number[] = []
    const counts: number[] = []
    for (let round = 0; round < warmUps + rounds; round++) {
      const after = feed ? await fed(child, feed, before) : await read(child, intervalMs)
      const records = after.records - before.records
      // Of StatsD lines come as one reading; of the others as they are.
      const parts = feed ? recordsOfRound : readingsOfRound
      if (round >= warmUps) {
        costs.push(((after.cpu - before.cpu) * 1e6) / parts)
        counts.push(Math.round(records / parts))
      }
      before = after
    }
    const rounded = (value: number): number => Number(value.toPrecision(3))
    const [least, most] = [Math.min(...costs), Math.max(...costs)]
    const figures = { micros: rounded(median(costs)), least: rounded(least), most: rounded(most) }
    return feed ? { per: 'record', ...figures } : { per: 'reading', records: median(counts), ...figures }
  } finally {
    const gone = once(child, 'exit')
    child.disconnect()
    await gone
  }
}

/** The interval by default; of a source without one, time that its timers see. */
function intervalOf(config: unknown): number {
  const { interval } = config as { interval?: number }
  return interval ?? passing
}

const asked = process.argv.slice(2)
const sources = plugins.filter(
  (one) => one.kind === 'source' && (asked.length === 0 || asked.includes(one.name)),
)
const costs: Record<string, Measured> = {}
for (const { name, config } of sources) {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-bench-'))
  await using open = new AsyncDisposableStack()
  open.defer(() => rmSync(folder, { recursive: true, force: true }))
  const input = await inputOf(name, folder, open)
  if (typeof input === 'string') process.stderr.write(`${name} is not measured: ${input}\n`)
  else costs[name] = await measure(input, name, intervalOf(config.parse(input.config)))
}

const shown = (micros: number): string =>
  micros >= 1000 ? `${(micros / 1000).toPrecision(3)} ms` : `${micros.toPrecision(3)} µs`
const rows = Object.entries(costs).map(([name, { per, records, micros, least, most }]) => [
  name,
  shown(micros),
  `${shown(least)} – ${shown(most)}`,
  per,
  records === undefined ? '' : String(records),
])
const machine = `${os.availableParallelism()} cores (${os.cpus()[0]?.model ?? 'unknown'}), Node ${process.versions.node}`
const said = [
  `npm run bench sources, on ${machine}`,
  `CPU, helpers included: median and range of ${rounds} rounds of ${readingsOfRound} readings or ${recordsOfRound} records`,
  '',
  ...alignedTable([['source', 'CPU', 'range', 'per', 'records of it'], ...rows]),
]
const text = `${said.join('\n')}\n`
process.stdout.write(text)
if (asked.length === 0) {
  writeFileSync(join(results, 'sources.txt'), text)
  writeFileSync(join(results, 'sources.json'), `${JSON.stringify({ sources: costs }, undefined, 2)}\n`)
}
