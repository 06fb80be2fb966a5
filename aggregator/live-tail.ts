// What the live tail hears where several aggregators share the journal: each takes in some of the records only, so that
// whoever listens hears the journal's newest end, and not the ingest of the aggregator that he happens to ask.
import { streamKey } from '../plugins/contract/batch.ts'
import type { Header } from '../plugins/contract/batch.ts'
import { splitRequest } from '../plugins/protocols/otlp/split.ts'
import { headerIn, signalOf } from './foreign.ts'
import type { JournalEntry, SharedJournal } from './journal/journal.ts'
import type { BatchFeed } from './live.ts'

/** Batches that are known again when they come twice: collectors repeat what was not acknowledged in time. */
const mostKnown = 20_000
/** No header names such a session. */
const foreignSession = '0'.repeat(26)

/** `device` is that of records without `host.id`. */
export function journalFeed(shared: Pick<SharedJournal, 'tail' | 'partitionOf'>, device: string): BatchFeed {
  return {
    listen(listener, onMissed) {
      const known = new Set<string>()
      const isNew = (header: Header): boolean => {
        const key = `${streamKey(header)}/${header.seq}`
        if (known.has(key)) return false
        known.add(key)
        if (known.size > mostKnown) for (const one of [...known].slice(0, mostKnown / 2)) known.delete(one)
        return true
      }
      return shared.tail({
        onMissed,
        onEntry(entry) {
          const signal = signalOf[entry.topic]
          const header = headerIn(entry, shared)
          if (header) {
            if (isNew(header)) listener(header, signal, entry.value, entry.arrivedUnixNano)
            return
          }
          for (const { header: made, bytes } of foreignBatches(entry, device)) {
            listener(made, signal, bytes, entry.arrivedUnixNano)
          }
        },
      })
    },
  }
}

/**
 * Whoever owns the partition numbers records of others, and here nobody knows how: they are named by their place, and
 * so by another id than the store will give them.
 */
function* foreignBatches({ topic, partition, offset, value }: JournalEntry, device: string) {
  const split = readable(() => splitRequest(signalOf[topic], value, { device }))
  for (const [index, { device: about, class: name, count, from, to, bytes }] of (
    split?.records ?? []
  ).entries()) {
    const collector = `kafka-${partition}-${index}`
    const header: Header = {
      collector,
      device: about,
      session: foreignSession,
      class: name,
      seq: offset + 1,
      count,
      from,
      to,
      produced: 0,
      dropped: {},
    }
    yield { header, bytes }
  }
}

/** What nobody can read the owner of the partition counts, and says so. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}
