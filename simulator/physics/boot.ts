// From off to on and back: what a boot takes, says and resets, and how a kernel ends that gives up.
import type { Device } from '../model.ts'
import { loseTime } from './clock.ts'
import { bmcLog, log, printk } from './lines.ts'
import { startService } from './services.ts'

/** `panic=10` on the kernel's command line. */
const panicMs = 10_000
/** Power to first line. */
const firmwareMs = 4000
/** Part of a boot in which the kernel speaks; after it come the services. */
const kernelPart = 0.4

/** Begins to boot after that time: at once it only stops. */
export function reboot(device: Device, afterMs: number): void {
  const { state } = device
  halt(device)
  state.power = 'booting'
  state.bootedAtMs = state.elapsedMs + afterMs
  const lasts = device.kind.bootSeconds * state.inner.life.between(0.85, 1.3)
  state.upAtMs = state.bootedAtMs + Math.round(lasts) * 1000
  state.inner.bootLine = -1
}

export function powerOff(device: Device): void {
  if (device.state.power === 'off') return
  halt(device)
  device.state.power = 'off'
  device.state.upAtMs = Number.POSITIVE_INFINITY
  bmcLog(device, 'OK', 'OpenBMC.0.1.DCPowerOff', 'Host system DC power is off')
}

/** Of one that is off; any other stays as it is. */
export function powerOn(device: Device): void {
  if (device.state.power !== 'off') return
  device.state.inner.isTooHot = false
  bmcLog(device, 'OK', 'OpenBMC.0.1.DCPowerOn', 'Host system DC power is on')
  reboot(device, firmwareMs)
}

/** As ForceRestart of its BMC does it. */
export function reset(device: Device): void {
  if (device.state.power === 'off') powerOn(device)
  else reboot(device, firmwareMs)
}

function halt({ state }: Device): void {
  state.load.cpu = 0
  state.load.network = 0
  state.load.storage = 0
  state.load.accelerators.fill(0)
  state.isThrottled = false
  for (const service of state.services) {
    service.isActive = false
    service.memoryBytes = 0
  }
  for (const port of state.ports) port.isUp = false
}

/** One step of a device that is booting. */
export function moveBoot(device: Device): void {
  const { kind, state } = device
  const { inner } = state
  if (state.elapsedMs < state.bootedAtMs) return
  if (inner.bootLine < 0) {
    inner.bootLine = 0
    forget(device)
  }
  const spokenMs = (state.upAtMs - state.bootedAtMs) * kernelPart
  const { boot } = kind
  while (inner.bootLine < boot.length) {
    const atMs = state.bootedAtMs + Math.round((spokenMs * (inner.bootLine + 1)) / boot.length)
    if (atMs > state.elapsedMs) break
    printk(device, 6, bootText(state.firmware, boot[inner.bootLine] ?? ''), atMs)
    inner.bootLine++
  }
  if (state.elapsedMs >= state.upAtMs) comeUp(device)
}

/** What counts since the boot begins again. */
function forget({ state }: Device): void {
  state.boots++
  state.inner.throttles = 0
  state.kernel.length = 0
  state.kernelNext = 0
  state.cpuSeconds = 0
  state.memory.eccCorrectable = 0
  state.memory.eccUncorrectable = 0
  state.memory.usedBytes = 0
  state.memory.cachedBytes = 0
  state.aer.correctable = 0
  state.aer.nonfatal = 0
  state.aer.fatal = 0
  for (const port of state.ports) {
    port.carrierChanges = 0
    port.rxBytes = 0
    port.txBytes = 0
    port.rxPackets = 0
    port.txPackets = 0
    port.rxErrors = 0
    port.rxDropped = 0
    port.pausedFrames = 0
  }
  for (const engine of state.accelerators) {
    engine.operations = 0
    engine.bytes = 0
    engine.errors = 0
  }
  for (const service of state.services) {
    service.restarts = 0
    service.cpuSeconds = 0
  }
}

function comeUp(device: Device): void {
  const { state } = device
  state.power = 'on'
  loseTime(device)
  for (let index = 0; index < state.services.length; index++) startService(device, index)
  const { lastWords } = state.inner
  if (lastWords.length === 0) return
  const file = `dmesg-ramoops-${state.boots % 4}`
  log(device, 'systemd-pstore', 5, `PStore ${file} moved to /var/lib/systemd/pstore/${file}`, 498)
  for (const { severity, text } of lastWords) log(device, 'kernel', severity, text, 0)
  lastWords.length = 0
}

/** A line of a kind's boot; `{fw NAME}` is the version of that part. */
export const bootText = (firmware: Readonly<Record<string, string>>, text: string): string =>
  text.replace(/\{fw (\w+)\}/g, (_, part: string) => firmware[part] ?? '')

/** The kernel gives up: its last words stand in the ring, and after the boot in what the platform kept of them. */
export function panic(device: Device): void {
  const { state } = device
  if (state.power !== 'on') return
  const { lastWords } = state.inner
  lastWords.length = 0
  for (const { severity, text } of lastLines(device)) {
    printk(device, severity, text)
    lastWords.push({ severity, text })
  }
  bmcLog(
    device,
    'Critical',
    'ResourceEvent.1.0.ResourceErrorsDetected',
    "The resource property System has detected errors of type 'OS'.",
  )
  reboot(device, panicMs)
}

function lastLines(device: Device): { severity: number; text: string }[] {
  const { kind, state } = device
  const { life } = state.inner
  const cpu = life.below(kind.cores)
  const address = life.below(0x1000).toString(16).padStart(16, '0')
  const hex = (): string => `ffff${life.below(0x7fffffff).toString(16).padStart(12, '0')}`
  const driver = kind.ports[0]?.driver ?? 'virtio_net'
  const where = life.pick(['poll_rx_cq', 'napi_poll', 'handle_rx_cqe', 'xmit', 'tc_update_stats'])
  const said: [number, string][] = [
    [1, `Unable to handle kernel NULL pointer dereference at virtual address ${address}`],
    [1, 'Mem abort info:'],
    [1, '  ESR = 0x0000000096000004'],
    [1, '  EC = 0x25: DABT (current EL), IL = 32 bits'],
    [0, 'Internal error: Oops: 0000000096000004 [#1] SMP'],
    [4, `Modules linked in: ${driver} openvswitch nf_conncount nf_nat act_ct vhost_net tun bridge stp llc`],
    [4, `CPU: ${cpu} PID: ${40 + life.below(4000)} Comm: ksoftirqd/${cpu} Tainted: G           OE`],
    [4, `Hardware name: ${kind.vendor} ${kind.model}`],
    [
      4,
      `pc : ${driver}_${where}+0x${life.below(4096).toString(16)}/0x${(4096 + life.below(4096)).toString(16)}`,
    ],
    [4, `lr : net_rx_action+0x${life.below(1024).toString(16)}/0x4d0`],
    [4, `sp : ${hex()}`],
    [4, 'Call trace:'],
    [4, ' __napi_poll+0x40/0x1f0'],
    [4, ' net_rx_action+0x2b4/0x2f0'],
    [4, ' handle_softirqs+0x128/0x340'],
    [4, `---[ end trace ${hex()} ]---`],
    [0, 'Kernel panic - not syncing: Oops: Fatal exception in interrupt'],
    [2, 'SMP: stopping secondary CPUs'],
    [0, 'Rebooting in 10 seconds..'],
  ]
  return said.map(([severity, text]) => ({ severity, text }))
}
