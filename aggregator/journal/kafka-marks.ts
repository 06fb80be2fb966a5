// The oldest and the newest offset of every partition of the signal topics, looked up now and then and whenever somebody
// must know: for lag, for the ledger, and to tell a gap from a loss.
import type { Admin } from 'kafkajs'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { positionKey, signalTopics } from './journal.ts'
import type { Position } from './journal.ts'

export interface MarksOptions {
  admin: Admin
  prefix: string
  clock: Clock
  log: Log
}

const everyMs = 2000

export class Marks {
  readonly #options: MarksOptions
  readonly #low = new Map<string, number>()
  readonly #high = new Map<string, number>()
  #looking: Promise<void> | undefined

  constructor(options: MarksOptions) {
    this.#options = options
  }

  low(key: string): number | undefined {
    return this.#low.get(key)
  }

  high(key: string): number | undefined {
    return this.#high.get(key)
  }

  /** Somebody saw that there is as much. */
  note(key: string, high: number): void {
    if (high > (this.#high.get(key) ?? 0)) this.#high.set(key, high)
  }

  end(): Position {
    return Object.fromEntries(this.#high)
  }

  /** Asks Kafka. @throws what kafkajs throws. */
  look(): Promise<void> {
    this.#looking ??= this.#ask().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options
    await clock.every(everyMs, signal, async () => {
      await this.look().catch((error: unknown) => {
        log.debug('offsets not known', { error: messageOf(error) })
      })
    })
  }

  async #ask(): Promise<void> {
    const { admin, prefix } = this.#options
    await Promise.all(
      Object.values(signalTopics).map(async (topic) => {
        for (const { partition, low, high } of await admin.fetchTopicOffsets(prefix + topic)) {
          const key = positionKey(topic, partition)
          this.#low.set(key, Number(low))
          this.#high.set(key, Math.max(Number(high), 0))
        }
      }),
    )
  }
}
