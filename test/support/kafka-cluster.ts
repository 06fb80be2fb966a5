// A Kafka cluster of a test's own, whose brokers it may kill and start again. Brought up by the script that brings up all
// real servers, ../shared/services beside the repository.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'

const services = resolve(import.meta.dirname, '../../../shared/services/services')
export const noCluster = existsSync(services)
  ? undefined
  : '../shared/services is absent: it installs and starts Kafka'

export interface KafkaCluster {
  readonly brokers: string[]
  /** SIGKILL; numbers from 1. */
  kill(broker: number): Promise<void>
  /** Starts it as it was started before, on the same disk. */
  revive(broker: number): void
  down(): void
}

/** Ports from `portBase` + 91 on. */
export function startCluster(count: number, portBase: number): KafkaCluster {
  const name = `test-kafka-${process.pid}-${portBase}`
  const env = {
    ...process.env,
    RUN_NAME: name,
    PORT_BASE: String(portBase),
    KAFKA_BROKERS_COUNT: String(count),
    KAFKA_HEAP: '256m',
  }
  const up = spawnSync(services, ['up', 'kafka'], { env, encoding: 'utf8' })
  const brokers = /^KAFKA_BROKERS=(.+)$/m.exec(up.stdout)?.[1]?.split(',')
  if (!brokers) throw new Error(`Kafka did not come up: ${up.stderr}`)
  const root = process.env.DPULSE_SERVICES ?? join(homedir(), '.cache/dpulse-services')
  const pids = brokers.map((_, index) =>
    Number(readFileSync(join(root, 'run', name, 'kafka', String(index + 1), 'pid'), 'utf8')),
  )
  const commands = pids.map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1))
  const revived = new Set<number>()
  return {
    brokers,
    async kill(broker) {
      const pid = pids[broker - 1] ?? 0
      process.kill(pid, 'SIGKILL')
      revived.delete(pid)
      while (isAlive(pid)) await new Promise((resume) => setTimeout(resume, 20))
    },
    revive(broker) {
      const [command = '', ...rest] = commands[broker - 1] ?? []
      const child = spawn(command, rest, { stdio: 'ignore' })
      pids[broker - 1] = child.pid ?? 0
      revived.add(child.pid ?? 0)
    },
    down() {
      for (const pid of revived) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
      spawnSync(services, ['down'], { env, stdio: 'ignore' })
    },
  }
}

/** What has ended and is only listed until somebody asks for its exit code is gone. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}
