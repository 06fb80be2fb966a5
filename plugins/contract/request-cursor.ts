// The walk that the cursors of all three signals share: from the request over Resource and scope to the records.
// Nothing is allocated per record; fields are numbers and offsets into `bytes`.
import { Reader } from './wire.ts'
import { attributesOf } from './any-value.ts'
import type { AttributeValue } from './values.ts'

/** An extent of `bytes`; empty when the field was absent. */
export interface Span {
  start: number
  end: number
}
export const emptySpan = (): Span => ({ start: 0, end: 0 })

/** What all three signals share: the walk from the request over Resource and scope to the level of records. */
export abstract class RequestCursor {
  protected readonly reader = new Reader()
  #requestEnd = 0
  #resourceBodyEnd = 0
  #scopeBodyEnd = 0
  #containerAt = 0
  /** Grows each time another Resource comes into force; 0 before the first record. */
  resourceIndex = 0
  /** The Resource message. */
  readonly resource = emptySpan()
  /** The InstrumentationScope message. */
  readonly scope = emptySpan()
  /** The ResourceLogs (…Metrics, …Spans) body and the ScopeLogs body that hold the record. */
  readonly container = emptySpan()
  readonly scopeContainer = emptySpan()

  get bytes(): Buffer {
    return this.reader.buffer
  }

  reset(bytes: Uint8Array): this {
    this.reader.reset(bytes)
    this.#requestEnd = bytes.length
    this.#resourceBodyEnd = 0
    this.#scopeBodyEnd = 0
    this.#containerAt = 0
    this.resourceIndex = 0
    return this
  }

  /** Moves to the next length-delimited field 2 of a scope container (LogRecord, Metric, Span); its bounds in `into`. */
  protected nextItem(into: Span): boolean {
    const { reader } = this
    for (;;) {
      if (reader.position < this.#scopeBodyEnd) {
        reader.end = this.#scopeBodyEnd
        const key = reader.key()
        if (key !== 0x12) {
          reader.skip(key)
          continue
        }
        const size = reader.length()
        into.start = reader.position
        into.end = reader.position + size
        reader.position = into.end
        return true
      }
      if (!this.#nextScope()) return false
    }
  }

  #nextScope(): boolean {
    const { reader } = this
    for (;;) {
      if (reader.position < this.#resourceBodyEnd) {
        reader.end = this.#resourceBodyEnd
        const key = reader.key()
        if (key !== 0x12) {
          reader.skip(key)
          continue
        }
        const size = reader.length()
        const start = reader.position
        this.#scopeBodyEnd = start + size
        this.scopeContainer.start = start
        this.scopeContainer.end = this.#scopeBodyEnd
        this.#findHead(start, this.#scopeBodyEnd, this.scope)
        reader.position = start
        return true
      }
      if (!this.#nextResource()) return false
    }
  }

  #nextResource(): boolean {
    const { reader } = this
    reader.position = this.#containerAt
    reader.end = this.#requestEnd
    while (!reader.done) {
      const key = reader.key()
      if (key !== 0x0a) {
        reader.skip(key)
        continue
      }
      const size = reader.length()
      const start = reader.position
      this.#resourceBodyEnd = start + size
      this.#containerAt = this.#resourceBodyEnd
      this.container.start = start
      this.container.end = this.#resourceBodyEnd
      this.resourceIndex++
      this.#findHead(start, this.#resourceBodyEnd, this.resource)
      reader.position = start
      return true
    }
    return false
  }

  /**
   * Resource or scope may stand behind the records, so a container is looked through for it; where it stands in front, as
   * nearly everyone writes it, that is over at once, and the records are read in one go.
   */
  #findHead(start: number, end: number, head: Span): void {
    const { reader } = this
    head.start = head.end = 0
    reader.position = start
    reader.end = end
    while (reader.position < end) {
      const key = reader.key()
      if (key !== 0x0a) {
        reader.skip(key)
        continue
      }
      const size = reader.length()
      head.start = reader.position
      head.end = reader.position + size
      return
    }
  }

  resourceAttributes(): Record<string, AttributeValue> {
    return attributesOf(this.bytes, this.resource.start, this.resource.end, 1)
  }

  scopeName(): string {
    const reader = new Reader(this.bytes)
    reader.position = this.scope.start
    reader.end = this.scope.end
    while (!reader.done) {
      const key = reader.key()
      if (key === 0x0a) return reader.string()
      reader.skip(key)
    }
    return ''
  }

  text(of: Span): string {
    return of.end > of.start ? this.bytes.toString('utf8', of.start, of.end) : ''
  }
}
