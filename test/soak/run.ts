// `npm run soak [-- NAME]`: the long forms of tests that `npm test` runs short. Prints what it found; fails like a test.
import process from 'node:process'
import { parseArgs } from 'node:util'
import {
  budgetConfiguration,
  budgetLimits,
  budgetRun,
  memoryConfiguration,
  memoryLimit,
  memoryRun,
} from '../support/budget-run.ts'
import { fleetOf } from '../support/fleet.ts'
import { killRun } from '../support/kill-run.ts'
import { soakFleet } from './fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import type { KillRun } from '../support/kill-run.ts'

const [first = 'kill', ...rest] = process.argv.slice(2)
if (first === 'fleet') process.exit((await soakFleet(rest)) ? 0 : 1)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' },
    records: { type: 'string', default: '1000000' },
    kills: { type: 'string', default: '50' },
    under: { type: 'string', default: 'both' },
    seconds: { type: 'string', default: '120' },
    quiet: { type: 'boolean', default: false },
  },
})

const budgetOffset = 20_100

const ways: KillRun['under'][] =
  values.under === 'up' ? ['up'] : values.under === 'alone' ? ['alone'] : ['up', 'alone']
const [name = 'kill'] = positionals
if (name === 'budget') {
  await soakBudget(Number(values.seconds))
  await soakMemory(Number(values.seconds))
} else if (name === 'kill') await soakKills()
else throw new Error(`there is no soak ${name}; there are kill, budget and fleet`)

/** A collector and an aggregator of their own, for as long as `run` takes. */
async function withFleet(collector: string, run: (fleet: Fleet) => Promise<void>): Promise<void> {
  const ends: (() => Promise<void>)[] = []
  const onTestFinished = (end: () => Promise<void>) => void ends.push(end)
  const fleet = fleetOf({ portOffset: budgetOffset, collector, onTestFinished })
  try {
    await fleet.startBoth()
    await run(fleet)
  } finally {
    for (const end of ends) await end()
  }
}

/** Limits under five times what they let in. */
function soakBudget(seconds: number): Promise<void> {
  return withFleet(budgetConfiguration(budgetOffset), async (fleet) => {
    const { ledger, ...figures } = await budgetRun(fleet, seconds)
    const { balanced, dropped, produced, stored } = ledger
    process.stdout.write(`${JSON.stringify({ ...figures, produced, stored, dropped, balanced })}\n`)
    const isWithin =
      figures.cpu < budgetLimits.cpu * (1 + 2 / seconds) + 0.005 &&
      figures.pssMiB * 2 ** 20 < budgetLimits.memory
    const precious = ledger.streams.filter(
      (stream) => stream.class === 'event' || stream.class === 'log_error',
    )
    if (!balanced || !isWithin || precious.some((stream) => stream.stored < stream.produced))
      process.exitCode = 1
  })
}

/** A limit of memory alone, under all that a sender has. */
function soakMemory(seconds: number): Promise<void> {
  return withFleet(memoryConfiguration(budgetOffset), async (fleet) => {
    const { ledger, ...figures } = await memoryRun(fleet, seconds)
    const { balanced, dropped, produced, stored } = ledger
    process.stdout.write(`${JSON.stringify({ ...figures, produced, stored, dropped, balanced })}\n`)
    const isWhole = balanced && stored === produced && produced >= figures.sent
    if (!isWhole || figures.pssMiB * 2 ** 20 >= memoryLimit) process.exitCode = 1
  })
}

async function soakKills(): Promise<void> {
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
}
