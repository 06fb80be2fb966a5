// What `syslog` and `kmsg` take in on a virtual device: lines of its programs, and lines of its kernel, of which some are
// events.
import type { Context, Records } from '../../plugins/contract/index.ts'
import { kernelEventOf } from '../../plugins/protocols/kernel/events.ts'
import { severityOfLevel, textOfLevel } from '../../plugins/protocols/kernel/severity.ts'
import { LogBatches } from '../../plugins/protocols/lines/batches.ts'
import type { Device, KernelLine, Line } from '../model.ts'
import type { Simulated } from './simulated.ts'

/** Facility of system daemons (RFC 5424, 6.2.1), and that of the kernel. */
const daemon = 3
const kernel = 0

/** A device stamps its lines with its own clock. */
function stamp({ epochMs, state }: Device, atMs: number): { seconds: number; nanos: number } {
  const ms = epochMs + atMs + state.clock.offsetMs
  const seconds = Math.floor(ms / 1000)
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1000) * 1000 }
}

function open(name: string, context: Context, service: string, nowUnixNano: bigint): LogBatches {
  const resource = context.resource({ 'service.name': service })
  const batches = new LogBatches({ scope: { name }, device: context.device, resource })
  batches.observedAt(nowUnixNano)
  return batches
}

function writeLine(batches: LogBatches, device: Device, hostname: string, line: Line): void {
  const { seconds, nanos } = stamp(device, line.atMs)
  const record = batches.begin(severityOfLevel(line.severity), '', seconds, nanos)
  record.severityText(textOfLevel(line.severity))
  record.body(line.text)
  record.attribute('syslog.facility', daemon)
  record.attribute('syslog.version', 1)
  record.attribute('syslog.hostname', hostname)
  record.attribute('syslog.appname', line.service)
  record.attribute('syslog.procid', String(line.pid))
  batches.end()
}

function writeKernelLine(batches: LogBatches, device: Device, line: KernelLine): void {
  const { seconds, nanos } = stamp(device, line.atMs)
  const event = kernelEventOf(line.text)
  const severity = event?.severity ?? severityOfLevel(line.severity)
  const record = batches.begin(severity, event?.name, seconds, nanos)
  record.severityText(textOfLevel(line.severity))
  record.body(line.text)
  record.attribute('syslog.facility', kernel)
  for (const [key, value] of Object.entries(event?.attributes ?? {})) record.attribute(key, value)
  batches.end()
}

export const syslog: Simulated = {
  name: 'syslog',
  service: 'syslog',
  open: (device, context) => ({
    logs(now): Records[] {
      const { lines } = device.state
      if (lines.length === 0) return []
      const batches = open('syslog', context, 'syslog', now)
      const { hostname } = context.status()
      for (const line of lines) writeLine(batches, device, hostname, line)
      lines.length = 0
      return batches.finish()
    },
  }),
}

export const kmsg: Simulated = {
  name: 'kmsg',
  service: 'kernel',
  open(device, context) {
    // What came before this collector is there too: `from: boot`.
    let { boots } = device.state
    let next = 0
    return {
      logs(now): Records[] {
        const { state } = device
        if (state.boots !== boots) next = 0
        boots = state.boots
        if (next === state.kernelNext) return []
        const batches = open('kmsg', context, 'kernel', now)
        // Those that went from a full ring before they were read are lost, as on a real one.
        const { length } = state.kernel
        const missed = state.kernelNext - length - next
        if (missed > 0) context.dropped('log', 'overflow', missed)
        const fresh = Math.min(length, state.kernelNext - next)
        for (const line of state.kernel.slice(length - fresh)) writeKernelLine(batches, device, line)
        next = state.kernelNext
        return batches.finish()
      },
    }
  },
}
