// The fields of a HistogramDataPoint (opentelemetry-proto metrics/v1) behind its attributes and times.
import type { Writer } from '../../contract/wire.ts'

/** 4 count, 5 sum, 6 bucket_counts (one more than bounds), 7 explicit_bounds. A histogram may lack its sum. */
export function writeHistogram(
  out: Writer,
  count: number,
  sum: number | undefined,
  buckets: readonly number[],
  bounds: readonly number[],
): void {
  out.byte(0x21)
  writeFixed64(out, count)
  if (sum !== undefined) {
    out.byte(0x29)
    out.double(sum)
  }
  out.byte(0x32)
  out.varint(buckets.length * 8)
  for (const bucket of buckets) writeFixed64(out, bucket)
  if (bounds.length === 0) return
  out.byte(0x3a)
  out.varint(bounds.length * 8)
  for (const bound of bounds) out.double(bound)
}

const writeFixed64 = (out: Writer, value: number): void =>
  out.fixed64(value % 4_294_967_296, Math.floor(value / 4_294_967_296))

/** The fields of a SummaryDataPoint behind its attributes and times: 4 count, 5 sum, 6 quantile_values. */
export function writeSummary(
  out: Writer,
  count: number,
  sum: number,
  quantiles: readonly number[],
  values: readonly number[],
): void {
  out.byte(0x21)
  writeFixed64(out, count)
  out.byte(0x29)
  out.double(sum)
  for (const [index, quantile] of quantiles.entries()) {
    const value = values[index] ?? NaN
    // A quantile of nothing.
    if (Number.isNaN(value)) continue
    out.byte(0x32)
    const mark = out.openSmall()
    out.byte(0x09)
    out.double(quantile)
    out.byte(0x11)
    out.double(value)
    out.closeSmall(mark)
  }
}
