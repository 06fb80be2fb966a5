// `npm run soak [-- NAME]`: the long forms of tests that `npm test` runs short. Prints what it found; fails like a test.
import process from 'node:process'
import { parseArgs } from 'node:util'
import { killRun } from '../support/kill-run.ts'
import type { KillRun } from '../support/kill-run.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    records: { type: 'string', default: '1000000' },
    kills: { type: 'string', default: '50' },
    under: { type: 'string', default: 'both' },
    quiet: { type: 'boolean', default: false },
  },
})

const ways: KillRun['under'][] =
  values.under === 'up' ? ['up'] : values.under === 'alone' ? ['alone'] : ['up', 'alone']
for (const under of ways) {
  const began = performance.now()
  const log = values.quiet ? undefined : (line: string) => process.stdout.write(`  ${line}\n`)
  const result = await killRun({
    seed: Number(values.seed),
    records: Number(values.records),
    kills: Number(values.kills),
    under,
    portOffset: 24_000,
    pauseMs: 6000,
    ...(log ? { log } : {}),
  })
  const { lost, multiplied, invented, ...figures } = result
  process.stdout.write(
    `${under}, seed ${values.seed}: ${JSON.stringify(figures)}, ${lost.length} lost, ${multiplied.length} multiplied, ` +
      `${invented.length} invented, ${((performance.now() - began) / 1000).toFixed(0)} s\n`,
  )
  for (const text of [...lost, ...multiplied, ...invented].slice(0, 20)) process.stdout.write(`  ${text}\n`)
  if (lost.length + multiplied.length + invented.length > 0 || !result.balanced) process.exitCode = 1
}
