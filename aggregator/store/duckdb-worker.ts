// The thread in which the embedded store lives: it answers the calls of duckdb.ts, one message each.
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import { PermanentError, RetryableError, messageOf } from '../../plugins/contract/errors.ts'
import { QueryRefused } from '../query.ts'
import { listMetrics } from './catalogue.ts'
import { Counter } from './count.ts'
import { Database, isFatal, isFull } from './database.ts'
import { Maintenance } from './maintenance.ts'
import type {
  Calls,
  CallName,
  ErrorMessage,
  FromWorker,
  LogEvent,
  ToWorker,
  WriteRequest,
} from './messages.ts'
import { searchLogs } from './query-logs.ts'
import { latestValues, queryMetric } from './query-series.ts'
import { QueryRunner, fileInError, longMs } from './runner.ts'
import type { QueryContext } from './runner.ts'
import type { DuckStoreSettings } from './settings.ts'
import { Engine } from './write.ts'

const { directory, settings } = workerData as { directory: string; settings: DuckStoreSettings }
const port = parentPort
if (!port) throw new Error('duckdb-worker.ts is a worker thread of duckdb.ts')

interface Parts {
  engine: Engine
  runner: QueryRunner
  counter: Counter
  maintenance: Maintenance
  broken: boolean
}

const say = (log: LogEvent): void => port.postMessage({ log } satisfies FromWorker)

async function openParts(): Promise<Parts> {
  await mkdir(directory, { recursive: true })
  await rm(join(directory, 'spill'), { recursive: true, force: true })
  const database = await Database.open(directory, settings)
  const engine = await Engine.load(database, settings, say)
  const runner = new QueryRunner(database, settings.queries, settings.queryTimeoutMs)
  const counter = new Counter(engine.segments)
  const maintenance = new Maintenance(engine, runner, counter, say)
  return { engine, runner, counter, maintenance, broken: false }
}

let parts: Promise<Parts> = openParts()
const aborts = new Map<number, AbortController>()
let timer: NodeJS.Timeout | undefined
let closing = false

/** After a fatal error DuckDB must be opened anew; what was committed is there, what was not the writer repeats. */
function reopen(broken: Parts, error: unknown): void {
  if (broken.broken) return
  broken.broken = true
  say({ level: 'error', message: 'store failed and is opened anew', fields: { error: messageOf(error) } })
  parts = (async () => {
    await broken.maintenance.stop()
    await broken.runner.stop()
    try {
      broken.engine.database.close()
    } catch {
      // It is broken; what matters is whether it opens again.
    }
    return openParts()
  })()
  // Whoever asks next hears of a failure, and tries once more.
  parts.catch(() => undefined)
}

async function current(): Promise<Parts> {
  try {
    return await parts
  } catch {
    parts = openParts()
    return parts
  }
}

async function write(request: WriteRequest): Promise<Calls['write']['answer']> {
  const opened = await current()
  if (opened.engine.full !== undefined) throw new RetryableError('DISK_FULL', opened.engine.full)
  try {
    const receipts = await opened.engine.write(request)
    await opened.maintenance.grown(request.values.byteLength)
    // What is full is sealed at once: tables of recent rows are the costly ones.
    if (opened.engine.segments.all.some(({ state }) => state === 'closed')) scheduleMaintenance(0)
    return receipts
  } catch (error) {
    if (isFatal(error)) reopen(opened, error)
    throw isFull(error)
      ? new RetryableError('DISK_FULL', `no space left in ${directory}`, { cause: error })
      : new RetryableError('UNEXPECTED', 'the store could not write', { cause: error })
  }
}

/** Runs a query; a file that cannot be read is told, left out, and does not spoil the rest. */
async function ask<T>(
  signal: AbortSignal,
  work: (context: QueryContext, opened: Parts) => Promise<T>,
  timeoutMs = settings.queryTimeoutMs,
): Promise<T> {
  const opened = await current()
  for (;;) {
    try {
      return await opened.runner.run(signal, (context) => work(context, opened), timeoutMs)
    } catch (error) {
      const file = fileInError(error)
      const segment = opened.engine.segments.all.find((each) => each.file === file && !each.unreadable)
      if (file === undefined || !segment || signal.aborted) {
        if (isFatal(error)) reopen(opened, error)
        throw error
      }
      segment.unreadable = true
      say({ level: 'error', message: 'segment cannot be read', fields: { file, error: messageOf(error) } })
    }
  }
}

