// The aggregator's way in for tests, over real sockets: embedded broker, ingest and journal in a folder of their own.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startBroker } from '../../aggregator/broker.ts'
import type { Broker, BrokerLimits, BrokerOptions } from '../../aggregator/broker.ts'
import { openIngest } from '../../aggregator/ingest.ts'
import type { Ingest, IngestOptions } from '../../aggregator/ingest.ts'
import type { Journal, JournalEntry, Position } from '../../aggregator/journal/journal.ts'
import { openLogJournal } from '../../aggregator/journal/log.ts'
import { topics } from '../../plugins/protocols/topics.ts'
import { realClock } from './clock.ts'
import { testContext } from './context.ts'
import type { Logged } from './context.ts'

export interface Intake extends AsyncDisposable {
  directory: string
  journal: Journal
  ingest: Ingest
  broker: Broker
  url: string
  logged: Logged[]
  /** All entries of the journal, once there are so many. */
  entries(count: number): Promise<JournalEntry[]>
}

export interface IntakeOptions {
  root?: string
  /** Kept afterwards where it is given. */
  directory?: string
  port?: number
  limits?: Partial<BrokerLimits>
  tls?: NonNullable<BrokerOptions['tls']>
  login?: NonNullable<BrokerOptions['login']>
  ingest?: Partial<IngestOptions>
  /** Put before the journal, to make it slow or broken. */
  wrap?: (journal: Journal) => Journal
}

export async function openIntake(options: IntakeOptions = {}): Promise<Intake> {
  const { root = 'dpulse', port = 0, wrap = (journal) => journal } = options
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'dpulse-intake-')))
  const journal = wrap(await openLogJournal(join(directory, 'journal')))
  const { log, logged } = testContext()
  const ingest = openIngest({
    journal,
    log,
    clock: realClock,
    device: 'aggregator-under-test',
    acknowledge: (collector, ack) => void broker?.publish(topics(root).ack(collector), JSON.stringify(ack)),
    ...options.ingest,
  })
  let broker: Broker | undefined
  broker = await startBroker({
    root,
    listen: [{ host: '127.0.0.1', port }],
    retained: journal.table('dpulse_retained'),
    log,
    receiver: ingest,
    limits: options.limits ?? {},
    ...(options.tls && { tls: options.tls }),
    ...(options.login && { login: options.login }),
  })
  return {
    directory,
    journal,
    ingest,
    broker,
    url: `mqtt://127.0.0.1:${broker.port}`,
    logged,
    entries: (count) => entriesOf(journal, count),
    async [Symbol.asyncDispose]() {
      await broker[Symbol.asyncDispose]()
      await ingest[Symbol.asyncDispose]()
      await journal[Symbol.asyncDispose]()
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true })
    },
  }
}

export async function entriesOf(journal: Journal, count: number): Promise<JournalEntry[]> {
  const entries: JournalEntry[] = []
  let next: Position = {}
  while (entries.length < count) {
    const read = await journal.read(next, { entries: 1000, bytes: 1 << 22 }, AbortSignal.timeout(30_000))
    if (read.entries.length === 0 && read.damage.length === 0) {
      throw new Error(`the journal has ${entries.length} entries, ${count} were awaited`)
    }
    entries.push(...read.entries.map((one) => ({ ...one, value: Buffer.from(one.value) })))
    next = read.next
  }
  return entries
}
