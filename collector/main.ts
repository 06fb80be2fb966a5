// The collector's composition root: finds out who it is, opens its log, starts what the configuration (or this machine)
// has, follows changes of the configuration, and drains when it is told to stop.
import { watch } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import os from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import process from 'node:process'
import { setFlagsFromString } from 'node:v8'
import { ulid } from 'ulid'
import { PermanentError, messageOf } from '../plugins/contract/index.ts'
import type { Definition } from '../plugins/contract/index.ts'
import { ports } from '../plugins/contract/options.ts'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import { connectToParent, stopSignal } from '../plugins/contract/parent.ts'
import type { LeftOut, Part } from '../plugins/contract/parent.ts'
import { plugins } from '../plugins/index.ts'
import { LogLockedError, openLog } from '../plugins/protocols/log/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import { openKept } from './change/kept.ts'
import { Steering } from './change/steering.ts'
import type { Base } from './change/in-force.ts'
import { bootClock } from './change/verbosity.ts'
import { startApi } from './api.ts'
import type { Api } from './api.ts'
import { systemClock as clock } from './clock.ts'
import { parseConfig } from './config.ts'
import type { CollectorConfig } from './config.ts'
import type { CollectorIdentity } from './context.ts'
import { detectConfig } from './detect.ts'
import { identityFile, resolveIdentity } from './identity.ts'
import { Logger } from './logger.ts'
import { Measures, measureSource } from './measure.ts'
import { textOf } from './problems.ts'
import { Runtime, leftOutOf } from './runtime.ts'

const GiB = 1024 ** 3
const MiB = 1024 ** 2
/** Beside an aggregator in the same directory, whose journal and store have the rest. */
const diskShare = 0.1
const defaultDisk = 20 * GiB
/** Sources 3 s, buffers 10 s, and what writing the rest takes. */
const stopMs = 20_000
const settleMs = 3000
/**
 * Batches live outside V8's heap and count towards it: with less growth it would mark all the time in a flood. The heap
 * itself is small, and threads that mark it beside us take several times the CPU of doing it ourselves.
 */
const heapFlags = ['--heap-growing-percent=150', '--no-concurrent-marking']
/**
 * Of what small buffers are cut from. mqtt-packet keeps one of four bytes for every length of a packet that it ever
 * wrote, and each keeps all that it was cut from: with the usual 64 KiB that comes to hundreds of megabytes.
 */
const poolBytes = 1024

/** What a configuration may name: everything in plugins/index.ts, and the collector's own measurements. */
export const definitions: readonly Definition[] = [...plugins, measureSource(new Measures(0n))]

