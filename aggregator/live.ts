// The live tail: log records as the journal takes them, filtered before anything is built. Nothing is decoded while
// nobody listens.
import type { Header } from '../plugins/contract/batch.ts'
import { LogCursor } from '../plugins/contract/log-cursor.ts'
import type { AttributeValue } from '../plugins/contract/values.ts'
import type { Signal } from '../plugins/contract/signal.ts'
import type { Clock } from '../plugins/contract/define.ts'
import type { Live, LiveFlow, LogFilter, LogRecordRow } from './query.ts'
import { jsonObject, toJson } from './store/json-text.ts'
import { formatTime } from './time.ts'

interface Subscriber {
  filter: LogFilter
  text: string | undefined
  onRecord: (record: LogRecordRow) => void
  flow: LiveFlow
}

/** As much of the ingest as the live tail needs. */
export interface BatchFeed {
  listen(listener: (header: Header, signal: Signal, request: Uint8Array) => void): () => void
}

const dayNano = 86_400_000_000_000n

/** `rowId` makes the same id as the store does. */
export function openLive(
  feed: BatchFeed,
  clock: Clock,
  rowId: (header: Header, index: number) => string,
): Live {
  const subscribers = new Set<Subscriber>()
  const cursor = new LogCursor()
  let stop: (() => void) | undefined

  function onBatch(header: Header, signal: Signal, request: Uint8Array): void {
    if (signal !== 'logs') return
    const wanting = [...subscribers].filter(({ filter }) => filter.device?.includes(header.device) ?? true)
    if (wanting.length === 0) return
    cursor.reset(request)
    const arrived = clock.nowUnixNano()
    let resource: Record<string, AttributeValue> = {}
    let resourceIndex = 0
    for (let index = 0; cursor.next(); index++) {
      if (cursor.resourceIndex !== resourceIndex) {
        resourceIndex = cursor.resourceIndex
        resource = cursor.resourceAttributes()
      }
      let row: LogRecordRow | undefined
      for (const subscriber of wanting) {
        if (!matches(subscriber, cursor, resource)) continue
        if (subscriber.flow.room() === 0) subscriber.flow.missed(1)
        else subscriber.onRecord((row ??= rowOf(header, index, arrived, resource)))
      }
    }
  }

  function rowOf(
    header: Header,
    index: number,
    arrived: bigint,
    resource: Record<string, AttributeValue>,
  ): LogRecordRow {
    const observed = nanoOf(cursor.observedHigh, cursor.observedLow)
    const time = nanoOf(cursor.timeHigh, cursor.timeLow) || observed || arrived
    const attributes = jsonObject(cursor.recordAttributes())
    const apart = time > arrived ? time - arrived : arrived - time
    if (apart > dayNano) attributes['dpu.clock.suspect'] = true
    return {
      id: rowId(header, index),
      time: formatTime(time),
      observedTime: formatTime(observed || arrived),
      device: header.device,
      severityNumber: cursor.severityNumber,
      severityText: cursor.text(cursor.severityText),
      body: toJson(cursor.bodyValue() ?? ''),
      attributes,
      resource: jsonObject(resource),
      eventName: cursor.text(cursor.eventName),
    }
  }

  return {
    subscribe(filter, onRecord, flow) {
      const subscriber = { filter, text: filter.text?.toLowerCase(), onRecord, flow }
      subscribers.add(subscriber)
      stop ??= feed.listen(onBatch)
      return () => {
        subscribers.delete(subscriber)
        if (subscribers.size > 0) return
        stop?.()
        stop = undefined
      }
    },
  }
}

function matches(
  { filter, text }: Subscriber,
  cursor: LogCursor,
  resource: Record<string, AttributeValue>,
): boolean {
  if (filter.severity !== undefined && cursor.severityNumber < filter.severity) return false
  if (text !== undefined && text !== '') {
    const body = textOf(cursor.bodyValue())
    if (!body.toLowerCase().includes(text)) return false
  }
  if (filter.where.length === 0) return true
  const attributes = cursor.recordAttributes()
  return filter.where.every(({ key, value }) => textOf(attributes[key] ?? resource[key]) === value)
}

/** As `where` and the search see a value: text is itself, anything else its JSON. */
function textOf(value: AttributeValue | undefined): string {
  if (value === undefined) return ''
  return typeof value === 'string' ? value : JSON.stringify(toJson(value))
}

const nanoOf = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low)
