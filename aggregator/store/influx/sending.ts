// Sends lines to a bucket until InfluxDB has all that it can hold. What it refuses is narrowed down to single lines,
// which are set aside with their reason: one bad point costs no other.
import type { Connection } from './connection.ts'
import type { Lines } from './line.ts'

export interface Rejected {
  readonly owner: number
  /** Its number among the lines. */
  readonly index: number
  readonly line: string
  readonly reason: string
}

/** Of a rejected line, as much as is kept. */
const lineLimit = 4096

/**
 * Sends all lines; those that InfluxDB refused. A retry repeats lines that are stored already, which changes nothing:
 * series and time are the same. @throws RetryableError where InfluxDB is away or not ready.
 */
export async function sendLines(connection: Connection, bucket: string, lines: Lines): Promise<Rejected[]> {
  const rejected: Rejected[] = []
  const reject = (some: readonly number[], reason: string): void => {
    for (const index of some) {
      const line = lines.line(index).toString('utf8').trimEnd()
      rejected.push({
        owner: lines.owner(index),
        index,
        line: line.slice(0, lineLimit).toWellFormed(),
        reason,
      })
    }
  }

  async function send(some: readonly number[] | undefined): Promise<void> {
    const size = some?.length ?? lines.count
    if (size === 0) return
    const body = some ? Buffer.concat(some.map((index) => lines.line(index))) : wholeOf(lines)
    const outcome = await connection.write(bucket, body)
    if (outcome.state === 'taken') return
    const all = some ?? Array.from({ length: size }, (_, index) => index)
    const reason = outcome.state === 'too_large' ? 'larger than InfluxDB takes' : reasonOf(outcome.reason)
    // All of them were refused, for one reason as far as it tells.
    if (size === 1 || (outcome.state === 'refused' && outcome.dropped === size)) return reject(all, reason)
    const [first, second] = parted(lines, all, reason)
    await send(first)
    await send(second)
  }

  await send(undefined)
  return rejected
}

const wholeOf = (lines: Lines): Uint8Array => lines.out.buffer.subarray(0, lines.bytes)

/** InfluxDB repeats where it found what; what it says before is the same for all lines that fail alike. */
function reasonOf(message: string): string {
  return message
    .replace(/^failure writing points to database: /, '')
    .replace(/ dropped=\d+.*$/s, '')
    .slice(0, 500)
}

/**
 * Two halves. Where the reason names a measurement, its lines are one part and the others the second, so that a type
 * conflict of one metric among thousands of lines is found in a few steps.
 */
function parted(lines: Lines, some: readonly number[], reason: string): [number[], number[]] {
  const measurement = /on measurement "((?:[^"\\]|\\.)*)"/.exec(reason)?.[1]
  if (measurement !== undefined) {
    const name = Buffer.from(measurement.replaceAll(/[ ,]/g, String.raw`\$&`))
    const accused: number[] = []
    const others: number[] = []
    for (const index of some) {
      const line = lines.line(index)
      const next = line[name.length]
      const isOf = line.subarray(0, name.length).equals(name) && (next === 0x2c || next === 0x20)
      if (isOf) accused.push(index)
      else others.push(index)
    }
    if (accused.length > 0 && others.length > 0) return [accused, others]
  }
  const middle = Math.ceil(some.length / 2)
  return [some.slice(0, middle), some.slice(middle)]
}
