// Source of sensor readings of this machine: temperatures, fans, voltages, power, energy and currents, with their
// limits and alarms, from hwmon, thermal zones and the files of BlueField's own service.
import * as z from 'zod'
import { Readings, defineSource, duration } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { gauge, own } from '../protocols/declared.ts'
import { findSensors, readSensor, sensorFolders } from '../protocols/hwmon.ts'
import type { Chip, HwState, SensorKind, SensorRoots, SensorValue } from '../protocols/hwmon.ts'
import { selection, selects } from '../protocols/proc-selection.ts'

/** Semantic conventions have no electric current, and limits of power only for power supplies: those are our own. */
const emits = {
  'hw.temperature': gauge('Cel', 'Temperature.'),
  'hw.temperature.limit': gauge('Cel', 'Limits of a temperature.'),
  'hw.fan.speed': gauge('rpm', 'Speed of a fan.'),
  'hw.fan.speed.limit': gauge('rpm', 'Limits of the speed of a fan.'),
  'hw.voltage': gauge('V', 'Voltage.'),
  'hw.voltage.limit': gauge('V', 'Limits of a voltage.'),
  'hw.power': gauge('W', 'Power that a component takes.'),
  'dpu.power.limit': own('W', 'Limits of the power that a component takes.'),
  'hw.energy': { kind: 'counter', unit: 'J', description: 'Energy that a component took.' },
  'dpu.current': own('A', 'Electric current.'),
  'dpu.current.limit': own('A', 'Limits of an electric current.'),
  'hw.status': {
    kind: 'updowncounter',
    unit: '1',
    description: 'State of a sensor: 1 for the one that it is in.',
  },
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const metrics: Readonly<Record<SensorKind, { value: Metric; limit?: Metric }>> = {
  temperature: { value: 'hw.temperature', limit: 'hw.temperature.limit' },
  fan: { value: 'hw.fan.speed', limit: 'hw.fan.speed.limit' },
  voltage: { value: 'hw.voltage', limit: 'hw.voltage.limit' },
  power: { value: 'hw.power', limit: 'dpu.power.limit' },
  energy: { value: 'hw.energy' },
  current: { value: 'dpu.current', limit: 'dpu.current.limit' },
}

const config = z.strictObject({
  interval: duration.prefault('15s').describe('Time between readings.'),
  sensors: selection('sensors', []).describe(
    'Which sensors to read, by hw.id, such as nvme@0000:01:00.0/temp1.',
  ),
  most: z.int().min(1).max(4096).default(512).describe('Most sensors to read.'),
  root: z
    .strictObject({
      sys: z.string().default('/sys').describe('Where sysfs is mounted.'),
      bluefield: z
        .string()
        .default('/run/emu_param')
        .describe("Where BlueField's set_emu_param service writes its sensor files."),
    })
    .prefault({})
    .describe('Roots, for a collector in a container.'),
})
type Config = z.output<typeof config>

const scope = { name: 'hwmon' }
const states: readonly HwState[] = ['ok', 'degraded', 'failed']
/** A chip behind a stuck bus answers late or never: the others do not wait for it. */
const answerLimitMs = 5000
/** Limits and labels are read again after so many readings, or when a chip comes or goes. */
const readingsPerSearch = 20

export class SensorReader {
  readonly #config: Config
  readonly #context: Context
  readonly #wanted: (id: string) => boolean
  #chips: Chip[] = []
  #folders: string | undefined
  #sinceSearch = 0
  readonly #asked = new Set<string>()
  readonly #told = new Set<string>()

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#wanted = selects(settings.sensors)
  }

  async read(signal: AbortSignal): Promise<Records[]> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(answerLimitMs)])
    await this.#guarded('search', limit, () => this.#search())
    const now = this.#context.clock.nowUnixNano()
    const answers = await Promise.all(
      this.#chips.map((chip) => this.#ask(chip, Number(now / 1_000_000n), limit)),
    )
    const readings = new Readings({
      scope,
      declared: emits,
      device: this.#context.device,
      resource: this.#context.resource({ 'service.name': 'dpulse' }),
      timeUnixNano: now,
    })
    for (const { name, value, attributes } of pointsOf(answers.flat())) readings.add(name, value, attributes)
    return readings.finish()
  }

  async #search(): Promise<void> {
    const folders = await sensorFolders(this.#config.root)
    if (folders === this.#folders && ++this.#sinceSearch < readingsPerSearch) return
    this.#folders = folders
    this.#sinceSearch = 0
    let left = this.#config.most
    const found = await findSensors(this.#config.root)
    const chosen = found.map(({ id, sensors }) => ({
      id,
      sensors: sensors.filter((one) => this.#wanted(one.id)),
    }))
    const count = chosen.reduce((sum, { sensors }) => sum + sensors.length, 0)
    if (count > left) this.#tell('sensors', `${count} found, ${left} are read`)
    this.#chips = chosen.flatMap(({ id, sensors }) => {
      const taken = sensors.slice(0, left)
      left -= taken.length
      return taken.length > 0 ? [{ id, sensors: taken }] : []
    })
  }

  async #ask(chip: Chip, nowMs: number, limit: AbortSignal): Promise<SensorValue[]> {
    return (await this.#guarded(chip.id, limit, () => readChip(chip, nowMs, limit))) ?? []
  }

  /** Undefined where the task takes too long; it is not begun again before it has ended. */
  async #guarded<T>(what: string, limit: AbortSignal, task: () => Promise<T>): Promise<T | undefined> {
    if (this.#asked.has(what)) return undefined
    this.#asked.add(what)
    try {
      return await within(
        limit,
        task().finally(() => this.#asked.delete(what)),
      )
    } catch (cause) {
      const stopping = limit.aborted && (limit.reason as Error).name !== 'TimeoutError'
      if (!stopping) this.#tell(what, (cause as Error).message)
      return undefined
    }
  }

  /** Once for each thing that can be wrong. */
  #tell(what: string, reason: string): void {
    if (this.#told.has(what) || this.#told.size >= 200) return
    this.#told.add(what)
    this.#context.log.warn('sensors cannot be read', { what, reason })
  }
}

async function readChip({ sensors }: Chip, nowMs: number, limit: AbortSignal): Promise<SensorValue[]> {
  const values: SensorValue[] = []
  for (const sensor of sensors) {
    if (limit.aborted) break
    values.push(await readSensor(sensor, nowMs))
  }
  return values
}

/** The promise, or a rejection as soon as the signal aborts. */
async function within<T>(limit: AbortSignal, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>()
  const giveUp = () => late.reject(new Error(`no answer within ${answerLimitMs} ms`, { cause: limit.reason }))
  if (limit.aborted) giveUp()
  limit.addEventListener('abort', giveUp, { once: true })
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    promise.catch(() => undefined)
    limit.removeEventListener('abort', giveUp)
  }
}

