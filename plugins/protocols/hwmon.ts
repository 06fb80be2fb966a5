// Finding and reading sensors: hwmon (Documentation/hwmon/sysfs-interface.rst), thermal zones (driver-api/thermal) and the
// files that BlueField's own service writes. What cannot be read, or cannot be true, is absent: nothing is invented.
//
//   <sys>/class/hwmon/hwmonN/{name, device → , tempN_input, tempN_label, tempN_max, tempN_crit_alarm, tempN_fault, …}
//   <sys>/class/thermal/thermal_zoneN/{type, temp, mode, trip_point_N_temp, trip_point_N_type}
//   /run/emu_param/{bluefield_temp, ddr_temp, p0_temp, soc_power, …}: whole degrees and watts, as text
import { readFile, readdir, realpath, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'

export type SensorKind = 'temperature' | 'fan' | 'voltage' | 'power' | 'energy' | 'current'
export type HwState = 'ok' | 'degraded' | 'failed'

export interface Sensor {
  /** The same after a restart: chip and where it sits, not its number. */
  id: string
  name: string
  /** The chip. */
  location: string
  kind: SensorKind
  /** Of OTel's `hw.type`. */
  type: string
  input: string
  /** Divides what the file says to give Cel, rpm, V, W, J or A. */
  divisor: number
  limits: readonly SensorLimit[]
  /** Files that say 1 when something is wrong. */
  alarms: readonly { path: string; state: Exclude<HwState, 'ok'> }[]
  /** A file that says 1 when the input means nothing. */
  fault?: string
  /** Where the writer of the file may die and leave an old value. */
  staleAfterMs?: number
  /** Where 0 stands for nothing there. */
  zeroIsAbsent?: true
}
/** A value of OTel's `hw.limit_type`. */
export interface SensorLimit {
  type: 'low.critical' | 'low.degraded' | 'high.degraded' | 'high.critical' | 'max' | 'throttled'
  value: number
}
/** Sensors behind one chip or bus, which answers one question after the other. */
export interface Chip {
  id: string
  sensors: Sensor[]
}
export interface SensorRoots {
  sys: string
  bluefield: string
}

const kinds: Readonly<Record<string, { kind: SensorKind; divisor: number }>> = {
  temp: { kind: 'temperature', divisor: 1000 },
  fan: { kind: 'fan', divisor: 1 },
  in: { kind: 'voltage', divisor: 1000 },
  power: { kind: 'power', divisor: 1e6 },
  energy: { kind: 'energy', divisor: 1e6 },
  curr: { kind: 'current', divisor: 1000 },
}

/** What a reading can be. Beyond are the codes of chips and drivers for «none»: −128, 255, 65261.85 °C; 65535 rpm. */
const ranges: Readonly<Record<SensorKind, readonly [number, number]>> = {
  temperature: [-60, 200],
  fan: [0, 65_534],
  voltage: [-1000, 1000],
  power: [0, 20_000],
  energy: [0, Number.MAX_SAFE_INTEGER],
  current: [-2000, 2000],
}
/** Whether such a sensor can mean it: placeholders (−128 °C, 65535 rpm) are outside. */
export const isPlausible = (kind: SensorKind, value: number): boolean => {
  const [least, most] = ranges[kind]
  return value >= least && value <= most
}

const limitFiles: readonly [suffix: string, type: SensorLimit['type']][] = [
  ['lcrit', 'low.critical'],
  ['min', 'low.degraded'],
  ['max', 'high.degraded'],
  ['crit', 'high.critical'],
]
const alarmFiles: readonly [suffix: string, state: 'degraded' | 'failed'][] = [
  ['alarm', 'degraded'],
  ['min_alarm', 'degraded'],
  ['max_alarm', 'degraded'],
  ['cap_alarm', 'degraded'],
  ['lcrit_alarm', 'failed'],
  ['crit_alarm', 'failed'],
  ['emergency_alarm', 'failed'],
]

/** All chips, zones and files there are. */
export async function findSensors({ sys, bluefield }: SensorRoots): Promise<Chip[]> {
  const [chips, zones, files] = await Promise.all([
    findChips(join(sys, 'class/hwmon')),
    findZones(join(sys, 'class/thermal')),
    findBluefield(bluefield),
  ])
  return [...chips, ...zones, ...files]
}

/** Names of what is there, to see cheaply whether something came or went. */
export async function sensorFolders({ sys, bluefield }: SensorRoots): Promise<string> {
  const folders = [join(sys, 'class/hwmon'), join(sys, 'class/thermal'), bluefield]
  const names = await Promise.all(folders.map((folder) => list(folder)))
  return names
    .flat()
    .filter((name) => /^hwmon|^thermal_zone|_temp$|_power$/.test(name))
    .join(' ')
}

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })

