// Walks the records of a foreign request and says of each whom it is about, its class and its time, so that it
// can be sorted into Records. Nothing is allocated per record.
import { LogCursor, PointCursor, SpanCursor } from '../../contract/cursor.ts'
import type { Span } from '../../contract/cursor.ts'
import { classOfLog, classOfMetric } from '../../contract/signal.ts'
import type { Class, Signal } from '../../contract/signal.ts'
import { Reader } from '../../contract/wire.ts'
import { deviceOfResource } from './device.ts'

/** Times are the two halves of Unix nanoseconds. */
export interface Walk {
  readonly cursor: LogCursor | PointCursor | SpanCursor
  /** The LogRecord, data point or Span message. */
  readonly record: Span
  device: string
  class: Class
  low: number
  high: number
  /** Moves to the next record. */
  next: () => boolean
}

const two32 = 4_294_967_296n

/** `now` stands for the time of records that have none. */
export function walk(signal: Signal, bytes: Uint8Array, own: string, now: bigint): Walk {
  const nowLow = Number(now % two32)
  const nowHigh = Number(now / two32)
  const state =
    signal === 'logs' ? walkLogs(bytes) : signal === 'metrics' ? walkPoints(bytes) : walkSpans(bytes)
  const { cursor } = state
  let resourceIndex = 0
  const step = state.next
  state.next = () => {
    if (!step()) return false
    if (cursor.resourceIndex !== resourceIndex) {
      resourceIndex = cursor.resourceIndex
      state.device = deviceOfResource(cursor.bytes, cursor.resource.start, cursor.resource.end) ?? own
    }
    if (state.low === 0 && state.high === 0) {
      state.low = nowLow
      state.high = nowHigh
    }
    return true
  }
  return state
}

function walkLogs(bytes: Uint8Array): Walk {
  const cursor = new LogCursor()
  cursor.reset(bytes)
  const state: Walk = { cursor, record: cursor.record, device: '', class: 'log', low: 0, high: 0, next }
  function next(): boolean {
    if (!cursor.next()) return false
    state.class = classOfLog(cursor.severityNumber, cursor.eventName.end > cursor.eventName.start)
    const timed = cursor.timeLow !== 0 || cursor.timeHigh !== 0
    state.low = timed ? cursor.timeLow : cursor.observedLow
    state.high = timed ? cursor.timeHigh : cursor.observedHigh
    return true
  }
  return state
}

function walkPoints(bytes: Uint8Array): Walk {
  const cursor = new PointCursor()
  cursor.reset(bytes)
  let metricIndex = 0
  const state: Walk = { cursor, record: cursor.point, device: '', class: 'resource', low: 0, high: 0, next }
  function next(): boolean {
    if (!cursor.next()) return false
    if (cursor.metricIndex !== metricIndex) {
      metricIndex = cursor.metricIndex
      state.class = classOfMetric(cursor.text(cursor.name))
    }
    state.low = cursor.timeLow
    state.high = cursor.timeHigh
    return true
  }
  return state
}

const startTimeKey = 7 * 8 + 1

function walkSpans(bytes: Uint8Array): Walk {
  const cursor = new SpanCursor()
  cursor.reset(bytes)
  const reader = new Reader(bytes)
  const state: Walk = { cursor, record: cursor.record, device: '', class: 'log', low: 0, high: 0, next }
  function next(): boolean {
    if (!cursor.next()) return false
    state.low = state.high = 0
    reader.position = cursor.record.start
    reader.end = cursor.record.end
    while (!reader.done) {
      const key = reader.key()
      if (key === startTimeKey) {
        reader.fixed64()
        state.low = reader.low
        state.high = reader.high
      } else reader.skip(key)
    }
    return true
  }
  return state
}
