// A fleet while it runs: devices start one after the other; each is read and moved on once a simulated second, faults
// first, and its collector follows what became of it.
import type { Clock } from '../plugins/contract/index.ts'
import type { Surroundings } from './device.ts'
import { VirtualDevice } from './device.ts'
import type { Cable } from './exporters.ts'
import type { Device, Schedule } from './model.ts'
import { stepMs } from './model.ts'
import { step } from './physics/index.ts'

/** A step of all is done in so many parts, so that none keeps sockets waiting; what is late is made up for no longer at once. */
const parts = 20
const mostMs = 25

export interface SimulationOptions extends Surroundings {
  readonly devices: readonly Device[]
  readonly cables: ReadonlyMap<string, Cable>
  readonly schedule: Schedule
  /** Of the fleet, beside those of the devices. */
  readonly clock: Clock
  /** Simulated milliseconds in which all devices start. */
  readonly startWithinMs: number
}

export class Simulation {
  readonly #options: SimulationOptions
  readonly devices: readonly VirtualDevice[]
  readonly #stopped = new AbortController()
  #steps = 0

  constructor(options: SimulationOptions) {
    this.#options = options
    this.devices = options.devices.flatMap((device) => {
      const cable = options.cables.get(device.id)
      return cable ? [new VirtualDevice(device, cable, options)] : []
    })
  }

  /** How the fleet is, for a person who looks on. */
  status(): { devices: number; online: number; heldBytes: number } {
    const online = this.devices.filter(({ isOnline }) => isOnline).length
    const heldBytes = this.devices.reduce((sum, one) => sum + one.heldBytes, 0)
    return { devices: this.devices.length, online, heldBytes }
  }

  start(): void {
    void this.#options.clock.every(stepMs / parts, this.#stopped.signal, () => this.#stepPart())
  }

  /** The time of the run is over: nothing of it is missing because the machine was late. */
  catchUp(): void {
    for (const due = this.#due; this.#steps <= due;) this.#step(this.#steps++)
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await Promise.all(this.devices.map((one) => one.stop()))
    for (const { device } of this.devices) this.#options.schedule.end(device)
  }

  /** Part by part: a step takes all parts, and a late one is made up for, so that no device falls behind the time. */
  #stepPart(): void {
    const due = this.#due
    const beganMs = performance.now()
    // A virtual clock has one due at a time, whatever the machine takes for it.
    while (this.#steps <= due) {
      this.#step(this.#steps++)
      if (performance.now() - beganMs > mostMs) return
    }
  }

  /** Number of the last step whose time has come. */
  get #due(): number {
    return Math.floor((this.#options.clock.elapsedMs() * parts) / stepMs)
  }

  #step(number: number): void {
    const { schedule } = this.#options
    const atMs = (number * stepMs) / parts
    for (let index = number % parts; index < this.devices.length; index += parts) {
      const one = this.devices[index]
      if (!one) continue
      one.device.beat.pass(atMs) // nothing that it reads is later than that
      schedule.step(one.device)
      step(one.device)
      if (this.#startMs(index) <= atMs) one.follow()
    }
  }

  #startMs(index: number): number {
    return (index / this.devices.length) * this.#options.startWithinMs
  }
}
