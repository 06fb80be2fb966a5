// A collector under limits, with five times what it sustains coming in, or all that a sender has: what it used
// meanwhile, and what its account says.
// For the test of `npm test` and for the two minutes of `npm run soak budget`.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import process from 'node:process'
import { cpuSeconds, groupOf, pssBytes } from '../../collector/footprint.ts'
import { sendOverTcp, syslogLines } from './traffic.ts'
import type { Ledger } from './traffic.ts'
import type { Fleet } from './fleet.ts'

const MiB = 1024 * 1024

export const budgetLimits = { memory: 224 * MiB, cpu: 0.1 }

export const budgetConfiguration = (portOffset: number): string => `
limits: { memory: 224MiB, cpu: 10% }
sources:
  datagrams: { type: syslog, udp: '127.0.0.1:${5514 + portOffset}' }
  lines: { type: syslog, tcp: '127.0.0.1:${5515 + portOffset}' }
  precious: { type: otlp }
exporters: { aggregator: { type: mqtt } }
pipelines: { all: { sources: [datagrams, lines, precious], exporters: [aggregator] } }
`

/** Memory alone: nothing slows a flood but the room that there is. */
export const memoryLimit = 140 * MiB

export const memoryConfiguration = (portOffset: number): string => `
limits: { memory: ${memoryLimit / MiB}MiB }
sources: { lines: { type: syslog, tcp: '127.0.0.1:${5515 + portOffset}' } }
exporters: { aggregator: { type: mqtt } }
pipelines: { all: { sources: [lines], exporters: [aggregator] } }
`

export interface BudgetRun {
  /** Records a second that the limits let in, and what was sent over UDP then. */
  sustained: number
  offered: number
  sent: { datagrams: number; events: number; errors: number }
  /** Of one core, while it was offered more. */
  cpu: number
  /** Largest of the whole group. */
  pssMiB: number
  ledger: Ledger
}

/** What the process group of a program uses, from now on. */
function watch(pid: number) {
  const cpuOf = () => groupOf(pid).reduce((sum, one) => sum + cpuSeconds(one), 0)
  const began = { cpu: cpuOf(), ms: performance.now() }
  let pss = 0
  const look = () => {
    pss = Math.max(
      pss,
      groupOf(pid).reduce((sum, one) => sum + pssBytes(one), 0),
    )
  }
  const timer = setInterval(look, 100)
  return () => {
    clearInterval(timer)
    look()
    const seconds = (performance.now() - began.ms) / 1000
    return { cpu: (cpuOf() - began.cpu) / seconds, pssMiB: pss / MiB }
  }
}

/** A program beside this one that floods the collector: how many records it sent. */
async function flood(program: string, ...words: number[]): Promise<number> {
  const file = resolve(import.meta.dirname, program)
  const child = spawn(process.execPath, [file, ...words.map((word) => String(Math.round(word)))], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`the flood ended with ${code}`)
  return Number(text)
}

/** Datagrams at a rate. */
const floodDatagrams = (port: number, rate: number, seconds: number): Promise<number> =>
  flood('flood-program.ts', port, rate, seconds)

/** As much as the collector takes, over TCP: the most memory that it had in any sample, and the account. */
export async function memoryRun(fleet: Fleet, seconds: number) {
  const used = watch(fleet.pid('collector'))
  const sent = await flood('stream-flood-program.ts', 5515 + fleet.portOffset, seconds, 4)
  const { pssMiB } = used()
  const ledger = await fleet.settled(120, ({ produced }) => produced >= sent)
  return { sent, pssMiB, ledger }
}

/** Events over OTLP, each until it is acknowledged; and lines of severity error over TCP, which waits. */
async function sendPrecious(
  portOffset: number,
  seconds: number,
): Promise<{ events: number; errors: number }> {
  const until = performance.now() + seconds * 1000
  let events = 0
  let errors = 0
  while (performance.now() < until) {
    const answer = await fetch(`http://127.0.0.1:${4318 + portOffset}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        resourceLogs: [
          { scopeLogs: [{ logRecords: [{ eventName: 'link.down', body: { stringValue: `${events}` } }] }] },
        ],
      }),
      signal: AbortSignal.timeout(30_000),
    })
    if (!answer.ok) throw new Error(`an event was refused: ${answer.status}`)
    await answer.arrayBuffer()
    events++
    const line = Buffer.from(
      syslogLines(errors, 10).toString('latin1').replaceAll('<134>', '<131>'),
      'latin1',
    )
    await sendOverTcp(5515 + portOffset, [line])
    errors += 10
    await new Promise((resume) => setTimeout(resume, 100))
  }
  return { events, errors }
}

const takenBy = async (portOffset: number): Promise<number> => {
  const text = await (await fetch(`http://127.0.0.1:${8601 + portOffset}/metrics`)).text()
  const found = /^dpulse_collector_records_out_total\{dpulse_component="datagrams",.*\} (\d+)$/m.exec(text)
  return Number(found?.[1] ?? 0)
}

/** More than is sustained shows what is: then five times that, for so long. */
export async function budgetRun(fleet: Fleet, seconds: number): Promise<BudgetRun> {
  const { portOffset } = fleet
  const port = 5514 + portOffset
  // Code is compiled, and the account settles.
  const warm = await floodDatagrams(port, 20_000, 6)
  const before = { taken: await takenBy(portOffset), ms: performance.now() }
  const more = await floodDatagrams(port, 20_000, 6)
  const sustained = ((await takenBy(portOffset)) - before.taken) / ((performance.now() - before.ms) / 1000)
  const offered = Math.max(1000, sustained * 5)
  const used = watch(fleet.pid('collector'))
  const [datagrams, precious] = await Promise.all([
    floodDatagrams(port, offered, seconds),
    sendPrecious(portOffset, seconds),
  ])
  const { cpu, pssMiB } = used()
  const all = warm + more + datagrams
  const { events, errors } = precious
  const of = (name: string, ledger: Ledger) =>
    ledger.streams.filter((one) => one.class === name).reduce((sum, { produced }) => sum + produced, 0)
  const ledger = await fleet.settled(
    120,
    (one) => of('log', one) + of('log_error', one) >= all + errors && of('event', one) >= events,
  )
  return { sustained, offered, sent: { datagrams: all, events, errors }, cpu, pssMiB, ledger }
}
