// The real servers and peer programs of `bench servers`: from the environment, or brought up by `../shared/services`.
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import process from 'node:process'
import { cpuSeconds } from './process.ts'
import type { Kind } from './traffic.ts'

export const root = resolve(import.meta.dirname, '../..')
const services = resolve(root, '../shared/services/services')

export interface Servers {
  mqtt: string
  kafka: string
  influx: URL
  org: string
  token: string
  down(): void
}

const names = ['MQTT_URL', 'KAFKA_BROKERS', 'INFLUX_URL', 'INFLUX_ORG', 'INFLUX_TOKEN'] as const

/** @throws where neither the environment names servers nor the script that brings them up is here. */
export function bringUp(): Servers {
  let settings: Record<string, string | undefined> = process.env
  let down = (): void => undefined
  if (names.some((name) => settings[name] === undefined)) {
    if (!existsSync(services))
      throw new Error(`${names.join(', ')} name no servers, and ../shared/services is not here to start any`)
    const env = { PORT_BASE: '26000', RUN_NAME: 'bench', ...process.env }
    const up = spawnSync(services, ['up', 'mosquitto', 'kafka', 'influxdb'], {
      encoding: 'utf8',
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (up.status !== 0) throw new Error('the servers did not start')
    settings = Object.fromEntries(up.stdout.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)))
    down = () => void spawnSync(services, ['down'], { env, stdio: 'ignore' })
  }
  const [mqtt = '', kafka = '', influx = '', org = '', token = ''] = names.map((name) => settings[name])
  return { mqtt, kafka, influx: new URL(influx), org, token, down }
}

/** Where a peer's program is; undefined where it is not installed. */
export function programOf(name: string): string | undefined {
  const found = existsSync(services) && spawnSync(services, ['path', name], { encoding: 'utf8' })
  if (found && found.status === 0) return found.stdout.trim()
  const which = spawnSync('which', [name], { encoding: 'utf8' })
  return which.status === 0 ? which.stdout.trim() : undefined
}

/** A running program whose CPU time is measured. */
export interface Running {
  readonly name: string
  readonly pid: number
  cpu(): number
  stop(): Promise<void>
}

/** Its errors go to ours. */
export function startProgram(
  name: string,
  command: string,
  parameters: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Running {
  const child: ChildProcess = spawn(command, parameters, {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4000)))
  let isStopping = false
  child.once('exit', (code) => {
    if (!isStopping) process.stderr.write(`${name} ended with ${code}:\n${said}\n`)
  })
  const pid = child.pid ?? 0
  return {
    name,
    pid,
    cpu: () => cpuSeconds(pid),
    async stop() {
      isStopping = true
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 20_000)
      await once(child, 'exit')
      clearTimeout(late)
    },
  }
}

/** Asks until there is an answer. */
export async function answered<T>(
  ask: () => Promise<T | undefined>,
  seconds: number,
  what: string,
  everyMs = 100,
): Promise<T> {
  const until = performance.now() + seconds * 1000
  let last: unknown
  for (;;) {
    const answer = await ask().catch((error: unknown) => void (last = error))
    if (answer !== undefined) return answer
    if (performance.now() > until)
      throw new Error(`${what} did not happen within ${seconds} s`, { cause: last })
    await new Promise((done) => setTimeout(done, everyMs))
  }
}

/** What every path of one run shares. */
export interface Setting {
  readonly servers: Servers
  /** First part of the names of topics and buckets, so that nothing of another run is met. */
  readonly name: string
  readonly directory: string
  readonly portOffset: number
}

/** One way of records through programs. */
export interface Path {
  readonly name: string
  /** Sends requests of a range; resolves when the last of its hops has all, with the CPU seconds of each program. */
  run(
    kind: Kind,
    base: bigint,
    range: { from: number; to: number },
  ): Promise<{ program: string; seconds: number }[]>
  /** What became of all that was sent. */
  check(base: bigint): Promise<string>
}
