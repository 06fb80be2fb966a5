// How a device says something: a line of a program to the system log, a line of the kernel to its ring, an entry to the
// log of the BMC. Each has its limit, and what finds no room is counted and told as journald tells it.
import type { BmcEntry, Device } from '../model.ts'

const lineLimit = 2000
const kernelLimit = 512
const bmcLimit = 256

/** Process id that programs without a service of their own have. */
export const systemPid = 1

export function log(device: Device, service: string, severity: number, text: string, pid: number): void {
  const { state } = device
  const { suppressed } = state.inner
  if (state.lines.length >= lineLimit) {
    suppressed.set(service, (suppressed.get(service) ?? 0) + 1)
    return
  }
  if (suppressed.size > 0 && state.lines.length < lineLimit / 2) {
    for (const [unit, count] of suppressed) {
      const told = `Suppressed ${count} messages from ${unit}.service`
      state.lines.push({
        service: 'systemd-journald',
        severity: 5,
        text: told,
        pid: 412,
        atMs: state.elapsedMs,
      })
    }
    suppressed.clear()
  }
  state.lines.push({ service, severity, text, pid, atMs: state.elapsedMs })
}

/** A line of the kernel; `atMs` where it is not of this very moment. */
export function printk(device: Device, severity: number, text: string, atMs = device.state.elapsedMs): void {
  const { state } = device
  state.kernel.push({ severity, text, atMs })
  state.kernelNext++
  if (state.kernel.length > kernelLimit) state.kernel.splice(0, kernelLimit / 4)
}

/** An entry of the BMC's event log. A hung BMC writes none. */
export function bmcLog(
  device: Device,
  severity: BmcEntry['severity'],
  messageId: string,
  message: string,
): void {
  const { bmc, elapsedMs } = device.state
  if (bmc.hung) return
  bmc.log.push({ id: bmc.nextEntry++, severity, message, messageId, atMs: elapsedMs })
  if (bmc.log.length > bmcLimit) bmc.log.splice(0, bmcLimit / 4)
}
