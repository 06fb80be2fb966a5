// One child of `dpulse up`: a process of its own that is started again when it dies, after a delay that grows from
// 0.2 s to 10 s with jitter, without end, until it is told to stop.
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import { isReadyMessage } from '../plugins/contract/parent.ts'
import type { PeerMessage, ReadyMessage } from '../plugins/contract/parent.ts'

const firstDelayMs = 200
const longestDelayMs = 10_000
const settledMs = 10_000

export interface ChildEvents {
  /** It runs and said what; `again` after a restart. */
  onReady(again: boolean): void
  onDied(how: string, delayMs: number): void
  /** It ended by itself before it was ever ready (a wrong configuration, a port that is taken): it said why. */
  onRefused(exitCode: number): void
  onTrouble(error: Error): void
}

export interface Child {
  readonly name: string
  /** What it said last; kept over restarts. */
  readonly ready: ReadyMessage | undefined
  /** Ready now. */
  readonly running: boolean
  tell(message: PeerMessage): void
  /** Ends it and starts it no more; resolves when it has gone. */
  stop(): Promise<void>
  /** At once; whether there was something to kill. */
  kill(): boolean
}

/** How long to wait before the next start: doubles with each failure, and jitter keeps two from marching in step. */
export function restartDelay(failures: number, random: number): number {
  const longest = Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(failures, 20))
  return Math.max(firstDelayMs, Math.round(longest * (0.5 + random / 2)))
}

// Without the mark of bin.js, whose channel is another.
function spawnChild(entry: string, line: readonly string[]): ChildProcess {
  const { DPULSE_SHIM: _, ...env } = process.env
  return fork(entry, line, { env, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
}

async function terminated(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

/** Starts `entry NAME ARGUMENTS`. */
export function superviseChild(
  name: string,
  entry: string,
  line: readonly string[],
  events: ChildEvents,
): Child {
  let current: ChildProcess | undefined
  let ready: ReadyMessage | undefined
  let timer: NodeJS.Timeout | undefined
  let [running, stopped, failures] = [false, false, 0]

  function start(): void {
    const started = spawnChild(entry, [name, ...line])
    const startedMs = performance.now()
    current = started
    started.on('message', (message) => {
      if (!isReadyMessage(message)) return
      const again = ready !== undefined && !running
      ready = message
      running = true
      events.onReady(again)
    })
    started.on('error', (error) => {
      events.onTrouble(error)
      if (started.pid === undefined) onExit(null, 'no process', 0) // nothing will exit
    })
    started.once('exit', (code, signal) => onExit(code, signal, performance.now() - startedMs))
  }

  function onExit(code: number | null, signal: string | null, livedMs: number): void {
    current = undefined
    running = false
    if (stopped) return
    if (ready === undefined && code !== null && code !== 0) return events.onRefused(code)
    failures = livedMs > settledMs ? 0 : failures + 1
    const delayMs = restartDelay(failures - 1, Math.random())
    timer = setTimeout(start, delayMs)
    return events.onDied(signal ?? `exit code ${code}`, delayMs)
  }

  start()
  return {
    name,
    get ready() {
      return ready
    },
    get running() {
      return running
    },
    tell(message) {
      if (current?.connected === true) current.send(message, () => undefined)
    },
    stop() {
      stopped = true
      clearTimeout(timer)
      return terminated(current)
    },
    kill: () => current?.kill('SIGKILL') ?? false,
  }
}
