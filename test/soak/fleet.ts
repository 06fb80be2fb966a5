// `npm run soak fleet`: a simulated fleet on an aggregator with its embedded store, for half an hour unless told otherwise.
// The account has to balance with nothing lost, memory to stay where it was, and the simulator to need less than a core.
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startSimulatedFleet } from '../support/simulated-fleet.ts'

const portOffset = 20_200
const sampleSeconds = 15
/** By so much the last quarter may be above the second one: the first is a start. */
const growth = 1.15
const MiB = 2 ** 20

interface Sample {
  seconds: number
  simulator: number
  aggregator: number
}

/** Prints what it found. @returns whether all held. */
export async function soakFleet(argv: readonly string[]): Promise<boolean> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      devices: { type: 'string', default: '2000' },
      minutes: { type: 'string', default: '30' },
      interval: { type: 'string', default: '10s' },
      speed: { type: 'string', default: '1' },
      faults: { type: 'string', default: '' },
    },
  })
  const { devices, interval, speed, faults } = values
  const line = ['--devices', devices, '--interval', interval, '--speed', speed, '--faults', faults]
  await using fleet = await startSimulatedFleet(portOffset, line)
  const beganMs = performance.now()
  const samples: Sample[] = []
  let online = 0
  let begun: ReturnType<typeof fleet.use> | undefined
  let begunMs = 0
  for (const until = Number(values.minutes) * 60; secondsSince(beganMs) < until;) {
    await sleep(Math.min(sampleSeconds, until / 8) * 1000)
    const now = fleet.use()
    samples.push({
      seconds: secondsSince(beganMs),
      simulator: now.simulator.residentBytes,
      aggregator: now.aggregator.residentBytes,
    })
    online = Math.max(online, await fleet.online())
    // What a start costs is no part of what a device costs.
    if (begun === undefined && secondsSince(beganMs) > until / 4) {
      begun = now
      begunMs = performance.now()
    }
    const memory = `${mebibytes(now.simulator.residentBytes)} + ${mebibytes(now.aggregator.residentBytes)} MiB`
    process.stdout.write(`  ${secondsSince(beganMs).toFixed(0)} s: ${online} devices online, ${memory}\n`)
  }
  const ended = fleet.use()
  const coresOf = (name: 'simulator' | 'aggregator') =>
    (ended[name].cpu - (begun?.[name].cpu ?? 0)) / secondsSince(begunMs)
  const cores = { simulator: coresOf('simulator'), aggregator: coresOf('aggregator') }
  const ledger = await fleet.settle()
  const { produced, stored, dropped, unknown, balanced } = ledger
  const checks = {
    [`${devices} devices online`]: online >= Number(devices),
    'the account balances, with nothing lost': balanced && unknown === 0 && stored === produced,
    'the memory of the simulator is flat': isFlat(samples.map(({ simulator }) => simulator)),
    'the memory of the aggregator is flat': isFlat(samples.map(({ aggregator }) => aggregator)),
    'the simulator needs less than a core': cores.simulator < 1,
  }
  const figures = {
    devices: Number(devices),
    interval,
    minutes: Number(values.minutes),
    simulatorCores: Number(cores.simulator.toFixed(3)),
    aggregatorCores: Number(cores.aggregator.toFixed(3)),
    simulatorMiB: mebibytes(ended.simulator.residentBytes),
    aggregatorMiB: mebibytes(ended.aggregator.residentBytes),
    produced,
    stored,
    dropped,
    unknown,
    balanced,
  }
  process.stdout.write(`${JSON.stringify(figures)}\n`)
  for (const [what, holds] of Object.entries(checks)) {
    process.stdout.write(`${holds ? 'holds' : 'DOES NOT HOLD'}: ${what}\n`)
  }
  return Object.values(checks).every(Boolean)
}

const secondsSince = (ms: number): number => (performance.now() - ms) / 1000
const mebibytes = (bytes: number): number => Math.round(bytes / MiB)

function isFlat(sizes: readonly number[]): boolean {
  const quarter = (index: number) => {
    const part = sizes.slice((index * sizes.length) / 4, ((index + 1) * sizes.length) / 4)
    return part.toSorted((a, b) => a - b)[Math.floor(part.length / 2)] ?? 0
  }
  return quarter(3) <= quarter(1) * growth
}
