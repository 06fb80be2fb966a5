// How each fault of the simulator is seen by who has nothing but a running aggregator: by fault, what is found where it was
// injected, and nowhere else.
import type { Evidence, Where } from './evidence.ts'

/** What is found of it in the evidence of one device, at the place that the truth names. */
export type Finding = (here: Evidence, where: string, beside: Beside) => Promise<Record<string, boolean>>

/** What the store does not hold of a device, because it is not the device that tells it. */
export interface Beside {
  /** Of all of the span, the part in which the aggregator listed the device as offline. */
  readonly partAway: number
  /** All that it ever told is stored: nothing dropped, nothing unknown. */
  readonly isAccountComplete: boolean
  /** Of the collector that reads its BMC, in the same time: the source in its own metrics, and what it read. */
  readonly bmc: { readonly source: Where; readonly own: Evidence; readonly read: Evidence }
}

const highest = (values: readonly number[]): number => Math.max(-Infinity, ...values)
const lowest = (values: readonly number[]): number => Math.min(Infinity, ...values)
const median = (values: readonly number[]): number =>
  values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN
/** What it was as the span began. */
const early = (values: readonly number[]): number => median(values.slice(0, 5))
const places = (where: string): string[] => where.split(' ')

async function ofEach(where: string, ask: (place: string) => Promise<boolean>): Promise<boolean> {
  return (await Promise.all(places(where).map((place) => ask(place)))).every(Boolean)
}