const handlers: {
  [Name in CallName]: (ask: Calls[Name]['ask'], signal: AbortSignal) => Promise<Calls[Name]['answer']>
} = {
  load: async () => {
    const { engine } = await current()
    return { position: engine.state.position, streams: engine.state.streams() }
  },
  write,
  forget: async (streams) => (await current()).engine.forget(streams),
  count: async (device, signal) => {
    const { maintenance } = await current()
    return maintenance.layout.run(() =>
      ask(signal, (context, { counter }) => counter.count(context, device), longMs),
    )
  },
  status: async () => {
    const { engine, maintenance } = await current()
    const { all } = engine.segments
    const oldest = Math.min(...all.map((each) => each.arrivalFrom))
    const error = engine.full ?? maintenance.error
    return {
      bytes: await maintenance.measure(),
      rows: all.reduce((sum, each) => sum + each.rows, 0),
      files: all.filter((each) => each.state === 'sealed').length,
      oldestUnixNano: Number.isFinite(oldest) ? BigInt(oldest) : undefined,
      ...(error === undefined ? {} : { error }),
    }
  },
  maintain: async ({ seal }) => {
    const { maintenance } = await current()
    await maintenance.pass(seal, Date.now())
    return undefined
  },
  logs: (query, signal) => ask(signal, (context, { engine }) => searchLogs(context, engine.segments, query)),
  metrics: (device, signal) => ask(signal, (context) => listMetrics(context, device)),
  query: (query, signal) =>
    ask(signal, (context, { engine }) => queryMetric(context, engine.segments, query)),
  latest: (device, signal) =>
    ask(signal, (context, { engine }) => latestValues(context, engine.segments, device)),
  close: async () => {
    closing = true
    clearTimeout(timer)
    for (const controller of aborts.values()) {
      controller.abort(new RetryableError('STOPPING', 'the store is closing'))
    }
    const { engine, runner, maintenance } = await parts
    await maintenance.stop()
    await engine.lock.run(async () => {
      await runner.stop()
      engine.database.close()
    })
    return undefined
  },
}

async function answer({ id, call, ask }: Extract<ToWorker, { id: number }>): Promise<void> {
  const controller = new AbortController()
  if (call !== 'close') aborts.set(id, controller)
  try {
    if (closing && call !== 'close') throw new RetryableError('STOPPING', 'the store is closing')
    const handler = handlers[call] as (ask: unknown, signal: AbortSignal) => Promise<unknown>
    const result = await handler(ask, controller.signal)
    port?.postMessage({ id, answer: result } satisfies FromWorker)
  } catch (error) {
    port?.postMessage({ id, error: describe(error, controller.signal.aborted) } satisfies FromWorker)
  } finally {
    aborts.delete(id)
  }
}

function describe(error: unknown, aborted: boolean): ErrorMessage {
  const message = error instanceof Error ? error.message : messageOf(error)
  const cause = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : undefined
  if (error instanceof QueryRefused) return { kind: 'refused', parameter: error.parameter, message, cause }
  if (error instanceof RetryableError) return { kind: 'retryable', code: error.code, message, cause }
  if (error instanceof PermanentError) return { kind: 'permanent', code: error.code, message, cause }
  if (aborted) return { kind: 'aborted', message, cause }
  return { kind: 'retryable', code: 'UNEXPECTED', message: 'the store failed', cause: messageOf(error) }
}

port.on('message', (message: ToWorker) => {
  if ('abort' in message) aborts.get(message.abort)?.abort()
  else void answer(message)
})

let passing = false

function scheduleMaintenance(afterMs: number): void {
  if (settings.maintenanceMs <= 0 || closing || passing) return
  clearTimeout(timer)
  timer = setTimeout(() => {
    passing = true
    void current()
      .then(({ maintenance }) => maintenance.pass('due', Date.now()))
      .catch((error: unknown) => {
        say({ level: 'error', message: 'store cannot be opened', fields: { error: messageOf(error) } })
      })
      .finally(() => {
        passing = false
        scheduleMaintenance(settings.maintenanceMs)
      })
  }, afterMs)
}

parts.then(
  () => {
    port.postMessage({ opened: true } satisfies FromWorker)
    scheduleMaintenance(settings.maintenanceMs)
  },
  (error: unknown) => port.postMessage({ openFailed: describe(error, false) } satisfies FromWorker),
)