interface Point {
  name: Metric
  value: number | bigint
  attributes: Attributes
}

/** Points in the order of their metrics, as the encoder likes them. */
export function pointsOf(values: readonly SensorValue[]): Point[] {
  const points: Point[] = []
  for (const { sensor, value, state } of values) {
    const attributes = {
      'hw.id': sensor.id,
      'hw.name': sensor.name,
      'hw.type': sensor.type,
      'hw.sensor_location': sensor.location,
    }
    const metric = metrics[sensor.kind]
    if (value !== undefined) points.push({ name: metric.value, value, attributes })
    for (const limit of metric.limit && value !== undefined ? sensor.limits : []) {
      // The condition above has shown that there is one.
      const name = metric.limit as Metric
      points.push({ name, value: limit.value, attributes: { ...attributes, 'hw.limit_type': limit.type } })
    }
    for (const one of state === undefined ? [] : states) {
      points.push({
        name: 'hw.status',
        value: one === state ? 1n : 0n,
        attributes: { ...attributes, 'hw.state': one },
      })
    }
  }
  const order = Object.keys(emits)
  return points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
}

/** Whether a machine has sensors. */
export async function detectSensors(root: SensorRoots): Promise<Detected<z.input<typeof config>>> {
  const chips = await findSensors(root)
  return chips.length > 0
    ? { config: {} }
    : { leftOut: 'no hwmon chip, thermal zone or BlueField temperature file on this machine' }
}

export default defineSource({
  name: 'hwmon',
  summary: 'Temperatures, fans, voltages, power and their limits from hwmon, thermal zones and BlueField.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new SensorReader(settings, context)
      context.ready()
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read(signal)
        if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
      })
    },
  }),
  detect: () => detectSensors(config.parse({}).root),
})
