// A kafkajs consumer that never gives up: when it crashes for good it is made anew, until it is closed.
import type { Consumer, ConsumerConfig, EachBatchPayload, Kafka } from 'kafkajs'
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { originOf } from '../../plugins/protocols/kafka/client.ts'

export interface SteadyConsumerOptions {
  kafka: Kafka
  config: ConsumerConfig
  topics: readonly string[]
  clock: Clock
  log: Log
  /** Must not wait for anything but Kafka: heartbeats wait for it. */
  onBatch(payload: EachBatchPayload): Promise<void> | void
  /** The partitions that this member has from now on. Called before anything of them is fetched. */
  onJoin(assigned: Readonly<Record<string, readonly number[]>>, consumer: Consumer): void
  onHeartbeat?(): void
}

export interface SteadyConsumer {
  /** Undefined while there is none. */
  readonly current: Consumer | undefined
  close(): Promise<void>
}

const againMs = 1000

/** Resolves at once; `onJoin` tells when it takes part. */
export function steadyConsumer(options: SteadyConsumerOptions): SteadyConsumer {
  const { kafka, config, topics, clock, log } = options
  const closing = new AbortController()
  let current: Consumer | undefined

  async function once(): Promise<void> {
    const consumer = kafka.consumer(config)
    const ended = Promise.withResolvers<void>()
    const { CRASH, GROUP_JOIN, HEARTBEAT } = consumer.events
    consumer.on(GROUP_JOIN, ({ payload }) => {
      current = consumer
      options.onJoin(payload.memberAssignment, consumer)
    })
    consumer.on(HEARTBEAT, () => options.onHeartbeat?.())
    consumer.on(CRASH, ({ payload }) => {
      if (originOf(payload.error).type === 'INCONSISTENT_GROUP_PROTOCOL') {
        log.error('another aggregator is in this consumer group, and one of the two has a store of its own', {
          group: config.groupId,
        })
      } else {
        log.warn('Kafka consumer starts anew', { group: config.groupId, error: messageOf(payload.error) })
      }
      if (!payload.restart) ended.resolve()
    })
    closing.signal.addEventListener('abort', () => ended.resolve(), { once: true })
    try {
      await consumer.connect()
      await consumer.subscribe({ topics: [...topics], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        eachBatch: async (payload) => options.onBatch(payload),
      })
      await ended.promise
    } finally {
      current = undefined
      await consumer.disconnect().catch(() => undefined)
    }
  }

  const running = (async () => {
    while (!closing.signal.aborted) {
      try {
        await once()
      } catch (error) {
        if (closing.signal.aborted) return
        log.warn('Kafka consumer does not start', { group: config.groupId, error: messageOf(error) })
      }
      await clock.delay(againMs, closing.signal).catch(() => undefined)
    }
  })()

  return {
    get current() {
      return current
    },
    async close() {
      closing.abort()
      await running
    },
  }
}
