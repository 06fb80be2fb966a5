// `npm run bench rest [seconds]`: what a collector costs a machine that it only watches: `system` and `hwmon` every 15 s.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { cpuSeconds, peakBytes } from './measure/process.ts'

const seconds = Number(process.argv[2] ?? 90)
const data = mkdtempSync(join(tmpdir(), 'dpulse-rest-'))
const out = join(data, 'out.json')
const file = join(data, 'collector.yaml')
writeFileSync(
  file,
  `
api: { enabled: false }
sources: { machine: { type: system, interval: 15s }, sensors: { type: hwmon, interval: 15s } }
exporters: { out: { type: file, path: ${out} } }
pipelines: { p: { sources: [machine, sensors], exporters: [out] } }
`,
)
const child = spawn(process.execPath, ['dpulse.ts', 'collector', '--config', file, '--data', data], {
  cwd: resolve(import.meta.dirname, '..'),
  stdio: 'ignore',
})
const pid = child.pid ?? 0
const wait = (ms: number): Promise<void> => new Promise((resume) => setTimeout(resume, ms))
await wait(20_000)
const started = cpuSeconds(pid)
await wait(seconds * 1000)
const used = cpuSeconds(pid) - started
const peak = peakBytes(pid)
child.kill('SIGTERM')
await once(child, 'exit')

interface Request {
  resourceMetrics: {
    scopeMetrics: { metrics: Record<'gauge' | 'sum', { dataPoints: unknown[] } | undefined>[] }[]
  }[]
}
const requests = readFileSync(out, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Request)
const points = requests.flatMap(({ resourceMetrics }) =>
  resourceMetrics.flatMap(({ scopeMetrics }) =>
    scopeMetrics.flatMap(({ metrics }) =>
      metrics.flatMap(({ gauge, sum }) => (gauge ?? sum)?.dataPoints ?? []),
    ),
  ),
).length
rmSync(data, { recursive: true })
process.stdout.write(
  `collector at rest: ${((used / seconds) * 1000).toFixed(1)} ms CPU a second, ${(peak / 1e6).toFixed(0)} MB at most, ` +
    `${(points / requests.length).toFixed(0)} points a batch, ${requests.length} batches in ${seconds + 20} s\n`,
)