/** Runs until SIGTERM, SIGINT or the end of the parent. @throws what a person must mend before it can start. */
export async function main(options: ProgramOptions, version: string): Promise<void> {
  for (const flag of heapFlags) setFlagsFromString(flag)
  Buffer.poolSize = poolBytes
  const signal = stopSignal(stopMs)
  const parent = connectToParent(() => undefined)
  const logger = new Logger()
  const log = logger.for('collector')
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error }))
  const loaded = await load(options)
  for (const problem of loaded.warnings) log.warn('configuration', { problem })
  const directory = join(options.data, 'collector')
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const identity = await identityOf(options, loaded.config, version)
  const steering = new Steering({
    kept: await openKept(directory, logger.for('change')),
    base: baseOf(options, loaded),
    identity,
    definitions,
    clock,
    boot: bootClock(),
    log: logger.for('change'),
  })
  const config = await steering.begin()
  identity.labels = steering.labels
  const disk = diskOf(options.maxDisk, config.limits.disk)
  await using open = new AsyncDisposableStack()
  open.defer(() => logger.flush())
  const buffer = open.use(await openBuffer(directory, disk, config, logger))

  let tell: () => void = () => undefined
  const runtime = new Runtime({
    identity,
    log: buffer,
    clock,
    logger,
    disk: disk * 0.9,
    onChange: () => tell(),
    changes: steering,
  })
  open.defer(() => runtime.stop())
  const api = await openApi(runtime, config, options, logger)
  if (api) open.use(api)
  await steering.start(runtime, signal)
  for (const id of orphansOf(buffer, config)) {
    log.warn('the buffer holds batches of an exporter that is not configured any more', { exporter: id })
  }

  let leftOut = loaded.leftOut
  // A parent shows it to the person who started us.
  if (!parent.present) {
    const sources = loaded.config.sources.map(({ id }) => id).join(', ')
    if (options.config === undefined) log.info('sources that this machine has something for', { sources })
    for (const { name, reason } of leftOut) log.info('source left out', { source: name, reason })
  }
  const parts = (): Part[] => [
    ...(api ? [{ name: 'collector API', address: api.url }] : []),
    ...runtime.parts(),
  ]
  const report = () => parent.ready(parts(), [...leftOut, ...leftOutOf(runtime)], runtime.isSettled)
  await settled(runtime, signal)
  // Not before: the first word to the parent says that the listeners are up.
  tell = throttled(report, signal)
  report()
  log.info('collector is up', { collector: identity.collector, device: identity.device, data: directory })
  void runtime.budget.heap.tidy(signal)
  followChanges(options, loaded.text, signal, logger, async () => {
    const again = await load(options)
    for (const problem of again.warnings) log.warn('configuration', { problem })
    if (again.config.collector.id !== loaded.config.collector.id) {
      log.warn('the id of the collector changes with its next start')
    }
    await steering.rebase(baseOf(options, again))
    leftOut = again.leftOut
    tell()
  })
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  log.info('collector stops', { reason: messageOf(signal.reason) })
}

/** `--max-disk` is for all in the directory, `limits.disk` for the collector alone: the smaller one counts. */
function diskOf(maxDisk: number | undefined, limit: number | undefined): number {
  const share = (maxDisk ?? defaultDisk) * diskShare
  return Math.floor(limit === undefined ? share : maxDisk === undefined ? limit : Math.min(limit, share))
}

interface Loaded {
  config: CollectorConfig
  leftOut: LeftOut[]
  warnings: string[]
  /** What the file said. */
  text: string
}

/** @throws PermanentError CONFIG_INVALID that tells every problem. */
async function load(options: ProgramOptions): Promise<Loaded> {
  if (options.config === undefined)
    return { ...(await detectConfig(definitions, options)), warnings: [], text: '' }
  const file = resolve(options.config)
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new PermanentError('CONFIG_INVALID', `${options.config} cannot be read`, { cause })
  })
  const { config, problems } = await parseConfig(text, file, definitions)
  if (!config) {
    const list = problems.map((problem) => `\n  ${textOf(problem)}`).join('')
    throw new PermanentError('CONFIG_INVALID', `${options.config} has problems:${list}`)
  }
  return { config, leftOut: [], warnings: problems.map(textOf), text }
}

const baseOf = (options: ProgramOptions, { config, text }: Loaded): Base => ({
  config,
  text: options.config === undefined ? undefined : text,
  // What a text from afar refers to is beside the device's own file, where it has one.
  file: resolve(options.config ?? join(options.data, 'collector.yaml')),
})

async function identityOf(
  options: ProgramOptions,
  config: CollectorConfig,
  version: string,
): Promise<CollectorIdentity> {
  const found = await resolveIdentity(identityFile(options.data))
  const id = config.collector.id ?? found.device
  return {
    collector: id,
    device: id,
    instance: ulid(),
    version,
    since: new Date().toISOString(),
    hostname: found.hostname || os.hostname(),
    arch: found.arch,
    labels: config.collector.labels,
    identity: config.collector.id === undefined ? found.source : 'configuration',
    portOffset: options.portOffset,
  }
}

