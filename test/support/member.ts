// One member of a group of aggregators, without what stands before the journal and behind the store: Kafka, handover and
// writer are the real ones, the store is a folder into which a batch that is written twice goes once, as into InfluxDB.
// As a process of its own it takes its options as JSON and prints a line when it takes part.
import { appendFile, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openWriterFilter } from '../../aggregator/filter.ts'
import { followAccounts, followStreams } from '../../aggregator/followed.ts'
import { openHandover } from '../../aggregator/handover.ts'
import type { RunningHandover } from '../../aggregator/owner.ts'
import type { Journal } from '../../aggregator/journal/journal.ts'
import type { Queries } from '../../aggregator/query.ts'
import type { Store } from '../../aggregator/store/store.ts'
import { openWriter } from '../../aggregator/writer.ts'
import type { Writer } from '../../aggregator/writer.ts'
import { systemClock as clock } from '../../collector/clock.ts'
import type { Log } from '../../plugins/contract/define.ts'
import { streamKey } from '../../plugins/contract/batch.ts'
import type { FilterSettings } from '../../plugins/protocols/filter/index.ts'

/** A file for each batch, named by stream and number; it has a line for each time that it was written, with its bytes. */
export async function folderStore(folder: string): Promise<Store> {
  await mkdir(folder, { recursive: true })
  return {
    keepsState: false,
    load: () => Promise.resolve({ position: {}, streams: new Map() }),
    async write(batches) {
      await Promise.all(
        batches.map(({ header, value }) =>
          appendFile(
            join(folder, `${streamKey(header).replaceAll('/', '_')}_${header.seq}`),
            `${process.pid} ${Buffer.from(value).toString('base64')}\n`,
          ),
        ),
      )
      return batches.map(({ header }) => ({ stored: header.count, rejected: 0 }))
    },
    count: () => Promise.resolve([]),
    queries: {} as Queries, // nobody asks
    status: () => Promise.resolve({ bytes: 0, rows: 0, files: 0, oldestUnixNano: undefined }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

export const storedIn = async (folder: string): Promise<Set<string>> => new Set(await readdir(folder))

export interface Member {
  readonly journal: Journal
  readonly handover: RunningHandover
  readonly writer: Writer
  stop(): Promise<void>
}

/** `rules` are those of the aggregator's filter. */
export async function startMember(
  journal: Journal,
  folder: string,
  log: Log,
  rules?: FilterSettings['rules'],
): Promise<Member> {
  const { shared } = journal
  if (!shared) throw new Error('nobody shares this journal')
  const handover = openHandover({ journal, shared, device: 'aggregator', storeKeepsState: false, clock, log })
  const filter = rules && openWriterFilter({ rules }, { clock, log, maxBatchBytes: 1_000_000 })
  const writer = await openWriter({ journal, store: await folderStore(folder), handover, filter, clock, log })
  const stopping = new AbortController()
  const running = Promise.all([writer.run(stopping.signal), handover.run(stopping.signal)])
  running.catch((error: unknown) => log.error('member ended', { error: String(error) }))
  return {
    journal,
    handover,
    writer,
    async stop() {
      stopping.abort()
      await running.catch(() => undefined)
      await handover.flush()
      await journal[Symbol.asyncDispose]()
    },
  }
}

/** What the owners of all partitions wrote into the compacted topics. */
export const booksOf = (journal: Pick<Journal, 'table'>) => ({
  accounts: followAccounts(journal.table('dpulse_ledger')),
  streams: followStreams(journal.table('dpulse_state')),
})