async function list(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).toSorted(byNumber)
  } catch {
    return []
  }
}

async function text(path: string): Promise<string | undefined> {
  try {
    const read = (await readFile(path, 'utf8')).trim()
    return read === '' || read.length > 128 ? undefined : read
  } catch {
    return undefined // ENODATA, EIO, EAGAIN, ENXIO: drivers say so in many ways
  }
}

async function numberIn(path: string): Promise<number | undefined> {
  const read = await text(path)
  return read !== undefined && /^-?\d{1,18}$/.test(read) ? Number(read) : undefined
}

/** The id, with a number where chips cannot be told apart otherwise. */
function unique(taken: Set<string>, id: string): string {
  let free = id
  for (let number = 2; taken.has(free); number++) free = `${id}#${number}`
  taken.add(free)
  return free
}

async function findChips(folder: string): Promise<Chip[]> {
  const taken = new Set<string>()
  const chips: Chip[] = []
  for (const hwmon of await list(folder)) {
    const at = join(folder, hwmon)
    const name = (await text(join(at, 'name'))) ?? 'hwmon'
    const place = await placeOf(at)
    const id = unique(taken, place === '' ? name : `${name}@${place}`)
    // Drivers of before 2009 keep their files with the device.
    const own = await sensorsIn(at, id, name)
    const sensors = own.length > 0 ? own : await sensorsIn(join(at, 'device'), id, name)
    if (sensors.length > 0) chips.push({ id, sensors })
  }
  return chips
}

