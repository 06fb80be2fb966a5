// The kill test: senders that repeat a request until it is acknowledged, programs that are killed with SIGKILL at
// random instants of a seed, and the comparison of what was acknowledged with what is stored.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LogsEncoder } from '../../plugins/contract/encoder.ts'
import { encodeResource } from '../../plugins/contract/values.ts'
import { apiUrl, childrenOf, eventually, healthy, isDrained, startProgram } from './programs.ts'
import type { Program } from './programs.ts'

export interface KillRun {
  seed: number
  records: number
  /** How often each program is killed. */
  kills: number
  /** `up`: the parent restarts them. `alone`: this test does. */
  under: 'up' | 'alone'
  portOffset: number
  /** Longest pause between two kills; short ones hit recovery. */
  pauseMs: number
  /** As `--store`; the embedded one where absent. */
  store?: string
  /** YAML, for programs that are `alone`. */
  aggregator?: string
  log?: (line: string) => void
}

export interface Kills {
  collector: number
  aggregator: number
}

export interface KillResult {
  acknowledged: number
  sent: number
  kills: Kills
  stored: number
  /** Acknowledged and absent. */
  lost: string[]
  /** Stored more often than sent. */
  multiplied: string[]
  /** Stored and never sent. */
  invented: string[]
  balanced: boolean
  unknown: number
}

/** mulberry32: a small generator with a seed, so that a failure can be repeated. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

const perRequest = 200
const senders = 4

function request(from: number, count: number): Buffer {
  const encoder = new LogsEncoder({ name: 'kill-test' })
  encoder.begin(encodeResource({ 'service.name': 'kill-test' }))
  const seconds = Math.floor(Date.now() / 1000)
  for (let index = from; index < from + count; index++) {
    encoder.record(seconds, index % 1e9, seconds, 0, 9)
    encoder.body(`kill record ${index}`)
    encoder.end()
  }
  return Buffer.from(encoder.finish('any', 'log').bytes)
}

/** Sends one request until it is acknowledged; counts how often it left. */
async function sendUntilAcknowledged(
  url: string,
  bytes: Buffer,
  sends: () => void,
  over: AbortSignal,
): Promise<void> {
  for (;;) {
    over.throwIfAborted()
    sends()
    try {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/x-protobuf' },
        body: new Uint8Array(bytes),
        signal: AbortSignal.any([over, AbortSignal.timeout(20_000)]),
      })
      await answer.arrayBuffer()
      if (answer.ok) return
      if (answer.status === 400) throw new Error(`refused for good: ${answer.status}`)
    } catch (error) {
      if (error instanceof Error && error.message.startsWith('refused')) throw error
    }
    await new Promise((resume) => setTimeout(resume, 20))
  }
}

/** Starts both programs, in either way, and kills them by name. */
function startFleet(run: KillRun, data: string, configuration: string) {
  const options = { data, portOffset: run.portOffset }
  const store = run.store === undefined ? [] : ['--store', run.store]
  let stopping = false
  if (run.under === 'up') {
    const parent = startProgram('up', { ...options, arguments: store })
    return {
      kill(name: 'collector' | 'aggregator') {
        const child = childrenOf(parent.child.pid ?? 0).find(({ program }) => program === name)
        if (!child) return false
        process.kill(child.pid, 'SIGKILL')
        return true
      },
      stop: () => parent.stop(),
      output: () => parent.output(),
    }
  }
  const running = new Map<string, Program>()
  const launch = (name: 'collector' | 'aggregator') => {
    const extra = name === 'aggregator' ? ['--config', configuration, ...store] : []
    const program = startProgram(name, { ...options, arguments: extra })
    running.set(name, program)
    program.child.once('exit', () => !stopping && launch(name))
  }
  launch('aggregator')
  launch('collector')
  return {
    kill: (name: 'collector' | 'aggregator') => running.get(name)?.child.kill('SIGKILL') ?? false,
    async stop() {
      stopping = true
      await running.get('collector')?.stop()
      await running.get('aggregator')?.stop()
    },
    output: () => [...running.values()].map((program) => program.output()).join('\n'),
  }
}

interface Ledger {
  produced: number
  stored: number
  inFlight: number
  unknown: number
  balanced: boolean
}
const ledgerOf = async (portOffset: number): Promise<Ledger> =>
  (await (await fetch(`${apiUrl(portOffset)}/api/ledger`)).json()) as Ledger

