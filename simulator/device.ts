// One virtual device while it runs: the real collector runtime on simulated sources, with a connection, a session and a
// buffer of its own. When the device loses its power the collector ends with it, and a new one starts with the next boot.
import { ulid } from 'ulid'
import type { Budget } from '../collector/budget.ts'
import type { CollectorConfig } from '../collector/config.ts'
import type { CollectorIdentity } from '../collector/context.ts'
import type { Logger } from '../collector/logger.ts'
import { Runtime } from '../collector/runtime.ts'
import type { Clock } from '../plugins/contract/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import { clockOf } from './clock.ts'
import type { Cable } from './exporters.ts'
import type { Device } from './model.ts'
import type { Random } from './random.ts'
import type { Timeline } from './timeline.ts'

export interface Surroundings {
  readonly timeline: Timeline
  readonly config: CollectorConfig
  readonly budget: Budget
  readonly logger: Logger
  readonly version: string
  readonly portOffset: number
  /** Of all that a device has in its log, where it has one. */
  readonly disk: number
  /** Opens the log of a device; undefined where buffers are in memory. */
  readonly openLog: ((device: string) => Promise<Log>) | undefined
}

/** What is kept of lines for those who look on at a device: nobody can. */
const tailBytes = 4096

export class VirtualDevice {
  readonly device: Device
  readonly cable: Cable
  readonly clock: Clock
  readonly #around: Surroundings
  readonly #random: Random
  readonly #newId: () => string
  #runtime: Runtime | undefined
  #log: Log | undefined
  /** Starts and ends follow each other. */
  #changing: Promise<void> = Promise.resolve()
  #isOn = false
  #isStopped = false

  constructor(device: Device, cable: Cable, around: Surroundings) {
    this.device = device
    this.cable = cable
    this.#around = around
    this.clock = clockOf(around.timeline, device.state.clock)
    this.#random = device.random('collector')
    this.#newId = () => ulid(Math.floor(device.epochMs + around.timeline.nowMs), () => this.#random.float())
  }

  get runtime(): Runtime | undefined {
    return this.#runtime
  }

  /** Connected, as far as its sender knows. */
  get isOnline(): boolean {
    return !this.cable.isCut && this.#runtime?.exporters[0]?.outlet.sender.isHealthy === true
  }

  /** Of batches that nobody has taken yet. */
  get heldBytes(): number {
    const outlet = this.#runtime?.exporters[0]?.outlet
    return outlet === undefined ? 0 : outlet.memoryBytes + outlet.buffer.diskBytes
  }

  /** Follows what became of the device in a step; before the first one it starts. */
  follow(): void {
    const { state } = this.device
    const isOn = state.power === 'on' && !this.#isStopped
    this.cable.isCut = state.isOffline || state.power !== 'on'
    if (isOn === this.#isOn) return
    this.#isOn = isOn
    this.#next(() => (isOn ? this.#start() : this.#end()))
  }

  /** Delivers what is held where somebody takes it. */
  async stop(): Promise<void> {
    this.#isStopped = true
    if (this.#isOn) this.#next(() => this.#end())
    this.#isOn = false
    await this.#changing
    await this.#log?.close()
  }

  #next(change: () => Promise<void>): void {
    this.#changing = this.#changing.then(change)
  }

  async #start(): Promise<void> {
    const { device, clock } = this
    const { config, budget, logger, openLog, disk } = this.#around
    this.#log ??= await openLog?.(device.id)
    this.#runtime = new Runtime({
      identity: identityOf(device, this.#around, this.#newId()),
      log: this.#log,
      clock,
      logger,
      disk,
      random: () => this.#random.float(),
      newId: this.#newId,
      budget,
      tailBytes,
    })
    await this.#runtime.apply(config)
  }

  async #end(): Promise<void> {
    await this.#runtime?.stop()
    this.#runtime = undefined
  }
}

function identityOf(
  { id, epochMs, kind, placement }: Device,
  { version, portOffset, timeline }: Surroundings,
  instance: string,
): CollectorIdentity {
  const { site, rack, host, slot, tenant } = placement
  return {
    collector: id,
    device: id,
    instance,
    version,
    since: new Date(epochMs + timeline.nowMs).toISOString(),
    hostname: `${host}-dpu${slot}`,
    arch: kind.arch === 'x64' ? 'amd64' : kind.arch,
    labels: { kind: kind.name, site, rack, host, slot: String(slot), tenant },
    identity: 'dmi product_serial',
    portOffset,
  }
}
