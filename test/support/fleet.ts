// A collector and an aggregator as processes of their own for tests of failures: started, stopped, killed and frozen by
// name, with a sender that repeats what is not acknowledged, and the count of what the store has of it.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { apiUrl, eventually, healthy, isDrained, startProgram } from './programs.ts'
import type { Program } from './programs.ts'
import { ledgerOf } from './traffic.ts'
import type { Ledger } from './traffic.ts'

export type Name = 'collector' | 'aggregator'

export interface FleetOptions {
  portOffset: number
  /** YAML. */
  collector?: string
  aggregator?: string
  /** The port of the collector's API, where the configuration names one. */
  collectorApi?: number
  arguments?: readonly string[]
  /** A folder of its own, removed at the end of the test, where absent. */
  data?: string
  /** Vitest's, of the test itself where tests run beside each other. */
  onTestFinished: (task: () => Promise<void>) => void
}

export function fleetOf(options: FleetOptions) {
  const { portOffset } = options
  const made = options.data === undefined ? mkdtempSync(join(tmpdir(), 'dpulse-fleet-')) : undefined
  const data = options.data ?? made ?? ''
  const running = new Map<Name, Program>()
  options.onTestFinished(async () => {
    for (const name of ['collector', 'aggregator'] as const) {
      const program = running.get(name)
      program?.child.kill('SIGCONT')
      await program?.stop()
    }
    if (made !== undefined) rmSync(made, { recursive: true, force: true })
  })
  const of = (name: Name): Program => {
    const program = running.get(name)
    if (!program) throw new Error(`the ${name} was not started`)
    return program
  }
  return {
    data,
    portOffset,
    of,
    pid: (name: Name): number => of(name).child.pid ?? 0,
    output: (): string => [...running.values()].map((program) => program.output()).join('\n'),
    start(name: Name): Program {
      const configuration = options[name]
      const file = join(data, `${name}.yaml`)
      if (configuration !== undefined) writeFileSync(file, configuration)
      const program = startProgram(name, {
        data,
        portOffset,
        arguments: [...(configuration === undefined ? [] : ['--config', file]), ...(options.arguments ?? [])],
      })
      running.set(name, program)
      return program
    },
    /** Both, and until they answer. */
    async startBoth(): Promise<void> {
      this.start('aggregator')
      await this.aggregatorAnswers()
      this.start('collector')
      await this.collectorListens()
    },
    aggregatorAnswers: (): Promise<boolean> =>
      eventually('the aggregator answers', 90, () => healthy(portOffset)).catch((cause: unknown) => {
        throw new Error(`the aggregator does not answer: ${of('aggregator').output()}`, { cause })
      }),
    /** All its sources listen. That it says it is up tells less: it does not wait for a slow one for ever. */
    collectorListens: () =>
      eventually('the collector listens', 90, async () => {
        const port = options.collectorApi ?? 8601 + portOffset
        return (await fetch(`http://127.0.0.1:${port}/api/health`)).ok
      }),
    async kill(name: Name): Promise<void> {
      const { child } = of(name)
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
    freeze: (name: Name) => of(name).child.kill('SIGSTOP'),
    thaw: (name: Name) => of(name).child.kill('SIGCONT'),
    /**
     * The ledger, once nothing of what is asked for is under way. What the collector holds the aggregator need not have
     * heard of: its account then balances without it.
     */
    settled: (seconds = 90, isThere: (ledger: Ledger) => boolean = () => true): Promise<Ledger> =>
      eventually('a ledger with nothing under way', seconds, async () => {
        // A collector that is gone, or has no API, holds nothing that could come.
        const isEmpty = await isDrained(options.collectorApi ?? 8601 + portOffset).catch(() => true)
        if (!isEmpty) return false
        const ledger = await ledgerOf(portOffset)
        return ledger.inFlight === 0 && ledger.streams.length > 0 && isThere(ledger) && ledger
      }),
  }
}

export type Fleet = ReturnType<typeof fleetOf>

const post = (portOffset: number, body: string): Promise<Response> =>
  fetch(`http://127.0.0.1:${4318 + portOffset}/v1/logs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    signal: AbortSignal.timeout(40_000),
  })

const requestOf = (name: string, first: number, count: number, device: string | undefined): string =>
  JSON.stringify({
    resourceLogs: [
      {
        resource: {
          attributes: [
            { key: 'service.name', value: { stringValue: name } },
            ...(device === undefined ? [] : [{ key: 'host.id', value: { stringValue: device } }]),
          ],
        },
        scopeLogs: [
          {
            logRecords: Array.from({ length: count }, (_, index) => ({
              timeUnixNano: `${Date.now()}000000`,
              severityNumber: 9,
              body: { stringValue: `${name} ${first + index}` },
            })),
          },
        ],
      },
    ],
  })

/**
 * Sends a request of `perRequest` records every `everyMs`, however many are unanswered, and repeats each until it is
 * acknowledged.
 */
export function startSender(
  portOffset: number,
  {
    name,
    perRequest,
    everyMs,
    devices,
  }: {
    name: string
    perRequest: number
    everyMs: number
    /** Each request is about another. */ devices?: number
  },
) {
  /** How often each record was sent. */
  const sends: number[] = []
  /** When each request was acknowledged, and after how long. */
  const answers: { atMs: number; tookMs: number }[] = []
  const under = new Set<Promise<void>>()
  let acknowledged = 0
  async function deliver(first: number): Promise<void> {
    const device = devices === undefined ? undefined : `dpu-${(first / perRequest) % devices}`
    const body = requestOf(name, first, perRequest, device)
    const began = performance.now()
    for (;;) {
      for (let index = first; index < first + perRequest; index++) sends[index] = (sends[index] ?? 0) + 1
      const answer = await post(portOffset, body).catch(() => undefined)
      await answer?.arrayBuffer().catch(() => undefined)
      if (answer?.ok === true) break
      await new Promise((resume) => setTimeout(resume, 50))
    }
    acknowledged += perRequest
    answers.push({ atMs: performance.now(), tookMs: performance.now() - began })
  }
  let next = 0
  const began = performance.now()
  // As many as are due: a timer that comes late on a busy machine would send fewer.
  const timer = setInterval(() => {
    for (; next / perRequest <= (performance.now() - began) / everyMs; next += perRequest) {
      const one = deliver(next).finally(() => under.delete(one))
      under.add(one)
    }
  }, everyMs)
  return {
    sends,
    answers,
    get acknowledged() {
      return acknowledged
    },
    get unanswered() {
      return under.size
    },
    async stop(): Promise<void> {
      clearInterval(timer)
      await Promise.all(under)
    },
  }
}

/** How often each record of that name is in the store, by its number. */
export async function storedOf(portOffset: number, name: string, key = 'service.name'): Promise<number[]> {
  const counts: number[] = []
  let next: string | undefined
  do {
    const parameters = new URLSearchParams({ since: '1d', limit: '10000', where: `${key}=${name}` })
    if (next !== undefined) parameters.set('next', next)
    const answer = await fetch(`${apiUrl(portOffset)}/api/logs?${parameters}`)
    if (!answer.ok) throw new Error(`log search: ${answer.status} ${await answer.text()}`)
    const page = (await answer.json()) as { records: { body: string }[]; next?: string }
    for (const { body } of page.records) {
      const index = Number(/ (\d+)(?: of queue.*)?$/.exec(body)?.[1] ?? Number.NaN)
      counts[index] = (counts[index] ?? 0) + 1
    }
    next = page.next
  } while (next !== undefined)
  return counts
}

/** What of the records is absent, or there more often than it was sent; empty where all is well. */
export function wrongOf(stored: readonly number[], sends: readonly number[]) {
  const lost: number[] = []
  const multiplied: number[] = []
  for (let index = 0; index < Math.max(stored.length, sends.length); index++) {
    const [count = 0, times = 0] = [stored[index], sends[index]]
    if (count === 0 && times > 0) lost.push(index)
    if (count > times) multiplied.push(index)
  }
  return { lost, multiplied }
}

/** Resident memory now, in MiB. */
export function residentMiB(pid: number): number {
  const kiB = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
  return Number(kiB) / 1024
}
