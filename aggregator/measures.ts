// What the aggregator tells about itself: names, units, and where each number is read.
import type { WriterFilter } from './filter.ts'
import type { Ingest } from './ingest.ts'
import type { Journal, SharedJournal } from './journal/journal.ts'
import type { RunningLedger } from './ledger.ts'
import type { Measure } from './metrics.ts'
import type { Mqtt } from './mqtt.ts'
import type { Writer } from './writer.ts'

export interface MeasuredParts {
  ingest: Ingest
  journal: Journal
  writer: Writer
  filter?: WriterFilter | undefined
  ledger: RunningLedger
  accounts: { readonly size: number }
  mqtt: Pick<Mqtt, 'embedded' | 'external'> | undefined
  /** As last seen. */
  store: () => { bytes: number; rows: number; files: number }
}

type Row = readonly [
  name: string,
  kind: Measure['kind'],
  unit: string,
  description: string,
  read: () => number,
]

export function measuresOf(parts: MeasuredParts): Measure[] {
  const { ingest, journal, filter, writer, ledger, accounts, mqtt, store } = parts
  const taken = ingest.counters
  const written = writer.counters
  const rows: Row[] = [
    ['ingest.batches', 'counter', '{batch}', 'Batches taken into the journal.', () => taken.batches],
    ['ingest.records', 'counter', '{record}', 'Records in them.', () => taken.records],
    [
      'ingest.forwarded',
      'counter',
      '{span}',
      'Spans among them: passed on, not stored.',
      () => taken.forwarded,
    ],
    ['ingest.duplicates', 'counter', '{batch}', 'Batches that came again.', () => taken.duplicates],
    [
      'ingest.invalid',
      'counter',
      '{message}',
      'Messages and records that were refused.',
      () => taken.invalid,
    ],
    ['ingest.io', 'counter', 'By', 'Bytes taken in, as they came.', () => taken.bytes],
    ['journal.commits', 'counter', '{commit}', 'Commits of the journal.', () => taken.commits],
    ['journal.commit_time', 'counter', 'ms', 'Time spent in them.', () => taken.commitMs],
    [
      'journal.failures',
      'counter',
      '{commit}',
      'Commits that the journal refused.',
      () => taken.failedCommits,
    ],
    ['journal.usage', 'gauge', 'By', 'Journal on disk.', () => journal.bytes],
    ['writer.batches', 'counter', '{batch}', 'Batches given to the store.', () => written.batches],
    ['writer.records', 'counter', '{record}', 'Records in them.', () => written.records],
    ['writer.duplicates', 'counter', '{batch}', 'Batches that the store had.', () => written.duplicates],
    [
      'writer.unreadable',
      'counter',
      '{entry}',
      'Journal entries that no one can read.',
      () => written.unreadable,
    ],
    ['writer.retries', 'counter', '{commit}', 'Commits that the store refused.', () => written.retries],
    ['writer.commits', 'counter', '{commit}', 'Commits of the store.', () => written.commits],
    ['writer.commit_time', 'counter', 'ms', 'Time spent in them.', () => written.commitMs],
    ['ledger.streams', 'gauge', '{stream}', 'Streams with an account.', () => accounts.size],
    [
      'ledger.lost',
      'gauge',
      '{stream}',
      'Streams of which acknowledged batches are gone.',
      () => ledger.lost(),
    ],
    ['store.usage', 'gauge', 'By', 'Store on disk.', () => store().bytes],
    ['store.rows', 'gauge', '{row}', 'Rows in the store.', () => store().rows],
    ['store.files', 'gauge', '{file}', 'Sealed files of the store.', () => store().files],
    ['process.memory', 'gauge', 'By', 'Resident memory of this process.', () => process.memoryUsage.rss()],
  ]
  rows.push(...brokerRows(mqtt))
  const measures = rows.map(([name, kind, unit, description, read]): Measure => ({
    name: `dpulse.aggregator.${name}`,
    kind,
    unit,
    description,
    read,
  }))
  if (filter) measures.push(...filterMeasures(filter))
  return journal.shared ? [...measures, ...sharedMeasures(journal.shared)] : measures
}

/** Of the rules over what is stored. */
function filterMeasures(filter: WriterFilter): Measure[] {
  return [
    {
      name: 'dpulse.aggregator.rule.matched',
      kind: 'counter',
      unit: '{record}',
      description: 'Records that a rule of the filter matched.',
      read: () => filter.counts().map(({ rule, matched }) => [{ rule }, matched] as const),
    },
    {
      name: 'dpulse.aggregator.rule.dropped',
      kind: 'counter',
      unit: '{record}',
      description: 'Records that a rule of the filter dropped, by reason.',
      read: () =>
        filter
          .counts()
          .flatMap(({ rule, dropped }) =>
            Object.entries(dropped).map(([reason, count]) => [{ rule, reason }, count] as const),
          ),
    },
  ]
}

/** Of a journal that several aggregators share. */
function sharedMeasures(shared: SharedJournal): Measure[] {
  return [
    {
      name: 'dpulse.aggregator.journal.lag',
      kind: 'gauge',
      unit: '{entry}',
      description: 'Entries not yet read, of the partitions that are ours.',
      read: () => [...shared.lag()].map(([topic, count]) => [{ topic }, count] as const),
    },
    {
      name: 'dpulse.aggregator.journal.partitions',
      kind: 'gauge',
      unit: '{partition}',
      description: 'Partitions that are ours.',
      read: () => shared.owned().size,
    },
  ]
}

function brokerRows(mqtt: MeasuredParts['mqtt']): Row[] {
  if (mqtt?.external) {
    const { counters } = mqtt.external
    return [
      [
        'broker.connected',
        'gauge',
        '{connection}',
        'Whether the MQTT broker has us as a client.',
        () => counters.connected,
      ],
      [
        'broker.connects',
        'counter',
        '{connection}',
        'Connections to it that were made.',
        () => counters.connections,
      ],
      ['broker.received', 'counter', '{message}', 'Messages that it sent.', () => counters.messages],
      ['broker.refused', 'counter', '{message}', 'Messages that were refused.', () => counters.refused],
      [
        'broker.unacknowledged',
        'counter',
        '{message}',
        'Acknowledgements that it did not take.',
        () => counters.missed,
      ],
    ]
  }
  if (!mqtt?.embedded) return []
  const { counters } = mqtt.embedded
  return [
    ['broker.connections', 'gauge', '{connection}', 'MQTT clients.', () => counters.connections],
    [
      'broker.published',
      'counter',
      '{message}',
      'Messages that clients published.',
      () => counters.published,
    ],
    ['broker.refused', 'counter', '{message}', 'Messages that were refused.', () => counters.refusedMessages],
    [
      'broker.refused_logins',
      'counter',
      '{login}',
      'Logins that were refused.',
      () => counters.refusedLogins,
    ],
    ['broker.missed', 'counter', '{message}', 'Messages that slow readers missed.', () => counters.missed],
  ]
}
