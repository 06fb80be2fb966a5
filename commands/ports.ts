// Before `dpulse up` starts anything: are the ports free that the defaults take? Each that is not is named with its
// holder. Children of an earlier `up` that was killed still drain for a moment, so theirs are waited for.
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { ports } from '../plugins/contract/options.ts'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import { portHolder, portIsFree, portTaken } from '../plugins/contract/ports.ts'
import type { Holder, Transport } from '../plugins/contract/ports.ts'
import { CommandFailure } from './failure.ts'
import { note } from './terminal.ts'

interface Wanted {
  what: string
  port: number
  transport: Transport
}

const patienceMs = 15_000

/** With a configuration its own ports count, and the programs name them. */
export async function awaitFreePorts(options: ProgramOptions): Promise<void> {
  if (options.config !== undefined) return
  const wanted = wantedPorts(options)
  const startedMs = performance.now()
  for (let told = false; ;) {
    const taken: Wanted[] = []
    for (const one of wanted) if (!(await isFree(one))) taken.push(one)
    if (taken.length === 0) return
    const draining = taken.every(({ port, transport }) => isOrphan(portHolder(port, transport)))
    if (!draining || performance.now() - startedMs > patienceMs) {
      const lines = taken.map(({ what, port, transport }) =>
        portTaken(what, port, transport, '--port-offset N'),
      )
      throw new CommandFailure(lines.join('\ndpulse: '), 1)
    }
    if (!told) note('waiting for the end of an earlier dpulse whose parent was killed')
    told = true
    await delay(250)
  }
}

function wantedPorts({ portOffset, broker }: ProgramOptions): Wanted[] {
  const tcp = (what: string, port: number): Wanted => ({ what, port: port + portOffset, transport: 'tcp' })
  return [
    tcp('the console and HTTP API', ports.api),
    tcp("the collector's API", ports.collectorApi),
    ...(broker === 'embedded' ? [tcp('the MQTT broker', ports.mqtt)] : []),
    tcp("the collector's OTLP/gRPC", ports.collectorOtlpGrpc),
    tcp("the collector's OTLP/HTTP", ports.collectorOtlpHttp),
    tcp("the aggregator's OTLP/gRPC", ports.aggregatorOtlpGrpc),
    tcp("the aggregator's OTLP/HTTP", ports.aggregatorOtlpHttp),
    tcp('syslog', ports.syslog),
    { ...tcp('syslog', ports.syslog), transport: 'udp' },
  ]
}

async function isFree({ port, transport }: Wanted): Promise<boolean> {
  return (await portIsFree(port, transport, '127.0.0.1')) && portIsFree(port, transport, '::1')
}

// A dpulse whose parent is gone belongs to init, or to whatever reaps for it: no dpulse in any case.
function isOrphan(holder: Holder | undefined): boolean {
  if (holder === undefined) return true
  if (!/dpulse\S* (collector|aggregator)\b/.test(holder.command)) return false
  try {
    const parent = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${holder.pid}/status`, 'latin1'))?.[1]
    return !/dpulse|bin\.js/.test(readFileSync(`/proc/${parent}/cmdline`, 'latin1'))
  } catch {
    return true
  }
}
