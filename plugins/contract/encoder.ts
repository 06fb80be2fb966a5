// The encoder with which sources write log records straight into OTLP bytes (opentelemetry-proto logs/v1), and
// what it shares with that of data points. No object is built per record.
import { Writer } from './wire.ts'
import { batchLimits } from './batch.ts'
import { currentResource } from './living-resource.ts'
import type { Records } from './batch.ts'
import type { Class } from './signal.ts'
import { encodeScope, writeAnyValue, writeKeyValue } from './values.ts'
import type { AttributeValue, EncodedKey, Scope } from './values.ts'

/** Shared by both encoders: one request with one Resource and one scope, and the times of what is in it. */
export class RequestEncoder {
  readonly out: Writer
  readonly #scope: Uint8Array
  #resourceMark = 0
  #scopeMark = 0
  #fromSeconds = Infinity
  #fromNanos = 0
  #toSeconds = -Infinity
  #toNanos = 0
  count = 0

  constructor(scope: Scope, capacity = 64 * 1024) {
    this.out = new Writer(capacity)
    this.#scope = encodeScope(scope)
  }

  /** True when the records so far fill a batch. */
  get full(): boolean {
    return this.count >= batchLimits.records || this.out.position >= batchLimits.bytes
  }

  get size(): number {
    return this.out.position
  }

  begin(resource: Uint8Array): void {
    const { out } = this
    out.reset()
    this.count = 0
    this.#fromSeconds = Infinity
    this.#toSeconds = -Infinity
    out.byte(0x0a)
    this.#resourceMark = out.open()
    out.byte(0x0a)
    out.bytes(currentResource(resource))
    out.byte(0x12)
    this.#scopeMark = out.open()
    out.byte(0x0a)
    out.bytes(this.#scope)
  }

  protected seen(seconds: number, nanos: number): void {
    if (seconds < this.#fromSeconds || (seconds === this.#fromSeconds && nanos < this.#fromNanos)) {
      this.#fromSeconds = seconds
      this.#fromNanos = nanos
    }
    if (seconds > this.#toSeconds || (seconds === this.#toSeconds && nanos > this.#toNanos)) {
      this.#toSeconds = seconds
      this.#toNanos = nanos
    }
  }

  protected finishRequest(): { count: number; from: bigint; to: bigint; bytes: Buffer } {
    this.out.close(this.#scopeMark)
    this.out.close(this.#resourceMark)
    const some = this.count > 0
    const from = some ? BigInt(this.#fromSeconds) * 1_000_000_000n + BigInt(this.#fromNanos) : 0n
    const to = some ? BigInt(this.#toSeconds) * 1_000_000_000n + BigInt(this.#toNanos) : 0n
    return { count: this.count, from, to, bytes: this.out.take() }
  }
}

/**
 * Log records of one device and class. Call `begin`, then for each record `record`, its fields, `end`; then
 * `finish`. Times are Unix seconds and nanoseconds, so that no BigInt is built.
 */
export class LogsEncoder extends RequestEncoder {
  #mark = 0

  record(
    seconds: number,
    nanos: number,
    observedSeconds: number,
    observedNanos: number,
    severity: number,
  ): void {
    const { out } = this
    out.byte(0x12)
    this.#mark = out.openSmall()
    out.byte(0x09)
    out.fixed64Time(seconds, nanos)
    out.byte(0x59)
    out.fixed64Time(observedSeconds, observedNanos)
    if (severity > 0) {
      out.byte(0x10)
      out.varint(severity)
    }
    this.seen(seconds, nanos)
  }

  severityText(text: string): void {
    this.out.byte(0x1a)
    this.out.string(text)
  }

  /** A field that is already encoded with its tag, such as a severity text made once. */
  field(encoded: Uint8Array): void {
    this.out.raw(encoded)
  }

  body(value: AttributeValue): void {
    this.out.byte(0x2a)
    const mark = this.out.openSmall()
    writeAnyValue(this.out, value)
    this.out.closeSmall(mark)
  }

  /** A body that is valid UTF-8 in `source`. */
  bodyBytes(source: Uint8Array, start: number, end: number): void {
    this.out.byte(0x2a)
    const mark = this.out.openSmall()
    this.out.byte(0x0a)
    this.out.bytes(source, start, end)
    this.out.closeSmall(mark)
  }

  attribute(key: string, value: AttributeValue): void {
    writeKeyValue(this.out, 6, key, value)
  }

  /** A string attribute whose value is valid UTF-8 in `source`. */
  attributeBytes(key: EncodedKey, source: Uint8Array, start: number, end: number): void {
    const { out } = this
    out.byte(0x32)
    const mark = out.openSmall()
    out.raw(key)
    out.byte(0x12)
    const inner = out.openSmall()
    out.byte(0x0a)
    out.bytes(source, start, end)
    out.closeSmall(inner)
    out.closeSmall(mark)
  }

  eventName(name: string): void {
    this.out.byte(0x62)
    this.out.string(name)
  }

  end(): void {
    this.out.closeSmall(this.#mark)
    this.count++
  }

  finish(device: string, name: Class): Records {
    return { device, signal: 'logs', class: name, ...this.finishRequest() }
  }
}