/** How often each record of the run is in the store, by its number. */
async function storedCounts(
  portOffset: number,
  records: number,
): Promise<{ counts: Uint8Array; invented: string[] }> {
  const counts = new Uint8Array(records)
  const invented: string[] = []
  let next: string | undefined
  do {
    const parameters = new URLSearchParams({ since: '1d', limit: '10000', where: 'service.name=kill-test' })
    if (next !== undefined) parameters.set('next', next)
    const answer = await fetch(`${apiUrl(portOffset)}/api/logs?${parameters}`)
    if (!answer.ok) throw new Error(`log search: ${answer.status} ${await answer.text()}`)
    const page = (await answer.json()) as { records: { body: string }[]; next?: string }
    for (const { body } of page.records) {
      const index = Number(/^kill record (\d+)$/.exec(body)?.[1] ?? Number.NaN)
      if (index < records) counts[index] = (counts[index] ?? 0) + 1
      else invented.push(body)
    }
    next = page.next
  } while (next !== undefined)
  return { counts, invented }
}

async function killAtRandom(
  run: KillRun,
  kills: Kills,
  kill: (name: 'collector' | 'aggregator') => boolean,
  over: AbortSignal,
): Promise<void> {
  const next = random(run.seed)
  while ((kills.collector < run.kills || kills.aggregator < run.kills) && !over.aborted) {
    // Squared: many short pauses, which hit a program while it recovers, and some long ones.
    const pauseMs = 20 + next() ** 2 * run.pauseMs
    await new Promise((resume) => setTimeout(resume, pauseMs))
    const due = (['collector', 'aggregator'] as const).filter((name) => kills[name] < run.kills)
    const name = due[Math.floor(next() * due.length)]
    if (name && kill(name)) {
      kills[name]++
      run.log?.(`killed ${name} (${kills[name]} of ${run.kills}) after ${Math.round(pauseMs)} ms`)
    }
  }
}

/** The whole run; the caller judges the result. */
export async function killRun(run: KillRun): Promise<KillResult> {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-kill-'))
  const configuration = join(data, 'aggregator.yaml')
  // Small hot tables, so that sealing is under way in many of the kills.
  const small = `store: { segment_rows: { logs: ${Math.max(2000, Math.floor(run.records / 40))} } }\n`
  writeFileSync(configuration, run.aggregator ?? small)
  const fleet = startFleet(run, data, configuration)
  const over = new AbortController()
  try {
    await eventually('both programs ready', 90, () => healthy(run.portOffset))
    const url = `http://127.0.0.1:${4318 + run.portOffset}/v1/logs`
    const sends = new Uint8Array(run.records)
    let acknowledged = 0
    let next = 0
    const kills: Kills = { collector: 0, aggregator: 0 }
    const killing = killAtRandom(run, kills, (name) => fleet.kill(name), over.signal)
    // Sending keeps step with the kills, so that each of them meets records under way.
    const due = () =>
      Math.ceil((run.records * (kills.collector + kills.aggregator + 1)) / (2 * run.kills + 1))
    const sending = Array.from({ length: senders }, async () => {
      while (next < run.records) {
        if (next >= due()) {
          await new Promise((resume) => setTimeout(resume, 10))
          continue
        }
        const from = next
        const count = Math.min(perRequest, run.records - from)
        next += count
        const sent = () => {
          for (let index = from; index < from + count; index++)
            sends[index] = Math.min(255, (sends[index] ?? 0) + 1)
        }
        await sendUntilAcknowledged(url, request(from, count), sent, over.signal)
        acknowledged += count
      }
    })
    await Promise.all([killing, ...sending])
    run.log?.(`all ${acknowledged} records acknowledged`)
    const ledger = await eventually('an empty buffer, and an empty and balanced ledger', 120, async () => {
      if (!(await isDrained(8601 + run.portOffset))) return false
      const answer = await ledgerOf(run.portOffset)
      return answer.inFlight === 0 && answer.balanced && answer
    }).catch(async (cause: unknown) => {
      run.log?.(`${String(cause)}\n${fleet.output()}`)
      return ledgerOf(run.portOffset)
    })
    const { counts, invented } = await storedCounts(run.portOffset, run.records)
    return judge({ sends, counts, invented, acknowledged, kills, ledger })
  } finally {
    over.abort(new Error('the run is over'))
    await fleet.stop()
    rmSync(data, { recursive: true, force: true })
  }
}

function judge(found: {
  sends: Uint8Array
  counts: Uint8Array
  invented: string[]
  acknowledged: number
  kills: Kills
  ledger: Ledger
}): KillResult {
  const { sends, counts, invented, acknowledged, kills, ledger } = found
  const lost: string[] = []
  const multiplied: string[] = []
  let stored = 0
  let sent = 0
  for (const [index, count] of counts.entries()) {
    stored += count
    sent += sends[index] ?? 0
    if (count === 0) lost.push(`kill record ${index}`)
    if (count > (sends[index] ?? 0)) multiplied.push(`kill record ${index}: ${count} for ${sends[index]}`)
  }
  const { balanced, unknown } = ledger
  return { acknowledged, sent, kills, stored, lost, multiplied, invented, balanced, unknown }
}
