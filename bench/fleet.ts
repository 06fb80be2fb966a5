// `npm run bench fleet`: what a device costs simulator and aggregator, from ten devices to two thousand.
//
// All sizes do the same work: fewer devices live faster, so that the readings of a second are as many and batches as large,
// and what is compared is the number of connections, sessions and buffers alone. README.md says why, and what is counted.
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startSimulatedFleet } from '../test/support/simulated-fleet.ts'
import { printTable } from './measure/process.ts'

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '10,50,200,500,1000,2000' },
    seconds: { type: 'string', default: '60' },
    /** Readings a second, of all devices together. */
    readings: { type: 'string', default: '200' },
    offset: { type: 'string', default: '20250' },
  },
})
const intervalSeconds = 10
/** What one reading of a device has, about: kinds differ, so it is records that are counted. */
const recordsInReading = 200
const sizes = values.sizes.split(',').map(Number)
/** So many devices start in a second; then their first inventory is due, and what was late is made up for. */
const startsPerSecond = 100
const settleSeconds = 12
/** Above and below the middle. */
const flatWithin = 0.2

interface Cost {
  devices: number
  speed: number
  recordsInBatch: number
  simulator: number
  aggregator: number
}

async function measure(devices: number): Promise<Cost> {
  const speed = (Number(values.readings) * intervalSeconds) / devices
  const line = [
    '--devices',
    String(devices),
    '--speed',
    speed.toFixed(3),
    '--interval',
    `${intervalSeconds}s`,
  ]
  const seconds = Number(values.seconds)
  // As long for all: code that has run for longer is compiled better.
  const warmUpSeconds = settleSeconds + Math.max(...sizes) / startsPerSecond
  // It ends with the run at the latest; so it has all of its time in the past.
  const simulated = Math.ceil((seconds + warmUpSeconds + 30) * speed)
  await using fleet = await startSimulatedFleet(Number(values.offset), [
    ...line,
    '--duration',
    `${simulated}s`,
  ])
  await sleep(warmUpSeconds * 1000)
  const counted = async () => ({
    use: fleet.use(),
    batches: await fleet.measure('ingest_batches_total'),
    records: await fleet.measure('ingest_records_total'),
  })
  const before = await counted()
  await sleep(seconds * 1000)
  const after = await counted()
  const readings = (after.records - before.records) / recordsInReading
  const perReading = (name: 'simulator' | 'aggregator') =>
    ((after.use[name].cpu - before.use[name].cpu) / readings) * 1e6
  return {
    devices,
    speed,
    recordsInBatch: (after.records - before.records) / (after.batches - before.batches),
    simulator: perReading('simulator'),
    aggregator: perReading('aggregator'),
  }
}

const costs: Cost[] = []
for (const size of sizes) {
  costs.push(await measure(size))
  process.stderr.write(`${size} devices measured\n`)
}
/** The median: of an even number, between the two in the middle. */
function middle(list: readonly number[]): number {
  const sorted = list.toSorted((one, other) => one - other)
  const [low = 0, high = 0] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]]
  return (low + high) / 2
}
const typical = {
  simulator: middle(costs.map(({ simulator }) => simulator)),
  aggregator: middle(costs.map(({ aggregator }) => aggregator)),
}
const share = (part: number, whole: number) => `${(((part - whole) / whole) * 100).toFixed(0)} %`
printTable([
  [
    'devices',
    'speed',
    'records a batch',
    'simulator µs',
    'beside the middle',
    'aggregator µs',
    'beside the middle',
  ],
  ...costs.map(({ devices, speed, recordsInBatch, simulator, aggregator }) => [
    String(devices),
    speed.toFixed(0),
    recordsInBatch.toFixed(1),
    simulator.toFixed(0),
    share(simulator, typical.simulator),
    aggregator.toFixed(0),
    share(aggregator, typical.aggregator),
  ]),
])
const isFlat = costs.every(({ simulator, aggregator }) =>
  [simulator / typical.simulator, aggregator / typical.aggregator].every(
    (ratio) => Math.abs(ratio - 1) <= flatWithin,
  ),
)
process.stdout.write(
  `CPU per reading of a device is ${isFlat ? '' : 'NOT '}flat within ${flatWithin * 100} %\n`,
)
