// The simulator's composition root: a fleet without hardware, each device with the collector's real runtime, sending to
// any aggregator or into a file.
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setFlagsFromString } from 'node:v8'
import { Budget } from '../collector/budget.ts'
import { systemClock } from '../collector/clock.ts'
import { Heap } from '../collector/heap.ts'
import { Logger } from '../collector/logger.ts'
import { PermanentError, messageOf } from '../plugins/contract/index.ts'
import type { Log } from '../plugins/contract/index.ts'
import type { SimulateOptions } from '../plugins/contract/options.ts'
import { connectToParent, stopSignal } from '../plugins/contract/parent.ts'
import { plugins } from '../plugins/index.ts'
import { openLog } from '../plugins/protocols/log/index.ts'
import { startBmcs } from './bmc/index.ts'
import { clockOf } from './clock.ts'
import { collectorsConfig } from './collectors.ts'
import { Cable, destinationOf } from './exporters.ts'
import type { Destination } from './exporters.ts'
import { faultKinds } from './faults/index.ts'
import { createSchedule } from './faults/schedule.ts'
import { makeFleet } from './fleet.ts'
import { kinds } from './kinds/index.ts'
import type { Device, Schedule, ScheduleOptions } from './model.ts'
import { isFile, timesOf } from './times.ts'
import { SharedExporter } from './shared-exporter.ts'
import { Simulation } from './simulation.ts'
import { Timeline, driveLive, driveVirtual } from './timeline.ts'
import { openTruth } from './truth.ts'

const MiB = 2 ** 20
/** Of the log of each device, where it has one. */
const deviceDisk = 64 * MiB
const stopMs = 20_000
const statusMs = 5000
/** Devices that connect in a second: brokers let in no more than so many. */
const startsPerSecond = 400
/** Fleets are thousands of small objects: collecting all of them is dear, so more may pile up. */
const garbage = { young: 64 * MiB, old: 256 * MiB }
/**
 * V8 would else look through all of them whenever 64 MiB of batches came and went, every few seconds; threads that mark
 * the heap are left out as in collector/main.ts.
 */
const heapFlags = [
  '--external-memory-accounted-in-global-limit',
  '--heap-growing-percent=150',
  '--no-concurrent-marking',
]

/** Runs until SIGTERM, SIGINT, the end of the parent or that of the run. @throws what a person must mend. */
export async function main(options: SimulateOptions, version: string): Promise<void> {
  if (options.faults === 'help') return void process.stdout.write(faultTable())
  for (const flag of heapFlags) setFlagsFromString(flag)
  Buffer.poolSize = 1024 // as in collector/main.ts, and why
  const signal = stopSignal(stopMs)
  const parent = connectToParent(() => undefined)
  const log = new Logger().for('simulator')
  const times = timesOf(options, Date.now())
  const destination = destinationOf(options.to, plugins, options.portOffset, options.speed)
  const shared = await sharedOf(options, destination)
  const devices = makeFleet({ ...options, kinds, epochMs: times.epochMs })
  using truth = openTruth(options.truth)
  const schedule = scheduled({ faults: options.faults, devices, tell: truth.tell })
  const timeline = new Timeline(times.epochMs)
  const simulation = assemble(options, { version, devices, schedule, timeline, destination, shared })
  const run = async () => {
    simulation.start()
    log.info('simulator is up', { devices: devices.length, to: destination.address, seed: options.seed })
    parent.ready([{ name: 'simulator', address: destination.address, note: `${devices.length} devices` }], [])
    const over = new AbortController()
    if (!shared) void tellChanges(simulation, log, over.signal)
    await ended(timeline, times.untilMs, signal, shared)
    over.abort()
    if (!signal.aborted) simulation.catchUp()
    await simulation.stop()
    log.info('simulator stops')
  }
  if (shared) {
    await driveVirtual(timeline, run(), () => shared.busy())
    await shared.written()
    await shared.close()
    return
  }
  const bmcs = options.bmc === undefined ? undefined : await startBmcs(devices, { basePort: options.bmc })
  try {
    if (bmcs) log.info('BMCs answer', { first: bmcs.url(0), last: bmcs.url(devices.length - 1) })
    using _ = driveLive(timeline, times)
    await run()
  } finally {
    await bmcs?.close()
  }
}

interface Parts {
  version: string
  devices: readonly Device[]
  schedule: Schedule
  timeline: Timeline
  destination: Destination
  shared: SharedExporter | undefined
}

function assemble(options: SimulateOptions, parts: Parts): Simulation {
  const { version, devices, schedule, timeline, destination, shared } = parts
  const cables = new Map(devices.map(({ id }) => [id, new Cable()]))
  // Thousands of collectors that cannot connect would say so thousands of times.
  const logger = new Logger({ level: 'error' })
  const reached = shared ? { ...destination, definition: shared.forDevices } : destination
  return new Simulation({
    timeline,
    devices,
    cables,
    schedule,
    version,
    logger,
    clock: clockOf(timeline, { offsetMs: 0 }),
    config: collectorsConfig({ ...options, plugins, devices, cables, destination: reached }),
    budget: new Budget({
      clock: systemClock,
      logger: logger.for('budget'),
      heap: new Heap(systemClock, garbage),
    }),
    portOffset: options.portOffset,
    disk: deviceDisk,
    openLog: options.data === undefined ? undefined : deviceLogs(options.data),
    startWithinMs: shared ? 0 : (devices.length / startsPerSecond) * 1000 * options.speed,
  })
}

/** What is wrong with it is for a person to mend. */
function scheduled(options: ScheduleOptions): Schedule {
  try {
    return createSchedule(options)
  } catch (cause) {
    throw new PermanentError('CONFIG_INVALID', messageOf(cause))
  }
}

function faultTable(): string {
  const width = Math.max(...faultKinds.map(({ name }) => name.length))
  return faultKinds.map(({ name, summary }) => `${name.padEnd(width)}  ${summary}\n`).join('')
}

/** How many are connected, when that changes. */
async function tellChanges(simulation: Simulation, log: Log, signal: AbortSignal): Promise<void> {
  let told = -1
  await systemClock.delay(statusMs, signal).catch(() => undefined)
  if (signal.aborted) return
  await systemClock.every(statusMs, signal, () => {
    const { online, ...status } = simulation.status()
    if (online !== told) log.info('devices connected', { online, ...status })
    told = online
  })
}

async function ended(
  timeline: Timeline,
  untilMs: number,
  signal: AbortSignal,
  shared: SharedExporter | undefined,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (Number.isFinite(untilMs)) timeline.add(untilMs, resolve)
  if (signal.aborted) return
  signal.addEventListener('abort', () => resolve(), { once: true })
  await (shared ? Promise.race([promise, shared.failed]) : promise)
}

/** A file is written by all devices together, in an order that only the seed decides. */
async function sharedOf(options: SimulateOptions, { definition, config, address }: Destination) {
  if (!isFile(options)) return undefined
  if (options.bmc !== undefined) {
    throw new PermanentError(
      'CONFIG_INVALID',
      '--bmc: nobody can ask a BMC of a run into a file, which has no time',
    )
  }
  const { path } = config as { path: string }
  const there = await stat(path).catch(() => undefined)
  if (there && there.size > 0) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `--to ${address}: the file is there already; remove it or name another`,
    )
  }
  return new SharedExporter(definition, config)
}

const deviceLogs = (data: string) => async (device: string) => {
  const directory = join(data, device)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  return openLog(directory, { maxBytes: deviceDisk, segmentBytes: MiB, onDamage: () => undefined })
}