async function openBuffer(
  directory: string,
  disk: number,
  { exporters }: CollectorConfig,
  logger: Logger,
): Promise<Log> {
  const log = logger.for('buffer')
  // Room comes back by whole segments, so even the smallest buffer is made of many.
  const smallest = Math.min(
    ...exporters.map(({ buffer }) => (buffer.disk === undefined || buffer.disk === 0 ? disk : buffer.disk)),
  )
  const segmentBytes = Math.floor(Math.min(disk / 200, smallest / 16))
  try {
    return await openLog(directory, {
      maxBytes: disk,
      segmentBytes: Math.min(8 * MiB, Math.max(256 * 1024, segmentBytes)),
      onDamage: (damage) => log.error('the log of the buffer is damaged', { ...damage }),
    })
  } catch (cause) {
    if (!(cause instanceof LogLockedError)) throw cause
    const what = `another collector (process ${cause.pid}) works with ${directory}: stop it, or give this one --data DIR`
    throw new PermanentError('PERMISSION_DENIED', what) // the cause would say it again
  }
}

/** They are kept, and sent when an exporter of that id comes back. */
function orphansOf(buffer: Log, config: CollectorConfig): string[] {
  const known = new Set(config.exporters.map(({ id }) => id))
  const held = buffer.topics().filter((name) => buffer.topic(name).bytes > 0)
  const ids = new Set(held.map((name) => name.split('/', 1)[0] ?? ''))
  return [...ids].filter((id) => !known.has(id))
}

async function openApi(
  runtime: Runtime,
  config: CollectorConfig,
  options: ProgramOptions,
  logger: Logger,
): Promise<Api | undefined> {
  if (!config.api.enabled) return undefined
  const port = ports.collectorApi + options.portOffset
  const addresses = config.api.listen ?? [
    { host: '127.0.0.1', port },
    { host: '::1', port },
  ]
  const { series, expire: expireMs } = config.api.values
  return startApi({ runtime, addresses, logger: logger.for('api'), values: { series, expireMs } })
}

/** All sources came up or said why not; one that does neither is not waited for. */
async function settled(runtime: Runtime, signal: AbortSignal): Promise<void> {
  const until = clock.elapsedMs() + settleMs
  while (!runtime.isSettled && clock.elapsedMs() < until && !signal.aborted) {
    await clock.delay(20, signal).catch(() => undefined)
  }
}

/** At most once in 100 ms. */
function throttled(call: () => void, signal: AbortSignal): () => void {
  let isDue = false
  return () => {
    if (isDue || signal.aborted) return
    isDue = true
    setTimeout(() => {
      isDue = false
      if (!signal.aborted) call()
    }, 100).unref()
  }
}

/** SIGHUP, and whatever happens to the file. What cannot be used is told, and changes nothing. */
function followChanges(
  options: ProgramOptions,
  loaded: string,
  signal: AbortSignal,
  logger: Logger,
  reload: () => Promise<void>,
): void {
  const log = logger.for('collector')
  let last = loaded
  const change = async (isAsked: boolean) => {
    try {
      const text = options.config === undefined ? '' : await readFile(options.config, 'utf8')
      if (!isAsked && text === last) return
      last = text
      await reload()
      log.info('configuration is in force')
    } catch (error) {
      log.error('configuration is refused, the one before stays in force', { error })
    }
  }
  process.on('SIGHUP', () => void change(true))
  if (options.config === undefined) return
  const file = resolve(options.config)
  // Editors and mounted volumes replace the file, so its directory is watched.
  let timer: NodeJS.Timeout | undefined
  try {
    const watcher = watch(dirname(file), { signal }, (_, name) => {
      if (name !== null && name !== basename(file) && !name.startsWith('..')) return
      clearTimeout(timer)
      timer = setTimeout(() => void change(false), 300)
      timer.unref()
    })
    watcher.on('error', (error) => log.warn('the configuration is not watched any more', { error }))
  } catch (error) {
    log.warn('the configuration cannot be watched; SIGHUP reloads it', { error })
  }
  void change(false) // it may have changed while we started
}
