// Lines of a container's log stream. Without a terminal each piece has a header of eight bytes:
//
//   u8 stream (1 stdout, 2 stderr) | 3 bytes 0 | u32 length, big-endian | bytes
//
// and with `timestamps=true` each line begins with an RFC 3339 time and a blank. Docker gives nanoseconds, Podman
// whole seconds.

export type Iostream = 'stdout' | 'stderr'
/** A line without its time; valid until the call returns. */
export type TakeContainerLine = (
  stream: Iostream,
  seconds: number,
  nanos: number,
  bytes: Buffer,
  start: number,
  end: number,
  wasCut: boolean,
) => void

const headerBytes = 8
const newline = 0x0a
const blank = 0x20
/** Of the time in front of a line. */
const timeLength = 40

/** One for each container; holds at most one line of each stream. */
export class ContainerLines {
  readonly #longest: number
  readonly #take: TakeContainerLine
  readonly #isTerminal: boolean
  readonly #held: Record<Iostream, Buffer[]> = { stdout: [], stderr: [] }
  readonly #heldBytes = { stdout: 0, stderr: 0 }
  #header = Buffer.alloc(0)
  #stream: Iostream = 'stdout'
  #left = 0

  constructor(options: { longest: number; isTerminal: boolean; take: TakeContainerLine }) {
    this.#longest = options.longest
    this.#isTerminal = options.isTerminal
    this.#take = options.take
  }

  push(chunk: Buffer): void {
    if (this.#isTerminal) return this.#bytes('stdout', chunk)
    let at = 0
    while (at < chunk.length) {
      if (this.#left === 0) {
        const missing = headerBytes - this.#header.length
        this.#header = Buffer.concat([this.#header, chunk.subarray(at, at + missing)])
        at += Math.min(missing, chunk.length - at)
        if (this.#header.length < headerBytes) return
        this.#stream = this.#header[0] === 2 ? 'stderr' : 'stdout'
        this.#left = this.#header.readUInt32BE(4)
        this.#header = Buffer.alloc(0)
        continue
      }
      const end = Math.min(chunk.length, at + this.#left)
      this.#left -= end - at
      this.#bytes(this.#stream, chunk.subarray(at, end))
      at = end
    }
  }

  /** The stream ended: what has no newline is a line too. */
  end(): void {
    for (const stream of ['stdout', 'stderr'] as const) if (this.#heldBytes[stream] > 0) this.#give(stream)
  }

  #bytes(stream: Iostream, bytes: Buffer): void {
    let from = 0
    for (;;) {
      const at = bytes.indexOf(newline, from)
      this.#hold(stream, bytes.subarray(from, at < 0 ? bytes.length : at))
      if (at < 0) return
      this.#give(stream)
      from = at + 1
    }
  }

  #hold(stream: Iostream, bytes: Buffer): void {
    const room = this.#longest + timeLength + 1 - this.#heldBytes[stream]
    if (room <= 0 || bytes.length === 0) return
    const kept = bytes.subarray(0, room)
    this.#held[stream].push(kept)
    this.#heldBytes[stream] += kept.length
  }

  #give(stream: Iostream): void {
    const parts = this.#held[stream]
    this.#held[stream] = []
    this.#heldBytes[stream] = 0
    const line = parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts)
    const at = line.indexOf(blank)
    const time = parseTime(line.toString('latin1', 0, Math.min(at < 0 ? line.length : at, timeLength)))
    const start = time === undefined ? 0 : at < 0 ? line.length : at + 1
    const hasReturn = line.length > start && line[line.length - 1] === 0x0d
    const end = hasReturn ? line.length - 1 : line.length
    const last = Math.min(end, start + this.#longest)
    this.#take(stream, time?.seconds ?? -1, time?.nanos ?? 0, line, start, last, last < end)
  }
}

const rfc3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:Z|[+-]\d\d:\d\d)$/

/** RFC 3339 with up to nine decimals. */
export function parseTime(text: string): { seconds: number; nanos: number } | undefined {
  const [whole, fraction = ''] = rfc3339.exec(text) ?? []
  if (whole === undefined) return undefined
  const ms = Date.parse(fraction === '' ? text : text.replace(`.${fraction}`, ''))
  return Number.isFinite(ms) && ms > 0
    ? { seconds: ms / 1000, nanos: Number(fraction.padEnd(9, '0')) }
    : undefined
}
