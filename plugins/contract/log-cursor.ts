// Reads log records in place (opentelemetry-proto logs/v1).
import { Reader, bytesType } from './wire.ts'
import { attributesOf, readAnyValue } from './any-value.ts'
import { RequestCursor, emptySpan } from './request-cursor.ts'
import type { Span } from './request-cursor.ts'
import type { AttributeValue } from './values.ts'

/** Reads log records. Times are two halves of the fixed64 (`low`, `high`); 0 is absent. */
export class LogCursor extends RequestCursor {
  /** The LogRecord message. */
  readonly record = emptySpan()
  timeLow = 0
  timeHigh = 0
  observedLow = 0
  observedHigh = 0
  severityNumber = 0
  flags = 0
  readonly severityText = emptySpan()
  /** The body's AnyValue message. */
  readonly body = emptySpan()
  readonly eventName = emptySpan()
  readonly traceId = emptySpan()
  readonly spanId = emptySpan()
  /** From the first attribute's key to the last attribute's end; other fields may stand between them. */
  readonly attributes = emptySpan()
  attributeCount = 0
  /** Where a field of another type than a LogRecord's stands, seen since `reset`: these are records of another signal. */
  strangeAt = -1

  override reset(bytes: Uint8Array): this {
    this.strangeAt = -1
    return super.reset(bytes)
  }

  next(): boolean {
    if (!this.nextItem(this.record)) return false
    this.timeLow = this.timeHigh = this.observedLow = this.observedHigh = 0
    this.severityNumber = this.flags = this.attributeCount = 0
    this.severityText.start = this.severityText.end = this.body.start = this.body.end = 0
    this.eventName.start = this.eventName.end = this.attributes.start = this.attributes.end = 0
    this.traceId.start = this.traceId.end = this.spanId.start = this.spanId.end = 0
    const { reader } = this
    const resume = this.record.end
    reader.position = this.record.start
    reader.end = resume
    while (reader.position < resume) this.#field(reader)
    return true
  }

  #field(reader: Reader): void {
    const began = reader.position
    const key = reader.key()
    switch (key) {
      case 0x09:
        reader.fixed64()
        this.timeLow = reader.low
        this.timeHigh = reader.high
        return
      case 0x59:
        reader.fixed64()
        this.observedLow = reader.low
        this.observedHigh = reader.high
        return
      case 0x10:
        this.severityNumber = reader.varint()
        return
      case 0x1a:
        return this.#take(reader, this.severityText)
      case 0x2a:
        return this.#take(reader, this.body)
      case 0x32:
        if (this.attributeCount++ === 0) this.attributes.start = began
        reader.skip(bytesType)
        this.attributes.end = reader.position
        return
      case 0x45:
        this.flags = reader.fixed32()
        return
      case 0x4a:
        return this.#take(reader, this.traceId)
      case 0x52:
        return this.#take(reader, this.spanId)
      case 0x62:
        return this.#take(reader, this.eventName)
      default:
        // Only dropped_attributes_count and what is reserved or unknown comes here from a log record.
        if (key < 13 * 8 && key !== 0x38 && key >>> 3 !== 4) this.strangeAt = began
        reader.skip(key)
    }
  }

  #take(reader: Reader, into: Span): void {
    const size = reader.length()
    into.start = reader.position
    into.end = reader.position + size
    reader.position = into.end
  }

  recordAttributes(): Record<string, AttributeValue> {
    return attributesOf(this.bytes, this.attributes.start, this.attributes.end, 6)
  }

  bodyValue(): AttributeValue | undefined {
    const reader = new Reader(this.bytes)
    reader.position = this.body.start
    reader.end = this.body.end
    return readAnyValue(reader)
  }
}
