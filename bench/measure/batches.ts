// Batches as collectors of a fleet seal them, for benchmarks of what a batch costs beside what a record costs.
import { sealBatch } from '../../plugins/contract/batch.ts'
import type { Batch } from '../../plugins/contract/batch.ts'
import { LogsEncoder } from '../../plugins/contract/encoder.ts'
import { Readings, timeParts } from '../../plugins/contract/readings.ts'
import { encodeResource } from '../../plugins/contract/values.ts'

export interface Shape {
  signal: 'logs' | 'metrics'
  perBatch: number
  devices: number
  session: string
}

const words = 'link queue doorbell firmware mailbox timeout retry port carrier flow table offload'.split(' ')
const encoder = new LogsEncoder({ name: 'syslog' })

const resourceOf = (device: string): Uint8Array =>
  encodeResource({ 'host.id': device, 'host.name': device, 'host.arch': 'arm64', 'service.name': 'flowd' })

/** Distinct lines of about 100 bytes with four attributes, as syslog gives them. */
function logs(device: string, first: number, count: number, time: bigint): Uint8Array {
  const { seconds, nanos } = timeParts(time)
  encoder.begin(resourceOf(device))
  for (let n = first; n < first + count; n++) {
    encoder.record(seconds, nanos + (n % 1000) * 1000, seconds, nanos + (n % 1000) * 1000, 9)
    encoder.severityText('info')
    const hash = (Math.imul(n, 2_654_435_761) >>> 0).toString(16)
    encoder.body(
      `${words[n % 12]} ${words[(n * 7) % 11]} ${hash} changed after ${n % 9973} us, record ${n} of port ${n % 2} in domain ${n % 97}`,
    )
    encoder.attribute('syslog.hostname', device)
    encoder.attribute('syslog.appname', 'flowd')
    encoder.attribute('syslog.procid', String(1000 + (n % 500)))
    encoder.attribute('syslog.msgid', 'ID47')
    encoder.end()
  }
  return encoder.finish(device, 'log').bytes
}

/** One reading of that many sensors, whose values wander. */
function points(device: string, reading: number, count: number, time: bigint): Uint8Array[] {
  const readings = new Readings({
    scope: { name: 'system' },
    declared: { 'hw.temperature': { kind: 'gauge', unit: 'Cel', class: 'resource' } },
    device,
    resource: resourceOf(device),
    timeUnixNano: time,
  })
  for (let index = 0; index < count; index++) {
    readings.add('hw.temperature', 40 + Math.round(8 * Math.sin(reading / 5 + index)) / 4, {
      'hw.id': `sensor-${index}`,
    })
  }
  return readings.finish().map(({ bytes }) => bytes)
}

/** Readings of one device are 15 s apart, and all of them lie in the past. */
const start = BigInt(Date.now() - 12 * 3_600_000) * 1_000_000n

/** Batch `number` of a fleet: devices take turns. */
export function batchOf(number: number, { signal, perBatch, devices, session }: Shape): Batch {
  const device = `dpu-${String(number % devices).padStart(5, '0')}`
  const seq = Math.floor(number / devices) + 1
  const time = start + BigInt(seq) * 15_000_000_000n
  const parts =
    signal === 'logs'
      ? [logs(device, number * perBatch, perBatch, time)]
      : points(device, seq, perBatch, time)
  const header = {
    collector: device,
    device,
    session,
    class: signal === 'logs' ? ('log' as const) : ('resource' as const),
    seq,
    count: perBatch,
    from: time,
    to: time,
    produced: seq * perBatch,
    dropped: {},
  }
  return sealBatch(header, signal, parts)
}
