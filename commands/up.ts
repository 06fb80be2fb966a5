// `dpulse up`: the parent of collector and aggregator. It starts both as processes of their own, starts them again
// when they die, tells what runs where, and takes them along when it goes (they also watch its IPC channel).
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import { isReadyMessage } from '../plugins/contract/parent.ts'
import type { PeerMessage, ReadyMessage } from '../plugins/contract/parent.ts'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import { CommandFailure } from './failure.ts'
import { awaitFreePorts } from './ports.ts'
import { note } from './terminal.ts'
import { summary } from './summary.ts'

type Name = 'aggregator' | 'collector'

interface Child {
  name: Name
  process: ChildProcess | undefined
  /** What it said last; kept over restarts. */
  ready: ReadyMessage | undefined
  running: boolean
  failures: number
}

const firstDelayMs = 200
const longestDelayMs = 10_000
const settledMs = 10_000
const stopMs = 15_000

/** `entry` is dpulse.ts; runs until SIGTERM or SIGINT. */
export async function up(options: ProgramOptions, entry: string, version: string): Promise<void> {
  await awaitFreePorts(options)
  const supervisor = createSupervisor(options, entry, version)
  let firstStopMs = 0
  const stop = (signal: NodeJS.Signals) => {
    const nowMs = performance.now()
    // Ctrl-C may reach us twice, from the terminal and through npm; a second one a second later is impatience.
    if (firstStopMs > 0 && nowMs - firstStopMs > 1000) supervisor.kill()
    if (firstStopMs === 0) supervisor.stop(signal)
    firstStopMs ||= nowMs
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, stop)
  await supervisor.done
}

interface Supervisor {
  stop(why: string): void
  kill(): void
  /** Rejects with CommandFailure when a child could not even start, or had to be killed. */
  done: Promise<void>
}

function createSupervisor(options: ProgramOptions, entry: string, version: string): Supervisor {
  const stopping = new AbortController()
  const { promise: done, resolve, reject } = Promise.withResolvers<void>()
  const children: Child[] = (['aggregator', 'collector'] as const).map((name) => ({
    name,
    process: undefined,
    ready: undefined,
    running: false,
    failures: 0,
  }))
  let told = false
  let forced = false
  let failure: CommandFailure | undefined

  const slow = setTimeout(() => {
    const late = children.filter(({ ready }) => ready === undefined).map(({ name }) => name)
    if (late.length > 0) note(`still starting: ${late.join(' and ')}`)
  }, 10_000)

  function start(child: Child): void {
    if (stopping.signal.aborted) return
    const { DPULSE_SHIM: _, ...env } = process.env
    const started = fork(entry, [child.name, ...argumentsOf(options)], {
      env,
      // Only stderr: what a program logs. stdout is the parent's summary.
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    child.process = started
    const startedMs = performance.now()
    started.on('message', (message) => {
      if (isReadyMessage(message)) onReady(child, message)
    })
    // What fork could not start exits as well as far as we are concerned; a channel that breaks shows in the exit.
    started.on('error', (error) => note(`${child.name}: ${error.message}`))
    started.once('exit', (code, signal) => onExit(child, code, signal, performance.now() - startedMs))
  }

  function onReady(child: Child, message: ReadyMessage): void {
    const back = child.ready !== undefined && !child.running
    child.ready = message
    child.running = true
    tellAggregator()
    if (told && back) note(`${child.name} is back`)
    const [aggregator, collector] = children
    if (told || aggregator?.ready === undefined || collector?.ready === undefined) return
    told = true
    clearTimeout(slow)
    process.stdout.write(
      summary(options, version, { aggregator: aggregator.ready, collector: collector.ready }),
    )
  }

  // /api/health speaks for both, so the aggregator hears how the collector is.
  function tellAggregator(): void {
    const [aggregator, collector] = children
    if (aggregator?.process?.connected !== true || collector === undefined) return
    const listeners = collector.ready?.parts.filter(({ address }) => address !== undefined) ?? []
    const message: PeerMessage = {
      type: 'peer',
      program: collector.name,
      ready: collector.running,
      detail: collector.running ? `${listeners.length} listeners` : 'starting',
    }
    aggregator.process.send(message, () => undefined)
  }

  function onExit(child: Child, code: number | null, signal: NodeJS.Signals | null, livedMs: number): void {
    child.process = undefined
    child.running = false
    if (stopping.signal.aborted) return onStopped()
    tellAggregator()
    // One that refuses to start (a wrong configuration, a port that is taken) has said why: no use in repeating it.
    if (child.ready === undefined && code !== null && code !== 0) {
      failure = new CommandFailure(
        `the ${child.name} did not start; its message is above`,
        code === 2 ? 2 : 1,
      )
      return stop(`the ${child.name}`)
    }
    child.failures = livedMs > settledMs ? 0 : child.failures + 1
    const longest = Math.min(longestDelayMs, firstDelayMs * 2 ** child.failures)
    const delayMs = Math.max(firstDelayMs, Math.round(longest * (0.5 + Math.random() / 2)))
    const how = signal === null ? `exit code ${code}` : signal
    note(`${child.name} died (${how}); starting it again in ${(delayMs / 1000).toFixed(1)} s`)
    const timer = setTimeout(() => start(child), delayMs)
    stopping.signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
    return undefined
  }

  function stop(why: string): void {
    if (stopping.signal.aborted) return
    stopping.abort()
    clearTimeout(slow)
    if (failure === undefined) note(`stopping (${why})`)
    void stopAll()
  }

  // The collector first: what it still holds goes to an aggregator that is there.
  async function stopAll(): Promise<void> {
    const deadline = setTimeout(kill, stopMs)
    for (const child of [...children].reverse()) {
      if (child.process === undefined) continue
      const exited = once(child.process, 'exit')
      child.process.kill('SIGTERM')
      await Promise.race([exited, once(AbortSignal.timeout(stopMs / 2), 'abort')])
    }
    await Promise.all(children.map(async (child) => child.process && once(child.process, 'exit')))
    clearTimeout(deadline)
    onStopped()
  }

  function onStopped(): void {
    if (children.some((child) => child.process !== undefined)) return
    if (failure !== undefined) reject(failure)
    else if (forced)
      reject(new CommandFailure(`not all had stopped within ${stopMs / 1000} s and were killed`, 1))
    else resolve()
  }

  function kill(): void {
    for (const child of children) {
      if (child.process === undefined) continue
      forced = true
      child.process.kill('SIGKILL')
    }
  }

  for (const child of children) start(child)
  return { stop, kill, done }
}

function argumentsOf(options: ProgramOptions): string[] {
  return [
    '--data',
    options.data,
    '--port-offset',
    String(options.portOffset),
    '--broker',
    options.broker,
    '--journal',
    options.journal,
    '--store',
    options.store,
    ...(options.config === undefined ? [] : ['--config', options.config]),
    ...(options.maxDisk === undefined ? [] : ['--max-disk', `${options.maxDisk}B`]),
  ]
}
