// Births and wills of a collector on MQTT: one retained status, kept true after each connection, when it changes, and
// when the will of an earlier connection buries it.
import type { Context } from '../contract/define.ts'
import { messageOf } from '../contract/errors.ts'
import type { MqttLink } from './mqtt.ts'
import { statusSchema } from './topics.ts'

/** Births are retained, and must stay below what brokers take. */
const maxStatusBytes = 256 * 1024
/** Births follow each other no faster. */
const pauseMs = 1000
/** Other runs that are told of once each. */
const rivalLimit = 1000

/** JSON of the birth or will. Of what would make it too large, the newest sessions stay. */
export function statusText(context: Pick<Context, 'status'>, state: 'online' | 'offline'): string {
  const status = context.status()
  const { collector, instance, version, since, hostname } = status
  if (state === 'offline') return JSON.stringify({ state, collector, instance, version, since, hostname })
  for (let part = 1; ; part /= 2) {
    const newest = <T extends { session: string }>(list: readonly T[]): readonly T[] =>
      list
        .toSorted((a, b) => (a.session < b.session ? 1 : a.session > b.session ? -1 : 0))
        .slice(0, Math.floor(list.length * part))
    const text = JSON.stringify({
      state,
      ...status,
      ended: newest(status.ended),
      held: newest(status.held),
      devices: status.devices.slice(0, Math.ceil(status.devices.length * part)),
    })
    if (text.length <= maxStatusBytes || part < 1e-6) return text
  }
}

export class Births {
  readonly #context: Context
  readonly #link: MqttLink
  readonly #topic: string
  readonly #stopped = new AbortController()
  readonly #rivals = new Set<string>()
  #wanted = false

  constructor(context: Context, link: MqttLink, topic: string) {
    this.#context = context
    this.#link = link
    this.#topic = topic
  }

  async publish(state: 'online' | 'offline'): Promise<void> {
    await this.#link.publish(this.#topic, statusText(this.#context, state), { qos: 1, retain: true })
  }

  /** A birth soon, and one only however often it is wanted meanwhile. */
  want(): void {
    if (this.#wanted || this.#stopped.signal.aborted) return
    this.#wanted = true
    void this.#publishSoon()
  }

  async #publishSoon(): Promise<void> {
    const { signal } = this.#stopped
    try {
      await this.#context.clock.delay(pauseMs, signal)
      this.#wanted = false
      await this.publish('online')
    } catch (error) {
      if (!signal.aborted) this.#context.log.warn('birth not published', { error: messageOf(error) })
    }
  }

  /** What the broker has as our status now. */
  heard(payload: Buffer): void {
    const said = statusSchema.safeParse(json(payload))
    if (!said.success || said.data.state === 'offline') return this.want()
    const { instance, hostname, since } = said.data
    if (instance === this.#context.status().instance || this.#rivals.has(instance)) return
    // Neither silently wins: the aggregator shows both when both go on. An earlier run that was killed looks the same
    // until its will comes.
    if (this.#rivals.size < rivalLimit) this.#rivals.add(instance)
    this.#context.log.info('another run of this collector is online', { instance, hostname, since })
  }

  stop(): void {
    this.#stopped.abort()
  }
}

function json(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString())
  } catch {
    return undefined
  }
}
