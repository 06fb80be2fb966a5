// Chooses the journal: our log in the data directory, or Kafka, whose library is loaded only then.
import type { Clock, Log } from '../../plugins/contract/define.ts'
import { PermanentError } from '../../plugins/contract/errors.ts'
import { LogLockedError } from '../../plugins/protocols/log/index.ts'
import type { AggregatorConfig } from '../config.ts'
import type { Journal } from './journal.ts'
import { openLogJournal } from './log.ts'

export interface OpenJournalOptions {
  /** `embedded` or `kafka://host:port,…`. */
  url: string
  config: AggregatorConfig['journal']
  /** Of the log. */
  directory: string
  maxBytes: number
  /** No other aggregator may share it: the store keeps what it knows to itself. */
  alone: boolean
  log: Log
  clock: Clock
}

/** @throws PermanentError where another process has the directory, or Kafka's topics cannot be used. */
export async function openJournal(options: OpenJournalOptions): Promise<Journal> {
  const { url, directory, maxBytes, alone, log, clock } = options
  const { brokers, retention, session, ...kafka } = options.config.kafka
  if (url === 'embedded' && brokers === undefined) {
    return openLogJournal(directory, {
      maxBytes,
      onDamage: (damage) => log.error('journal is damaged', { ...damage }),
    }).catch((cause: unknown) => {
      if (!(cause instanceof LogLockedError)) throw cause
      const what = `another aggregator (process ${cause.pid}) works with ${directory}: stop it, or give this one --data DIR`
      throw new PermanentError('PERMISSION_DENIED', what, { cause })
    })
  }
  const { brokersOf, openKafkaJournal } = await import('./kafka.ts')
  return openKafkaJournal({
    ...kafka,
    brokers: url === 'embedded' ? (brokers ?? []) : brokersOf(url),
    retentionMs: retention,
    sessionTimeoutMs: session,
    alone,
    clock,
    log,
  })
}