const busAddress = /^([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|\d+-[0-9a-f]{4}|spi\d+\.\d+)$/

/** The bus address of the device; numbers such as that in nvme0 depend on the order of discovery. */
async function placeOf(hwmon: string): Promise<string> {
  try {
    const path = await realpath(join(hwmon, 'device'))
    return path.split('/').findLast((part) => busAddress.test(part)) ?? basename(path)
  } catch {
    return ''
  }
}

async function sensorsIn(folder: string, chip: string, chipName: string): Promise<Sensor[]> {
  const files = new Set(await list(folder))
  const found: Sensor[] = []
  for (const file of files) {
    const [, prefix = '', number = '', what] =
      /^(temp|fan|in|power|energy|curr)(\d+)_(input|average)$/.exec(file) ?? []
    const known = kinds[prefix]
    // A power meter may give an average beside, or instead of, the present value.
    if (!known || (what === 'average' && files.has(`${prefix}${number}_input`))) continue
    const sensor = `${prefix}${number}`
    const path = (suffix: string) => join(folder, `${sensor}_${suffix}`)
    const has = (suffix: string) => files.has(`${sensor}_${suffix}`)
    const label = has('label') ? await text(path('label')) : undefined
    found.push({
      id: `${chip}/${sensor}`,
      name: label ?? `${chipName} ${sensor}`,
      location: chip,
      kind: known.kind,
      type: typeOf(known.kind, chipName),
      input: join(folder, file),
      divisor: known.divisor,
      limits: await limitsOf(known, path, has),
      alarms: alarmFiles
        .filter(([suffix]) => has(suffix))
        .map(([suffix, state]) => ({ path: path(suffix), state })),
      ...(has('fault') ? { fault: path('fault') } : {}),
    })
  }
  return found
}

async function limitsOf(
  { kind, divisor }: { kind: SensorKind; divisor: number },
  path: (suffix: string) => string,
  has: (suffix: string) => boolean,
): Promise<SensorLimit[]> {
  const limits: SensorLimit[] = []
  const add = async (suffix: string, type: SensorLimit['type']) => {
    const raw = has(suffix) ? await numberIn(path(suffix)) : undefined
    if (raw === undefined) return
    const value = raw / divisor
    // An upper limit of 0 is one that nobody set.
    if (isPlausible(kind, value) && (value > 0 || !/^high|^max/.test(type))) limits.push({ type, value })
  }
  for (const [suffix, type] of limitFiles)
    await add(suffix, kind === 'fan' && suffix === 'max' ? 'max' : type)
  if (!has('crit')) await add('emergency', 'high.critical')
  if (kind === 'power') await add('cap', 'throttled')
  return limits
}

/** OTel's `hw.type`: what is measured for a plain sensor, what consumes for power. */
function typeOf(kind: SensorKind, chip: string): string {
  if (kind === 'temperature' || kind === 'fan' || kind === 'voltage') return kind
  if (/^(coretemp|k10temp|zenpower|amd_energy|cpu)/.test(chip)) return 'cpu'
  if (/^(amdgpu|nouveau|radeon|i915|xe)/.test(chip)) return 'gpu'
  if (/^(nvme|drivetemp)/.test(chip)) return 'physical_disk'
  if (/^(mlx5|bnxt|ice|i40e|ixgbe|igb|cxgb|sfc|nfp|octeon)/.test(chip)) return 'network'
  if (/bat/i.test(chip)) return 'battery'
  return /psu|pmbus|power_supply|^ac/i.test(chip) ? 'power_supply' : 'enclosure'
}

const tripTypes: Readonly<Record<string, SensorLimit['type']>> = {
  critical: 'high.critical',
  hot: 'high.degraded',
  passive: 'throttled',
}

async function findZones(folder: string): Promise<Chip[]> {
  const taken = new Set<string>()
  const chips: Chip[] = []
  for (const zone of await list(folder)) {
    if (!zone.startsWith('thermal_zone')) continue
    const at = join(folder, zone)
    const files = await list(at)
    // The kernel shows most zones as hwmon chips too.
    const doubled = files.some((file) => /^hwmon\d/.test(file)) || files.includes('hwmon')
    if (doubled || (await text(join(at, 'mode'))) === 'disabled') continue
    const type = (await text(join(at, 'type'))) ?? zone
    const id = unique(taken, `thermal_zone@${type}`)
    const limits: SensorLimit[] = []
    for (const file of files.filter((name) => /^trip_point_\d+_type$/.test(name))) {
      const limit = tripTypes[(await text(join(at, file))) ?? '']
      const value = ((await numberIn(join(at, file.replace('_type', '_temp')))) ?? 0) / 1000
      if (limit && value > 0 && isPlausible('temperature', value)) limits.push({ type: limit, value })
    }
    chips.push({ id, sensors: [temperature(`${id}/temp`, type, id, join(at, 'temp'), 1000, limits)] })
  }
  return chips
}

const temperature = (
  id: string,
  name: string,
  location: string,
  input: string,
  divisor: number,
  limits: readonly SensorLimit[] = [],
): Sensor => ({
  id,
  name,
  location,
  kind: 'temperature',
  type: 'temperature',
  input,
  divisor,
  limits,
  alarms: [],
})

/** NVIDIA's service rewrites the files every few seconds. */
const bluefieldStaleMs = 120_000

/**
 * `rtc_voltage` is left out: recent versions of the service write a constant there, whatever the battery has.
 * Ports and memory modules that are absent were given as 0 by older versions.
 */
async function findBluefield(folder: string): Promise<Chip[]> {
  const files = await list(folder)
  const location = 'bluefield'
  const staleAfterMs = bluefieldStaleMs
  const sensors: Sensor[] = files
    .filter((file) => /^(bluefield|p\d|ddr|ddr\d_\d)_temp$/.test(file))
    .map((file) => ({
      ...temperature(`${location}/${file}`, file, location, join(folder, file), 1),
      staleAfterMs,
      ...(file === 'bluefield_temp' ? {} : { zeroIsAbsent: true as const }),
    }))
  if (files.includes('soc_power')) {
    const envelope = await numberIn(join(folder, 'power_envelope'))
    sensors.push({
      id: `${location}/soc_power`,
      name: 'soc_power',
      location,
      kind: 'power',
      type: 'cpu',
      input: join(folder, 'soc_power'),
      divisor: 1,
      limits: envelope !== undefined && envelope > 0 ? [{ type: 'max', value: envelope }] : [],
      alarms: [],
      staleAfterMs,
    })
  }
  return sensors.length > 0 ? [{ id: location, sensors }] : []
}

export interface SensorValue {
  sensor: Sensor
  /** Undefined where the sensor has nothing true to say. */
  value: number | undefined
  /** Undefined where the sensor has no alarms. */
  state: HwState | undefined
}

/** @param nowMs Unix time, to find values whose writer has died. */
export async function readSensor(sensor: Sensor, nowMs: number): Promise<SensorValue> {
  let state: HwState | undefined
  for (const alarm of sensor.alarms) {
    const raised = await numberIn(alarm.path)
    if (raised !== undefined) state ??= 'ok'
    if (raised && state !== 'failed') state = alarm.state
  }
  const fault = sensor.fault === undefined ? undefined : await numberIn(sensor.fault)
  if (fault) return { sensor, value: undefined, state: 'failed' }
  if (fault === 0) state ??= 'ok'
  return { sensor, value: await valueOf(sensor, nowMs), state }
}

async function valueOf(sensor: Sensor, nowMs: number): Promise<number | undefined> {
  const raw = await numberIn(sensor.input)
  if (raw === undefined || (raw === 0 && sensor.zeroIsAbsent)) return undefined
  if (sensor.staleAfterMs !== undefined) {
    const written = await stat(sensor.input).catch(() => undefined)
    if (!written || nowMs - written.mtimeMs > sensor.staleAfterMs) return undefined
  }
  const value = raw / sensor.divisor
  return isPlausible(sensor.kind, value) ? value : undefined
}