export const findings: Readonly<Record<string, Finding>> = {
  overheating: async (here, where) => ({
    'the air at the inlet is hot': highest(await here.values('hw.temperature', at(where))) > 45,
    'the card is hot': highest(await here.values('hw.temperature', at('asic'))) > 90,
    'it is beyond its limits': highest(await here.values('hw.status', hot)) === 1,
    'it is slowed down': (await here.events('dpu.kernel.thermal')) > 0,
  }),

  fan_failure: async (here, where) => {
    const fan = median(await here.values('hw.fan.speed', { 'hw.id': where }))
    const all = await here.values('hw.fan.speed')
    return { 'one fan turns slower than the others by far': fan < highest(all) / 2 }
  },

  link_flaps: async (here, where) => {
    const port = { 'network.interface.name': where }
    return {
      'the carrier comes and goes': (await here.grown('dpu.network.carrier.changes', port)) >= 10,
      'the link is seen down': lowest(await here.values('hw.network.up', port)) === 0,
      'the kernel tells it': (await here.events('dpu.kernel.link', { ...port, ...down })) >= 5,
    }
  },

  ageing_optics: async (here, where) => {
    const lane = { 'network.interface.name': where }
    const sent = { ...lane, 'network.io.direction': 'transmit' }
    const light = await here.values('dpu.optics.power', sent)
    const current = await here.values('dpu.optics.bias', lane)
    return {
      'less light is sent': lowest(light) < 0.7 * early(light),
      'for more current': highest(current) > 1.4 * early(current),
      'errors come': (await here.grown('hw.errors', { ...lane, 'error.type': 'rx_crc_errors_phy' })) > 1000,
      'the link is lost': (await here.events('dpu.kernel.link', { ...lane, ...down })) > 0,
    }
  },

  ecc: async (here, where) => {
    const of = (type: string) => here.growth('hw.errors', { 'hw.id': where, 'error.type': type })
    const [corrected, not] = await Promise.all([of('corrected'), of('uncorrected')])
    const told = { 'hw.id': where.toUpperCase() } // as the kernel calls it
    return {
      'memory is corrected again and again': corrected.length >= 10,
      'then it cannot be': (not[0]?.[0] ?? 0) > (corrected[0]?.[0] ?? Infinity),
      'the kernel tells it': (await here.events('dpu.kernel.memory_error', told)) >= 10,
    }
  },

  aer_storm: async (here, where) => {
    const link = { 'hw.id': where, 'error.type': 'pcie.correctable' }
    const told = { 'dpu.pci.address': where }
    return {
      'the bus corrects masses': (await here.grown('hw.errors', link)) > 300,
      'the kernel tells it': (await here.events('dpu.kernel.pcie_error', told)) > 100,
    }
  },

  nvme_wear: async (here, where) => {
    const drive = { 'hw.name': where.replace(/n\d+$/, '') } // the controller of the namespace
    const used = { ...drive, 'hw.physical_disk.smart_attribute': 'percentage_used' }
    const left = await here.values('hw.physical_disk.endurance_utilization', drive)
    return {
      'its life runs out': lowest(left) < highest(left) - 0.2,
      'SMART tells it': (await here.grown('hw.physical_disk.smart', used)) > 20,
      'its medium fails': (await here.grown('hw.errors', { ...drive, 'error.type': 'media' })) > 5,
      'reads fail': (await here.events('dpu.kernel.io_error', { 'system.device': where })) > 5,
    }
  },

  crash_loop: async (here, where) => {
    const unit = { 'systemd.unit.name': `${where}.service` }
    const deaths = await here.logs({}, `${where}.service: Main process exited, code=killed, status=11/SEGV`)
    return {
      'it is started again and again': (await here.grown('systemd.service.restarts', unit)) >= 10,
      'each time it had crashed': deaths.length >= 10,
      'it is seen failed': (await here.events('dpu.systemd.unit_state', unit)) > 0,
    }
  },

  memory_leak: async (here, where) => {
    const bytes = await here.values('dpu.systemd.memory.usage', { 'systemd.unit.name': `${where}.service` })
    const process = { 'process.executable.name': where.slice(0, 15) } // the kernel keeps no more
    return {
      'it takes ever more memory': highest(bytes) > 5 * early(bytes),
      'the device has none left': highest(await here.values('system.memory.utilization', inUse)) > 0.9,
      'the kernel kills it': (await here.events('dpu.kernel.oom_kill', process)) > 0,
    }
  },

  kernel_panic: async (here, where, { partAway }) => {
    const [up = []] = await here.series('system.uptime')
    const lastWords = { 'syslog.appname': where }
    return {
      'it has booted': up.some(([, seconds], index) => seconds < (up[index - 1]?.[1] ?? 0)),
      'its last words were kept': (await here.logs(lastWords, 'Kernel panic - not syncing')).length > 0,
      'and how it came to them': (await here.logs(lastWords, 'NULL pointer dereference')).length > 0,
      'it was away': partAway > 0,
    }
  },

  bmc_hung: async (_here, _where, { bmc }) => ({
    'it gives no readings': await hasLongGap(bmc.read),
    'who asks it is well, and gets nothing': await getsNothing(bmc),
  }),

  bad_sensors: async (here, where) => ({
    'each of them tells nothing, or always the same': await ofEach(where, async (id) => {
      const its = here.inner(here.lengthMs / 4)
      const read = (await Promise.all(readings.map((metric) => its.values(metric, { 'hw.id': id })))).flat()
      return read.length === 0 || lowest(read) === highest(read)
    }),
  }),

  offline: async (here, _where, { partAway, isAccountComplete }) => ({
    'it is away, and all that it had to tell comes afterwards':
      partAway > 0.5 && isAccountComplete && (await here.longestGapMs('system.uptime')) < 0.3 * here.lengthMs,
  }),

  log_storm: async (here, where) => ({
    'it writes without end': (await here.logs({ 'syslog.appname': where })).length > 3000,
  }),

  noisy_neighbour: async (here, where) => ({
    'traffic is paused much of the time': await ofEach(where, async (port) => {
      const paused = { 'network.interface.name': port, 'dpu.network.statistic': 'rx_pause_ctrl_phy' }
      return (await here.shareGrowing('dpu.network.statistic', paused)) > 0.3
    }),
    'and dropped': await ofEach(where, async (port) => {
      const dropped = { 'network.interface.name': port, 'error.type': 'rx_discards_phy' }
      return (await here.shareGrowing('hw.errors', dropped)) > 0.3
    }),
  }),
}

const readings = ['hw.temperature', 'hw.voltage', 'hw.power', 'dpu.current', 'hw.fan.speed']
const at = (part: string): Where => ({ 'hw.sensor_location': part })
const hot: Where = { ...at('asic'), 'hw.state': 'degraded' }
const down: Where = { 'dpu.link.state': 'down' }
const inUse: Where = { 'system.memory.state': 'used' }

async function getsNothing({ source, own }: Beside['bmc']): Promise<boolean> {
  const told = 'dpulse.collector.records.out'
  return (await own.longestGapMs(told, source)) < 10_000 && (await own.shareGrowing(told, source)) < 0.3
}

async function hasLongGap(read: Evidence): Promise<boolean> {
  return (await read.longestGapMs('hw.temperature')) > 0.6 * read.lengthMs
}
