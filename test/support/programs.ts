// Real dpulse processes for tests: started from the command line, on ports of their own, killed as the test wishes.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import process from 'node:process'

const root = resolve(import.meta.dirname, '../..')

export interface Program {
  readonly name: string
  readonly child: ChildProcess
  /** What it wrote to stderr and stdout, the newest part. */
  output(): string
  stop(): Promise<void>
}

/** `dpulse NAME --data … --port-offset …` as a process of its own. */
export function startProgram(
  name: 'up' | 'collector' | 'aggregator',
  options: {
    data: string
    portOffset: number
    arguments?: readonly string[]
    environment?: NodeJS.ProcessEnv
    /** The program and what stands before the arguments; `node dpulse.ts` unless given. */
    command?: readonly [string, ...string[]]
  },
): Program {
  const [command, ...before] = options.command ?? [process.execPath, 'dpulse.ts']
  const child = spawn(
    command,
    [
      ...before,
      name,
      '--data',
      options.data,
      '--port-offset',
      String(options.portOffset),
      ...(options.arguments ?? []),
    ],
    { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...options.environment } },
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => (output = (output + text).slice(-64_000)))
  }
  return {
    name,
    child,
    output: () => output,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

/** Asks again and again until the answer is there; the error says what was awaited, and why the last try failed. */
export async function eventually<T>(
  what: string,
  seconds: number,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const until = performance.now() + seconds * 1000
  let failure: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== undefined && answer !== false) return answer
      failure = undefined
    } catch (error) {
      failure = error
    }
    if (performance.now() > until) throw new Error(`${what}: not within ${seconds} s`, { cause: failure })
    await new Promise((resume) => setTimeout(resume, 25))
  }
}

/** Children of a process, by the programs that `dpulse up` starts. */
export function childrenOf(pid: number): { pid: number; program: string }[] {
  const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim()
  if (list === '') return []
  return list.split(' ').flatMap((child) => {
    try {
      const words = readFileSync(`/proc/${child}/cmdline`, 'latin1').split('\0')
      const program = words.find((word) => word === 'collector' || word === 'aggregator')
      return program ? [{ pid: Number(child), program }] : []
    } catch {
      return []
    }
  })
}

export const apiUrl = (portOffset: number): string => `http://127.0.0.1:${8600 + portOffset}`

export async function healthy(portOffset: number): Promise<boolean> {
  return (await fetch(`${apiUrl(portOffset)}/api/health`)).ok
}

/**
 * Whether the buffer of a collector is empty. Until then the aggregator's ledger may know nothing of what the last kill
 * left there: an account of what was announced balances also before a collector is back.
 */
export async function isDrained(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/api/ledger`, { signal: AbortSignal.timeout(2000) })
  if (!answer.ok) throw new Error(`the collector answers ${answer.status}`)
  const { inFlight, held } = (await answer.json()) as { inFlight: number; held: unknown[] }
  return inFlight === 0 && held.length === 0
}
