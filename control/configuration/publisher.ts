// Brings wishes to collectors: each as one retained message, published when it changes, and again where the broker has
// lost it. A verbosity whose time is over is no longer wished.
import { codeOf, messageOf } from '../../plugins/contract/errors.ts'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { topics } from '../../plugins/protocols/topics.ts'
import type { Wish, Wishes } from './wishes.ts'

/** Where collectors speak MQTT, whichever broker that is. */
export interface Bus {
  publish(topic: string, payload: string, options?: { retain?: boolean; qos?: 0 | 1 }): Promise<void>
  retained(pattern: string): IterableIterator<{ topic: string; payload: Buffer }>
}

export interface PublisherOptions {
  wishes: Wishes
  bus: Bus
  root: string
  clock: Clock
  log: Log
}

export class Publisher {
  readonly #options: PublisherOptions

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /** What cannot be published now will be by `mend`. */
  async publish(collector: string, wish: Wish): Promise<void> {
    const { wishes, bus, root, log } = this.#options
    const desired = wishes.desired(wish)
    if (!desired) {
      log.error('the text of a wished configuration is gone', { collector })
      return
    }
    try {
      // The revision stands first: `mend` looks no further.
      const { revision, ...rest } = desired
      const payload = JSON.stringify({ revision, ...rest })
      await bus.publish(topics(root).desired(collector), payload, { retain: true, qos: 1 })
    } catch (error) {
      const facts = { collector, code: codeOf(error), error: messageOf(error) }
      log.warn('a wish is not published yet', facts)
    }
  }

  /** Takes away what is retained of a collector. */
  async clear(collector: string): Promise<void> {
    const { bus, root } = this.#options
    const { desired, reported } = topics(root)
    for (const topic of [desired(collector), reported(collector)]) {
      await bus.publish(topic, '', { retain: true, qos: 1 })
    }
  }

  /** Publishes what the broker does not hold as it is wished. */
  async mend(): Promise<void> {
    const { wishes, bus, root } = this.#options
    const held = new Map<string, number>()
    for (const { topic, payload } of bus.retained(topics(root).allDesired)) {
      const collector = topic.slice(root.length + 1, -'/config/desired'.length)
      held.set(collector, Number(/^\{"revision":(\d+)/.exec(payload.toString('latin1', 0, 40))?.[1] ?? 0))
    }
    for (const [collector, wish] of wishes.all()) {
      if (held.get(collector) !== wish.revision) await this.publish(collector, wish)
    }
  }
}

/** The wish without verbosities that are over; undefined where none is. */
export function withoutEnded(wish: Wish, nowMs: number): Wish['verbosity'] | undefined {
  const left = wish.verbosity.filter(({ time, forMs }) => Date.parse(time) + forMs > nowMs)
  return left.length < wish.verbosity.length ? left : undefined
}
