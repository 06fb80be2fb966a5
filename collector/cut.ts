// Cuts Records that are too large for a batch along the boundaries of their records.
import { WireError } from '../plugins/contract/index.ts'
import type { Records } from '../plugins/contract/index.ts'
import { Rewriter, cursorFor, replaced } from '../plugins/contract/rewrite.ts'
import type { RecordCursor } from '../plugins/contract/rewrite.ts'

export interface Parts {
  parts: Records[]
  /** Records that are too large even alone, or of which the bytes make no sense. */
  tooLarge: number
}

/** What Resource, scope and nesting need beside the records of a part is written again into each part. */
export function splitRecords(records: Records, mostBytes: number): Parts {
  const parts: Records[] = []
  let tooLarge = 0
  let left = records.count
  const cursor = cursorFor(records.signal)
  const rewriter = new Rewriter()
  const close = () => {
    if (rewriter.count === 0) return
    const bytes = rewriter.finish()
    // One record whose surroundings make it too large.
    if (bytes.length > mostBytes) tooLarge += rewriter.count
    else parts.push(replaced(records, bytes, rewriter.count))
    rewriter.begin(records.bytes)
  }
  try {
    cursor.reset(records.bytes)
    rewriter.begin(records.bytes)
    while (cursor.next()) {
      left--
      const span = 'point' in cursor ? cursor.point : cursor.record
      const size = span.end - span.start
      if (rewriter.count > 0 && rewriter.size + size + headsOf(cursor) > mostBytes) close()
      if (size + 64 > mostBytes) tooLarge++
      else rewriter.keep(cursor)
    }
    close()
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    close()
  }
  // `left` is what a malformed rest held, or what the source counted wrongly.
  return { parts, tooLarge: tooLarge + Math.max(0, left) }
}

/** At most what must be written before the record: Resource, scope and metric, with some room for unknown fields. */
function headsOf(cursor: RecordCursor): number {
  let heads = cursor.resource.end - cursor.resource.start + cursor.scope.end - cursor.scope.start + 4096
  if ('metric' in cursor) {
    heads += cursor.metric.end - cursor.metric.start - (cursor.data.end - cursor.data.start)
  }
  return heads
}
