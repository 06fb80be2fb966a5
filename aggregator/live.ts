// The live tail: log records as the journal takes them and as the aggregator's filter leaves them; what nobody asks for is
// left out before anything is built. Nothing is decoded while nobody listens. Where several aggregators share the journal,
// it is the whole fleet's from each (live-tail.ts).
import type { Header } from '../plugins/contract/batch.ts'
import { LogCursor } from '../plugins/contract/log-cursor.ts'
import type { Signal } from '../plugins/contract/signal.ts'
import type { Clock } from '../plugins/contract/define.ts'
import { eachRecord, matches, rowOf } from '../plugins/protocols/log-json.ts'
import type { LiveFilter } from './filter.ts'
import type { Live, LiveFlow, LogFilter, LogRecordRow } from './query.ts'

interface Subscriber {
  filter: LogFilter
  onRecord: (record: LogRecordRow) => void
  flow: LiveFlow
}

/** Who hears of a batch; `arrivedUnixNano` is now where it is absent. */
export type BatchListener = (
  header: Header,
  signal: Signal,
  request: Uint8Array,
  arrivedUnixNano?: bigint,
) => void

/** What the live tail hears: the ingest, or the journal's newest end. */
export interface BatchFeed {
  /** `onMissed` is told how many batches were left out. */
  listen(listener: BatchListener, onMissed: (batches: number) => void): () => void
}

export interface LiveOptions {
  readonly feed: BatchFeed
  readonly filter: LiveFilter
  readonly clock: Clock
  /** Makes the same id as the store does. */
  readonly rowId: (header: Header, index: number) => string
}

export function openLive({ feed, filter: left, clock, rowId }: LiveOptions): Live {
  const subscribers = new Set<Subscriber>()
  const cursor = new LogCursor()
  let stop: (() => void) | undefined

  const onBatch: BatchListener = (header, signal, request, arrivedUnixNano) => {
    if (signal !== 'logs') return
    const wanting = [...subscribers].filter(({ filter }) => filter.device?.includes(header.device) ?? true)
    if (wanting.length === 0) return
    const { device } = header
    const arrived = arrivedUnixNano ?? clock.nowUnixNano()
    for (const { first, bytes } of left(header, request)) {
      eachRecord(cursor, bytes, (index, resource) => {
        let row: LogRecordRow | undefined
        for (const { filter, flow, onRecord } of wanting) {
          if (!matches(filter, cursor, resource)) continue
          if (flow.room() === 0) flow.missed(1)
          else {
            row ??= rowOf(cursor, { id: rowId(header, first + index), device, arrived, resource })
            onRecord(row)
          }
        }
      })
    }
  }

  /** Nobody has counted their records: each batch has one at least. */
  const onMissed = (batches: number): void => {
    for (const { flow } of subscribers) flow.missed(batches)
  }

  return {
    subscribe(filter, onRecord, flow) {
      const subscriber = { filter, onRecord, flow }
      subscribers.add(subscriber)
      stop ??= feed.listen(onBatch, onMissed)
      return () => {
        subscribers.delete(subscriber)
        if (subscribers.size > 0) return
        stop?.()
        stop = undefined
      }
    },
  }
}
