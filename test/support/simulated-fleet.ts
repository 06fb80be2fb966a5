// An aggregator and a simulated fleet as processes of their own, for soaks and benchmarks: started, measured, stopped, and
// the account of what became of all records.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { cpuSeconds } from '../../bench/measure/process.ts'
import { eventually, healthy, startProgram } from './programs.ts'
import { ledgerOf, measureOf } from './traffic.ts'
import type { Ledger } from './traffic.ts'

const root = resolve(import.meta.dirname, '../..')

export interface Use {
  /** Seconds of CPU so far. */
  cpu: number
  residentBytes: number
}

export interface SimulatedFleet extends AsyncDisposable {
  /** Now, by program. */
  use(): { simulator: Use; aggregator: Use }
  /** Of the aggregator, such as `ingest_batches_total`. */
  measure(name: string): Promise<number>
  online(): Promise<number>
  /** How the simulator ended; undefined while it runs. */
  ended(): { code: number | null } | undefined
  /** Ends the simulator as an operator would; the ledger, once nothing is under way any more. */
  settle(): Promise<Ledger>
}

/** `line` is for `dpulse simulate`. */
export async function startSimulatedFleet(
  portOffset: number,
  line: readonly string[],
): Promise<SimulatedFleet> {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-simulated-'))
  const file = join(data, 'aggregator.yaml')
  writeFileSync(file, "metrics: { interval: '0' }\n") // its own are no part of what is measured
  const aggregator = startProgram('aggregator', { data, portOffset, arguments: ['--config', file] })
  await eventually('the aggregator answers', 90, () => healthy(portOffset))
  const simulator = spawn(
    process.execPath,
    ['dpulse.ts', 'simulate', '--port-offset', String(portOffset), ...line],
    { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const of = ({ pid = 0 }: ChildProcess): Use => ({
    cpu: cpuSeconds(pid),
    residentBytes: residentBytes(pid),
  })
  return {
    use: () => ({ simulator: of(simulator), aggregator: of(aggregator.child) }),
    measure: (name) => measureOf(portOffset, `dpulse_aggregator_${name}`),
    async online() {
      const answer = await fetch(`http://127.0.0.1:${8600 + portOffset}/api/devices`)
      const devices = (await answer.json()) as { state: string }[]
      return devices.filter(({ state }) => state === 'online').length
    },
    ended: () => (isOver(simulator) ? { code: simulator.exitCode } : undefined),
    async settle() {
      await stop(simulator)
      return eventually('a ledger with nothing under way', 300, async () => {
        const ledger = await ledgerOf(portOffset)
        return ledger.inFlight === 0 && ledger.streams.length > 0 && ledger
      })
    },
    async [Symbol.asyncDispose]() {
      await stop(simulator)
      await aggregator.stop()
      rmSync(data, { recursive: true, force: true })
    },
  }
}

const isOver = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null

async function stop(child: ChildProcess): Promise<void> {
  if (isOver(child)) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

function residentBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
  return Number(line?.[1] ?? 0) * 1024
}
