// Reading an Export{Logs,Metrics,Trace}ServiceRequest in place: the cursors, and counting with them.
import { LogCursor } from './log-cursor.ts'
import { PointCursor } from './point-cursor.ts'
import { RequestCursor, emptySpan } from './request-cursor.ts'
import type { Signal } from './signal.ts'
import { WireError } from './wire.ts'

export * from './log-cursor.ts'
export * from './point-cursor.ts'
export * from './request-cursor.ts'

/** Reads spans as far as dpulse needs them: they pass through. */
export class SpanCursor extends RequestCursor {
  readonly record = emptySpan()
  next(): boolean {
    return this.nextItem(this.record)
  }
}

/**
 * How many records a request holds: log records, data points or spans.
 * @throws WireError with the byte offset where the request is truncated or malformed, or its records are of another
 * signal: read as log records, metrics are lines without a body.
 */
export function countRecords(signal: Signal, bytes: Uint8Array): number {
  let count = 0
  const cursor =
    signal === 'logs' ? new LogCursor() : signal === 'metrics' ? new PointCursor() : new SpanCursor()
  cursor.reset(bytes)
  while (cursor.next()) count++
  if (!(cursor instanceof SpanCursor) && cursor.strangeAt >= 0) {
    throw new WireError(`a field that no record of ${signal} has`, cursor.strangeAt)
  }
  return count
}
