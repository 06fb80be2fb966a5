// Records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg), one for each read:
//
//   PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT\n[ KEY=VALUE\n…]
//
// PRIORITY is facility * 8 + level; bytes beyond printable ASCII stand as \xNN.
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs'

export interface KernelRecord {
  readonly facility: number
  /** 0 emergency … 7 debug. */
  readonly level: number
  /** Undefined where the record is text of another form. */
  readonly sequence: number | undefined
  /** Since the boot. */
  readonly microseconds: number | undefined
  readonly text: string
  /** Dictionary: SUBSYSTEM, DEVICE. */
  readonly fields: Readonly<Record<string, string>>
}

const prefix = /^(\d{1,5}),(\d{1,15}),(\d{1,15}),[^;]*;/
const mostFields = 32

/** A record, or a bare line of text as older kernels and captures have it (`<6>[ 1.234567] text`). */
export function parseKernelRecord(raw: string): KernelRecord {
  const [whole, priority, sequence, microseconds] = prefix.exec(raw) ?? []
  if (whole === undefined) return parseText(raw)
  const [text = '', ...lines] = raw.slice(whole.length).replace(/\n$/, '').split('\n')
  const fields: Record<string, string> = {}
  for (const line of lines.slice(0, mostFields)) {
    const at = line.indexOf('=')
    if (line.startsWith(' ') && at > 1) fields[line.slice(1, at)] = unescape(line.slice(at + 1))
  }
  return {
    facility: Number(priority) >> 3,
    level: Number(priority) & 7,
    sequence: Number(sequence),
    microseconds: Number(microseconds),
    text: unescape(text),
    fields,
  }
}

const bare = /^(?:<(\d{1,3})>)?(?:\[\s*(\d{1,9})\.(\d{6})\] ?)?/

function parseText(raw: string): KernelRecord {
  const [whole = '', priority, seconds, fraction] = bare.exec(raw) ?? []
  return {
    facility: Number(priority ?? 0) >> 3,
    level: priority === undefined ? 6 : Number(priority) & 7,
    sequence: undefined,
    microseconds: seconds === undefined ? undefined : Number(seconds) * 1e6 + Number(fraction),
    text: raw.slice(whole.length).trimEnd(),
    fields: {},
  }
}

function unescape(text: string): string {
  if (!text.includes('\\x')) return text
  const bytes = text.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

/** Longer than any record of the kernel (CONSOLE_EXT_LOG_MAX is 8192). */
const recordBytes = 16 * 1024

/** Reads /dev/kmsg without ever waiting. */
export class KernelRing implements Disposable {
  readonly #fd: number
  readonly #buffer = Buffer.allocUnsafe(recordBytes)
  #rest = ''

  /** @throws what the system says. */
  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  }

  /** At most so many records; none when there is nothing new. */
  read(most: number): string[] {
    const records: string[] = []
    while (records.length < most) {
      const got = this.#readOnce()
      if (got === 0) break
      if (got < 0) continue // overwritten while we read: the next one is given, its number shows the gap
      this.#rest += this.#buffer.toString('latin1', 0, got)
      // The device gives one record at a time; a file in its place gives many, and perhaps not a whole one at the end.
      const parts = this.#rest.split(/\n(?! )/)
      this.#rest = (parts.pop() ?? '').slice(-recordBytes)
      records.push(...parts)
    }
    return records
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }

  #readOnce(): number {
    try {
      return readSync(this.#fd, this.#buffer, 0, recordBytes, null)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EAGAIN') return 0
      if (code === 'EPIPE') return -1
      throw error
    }
  }
}

/** Why the ring cannot be read, naming the right that is missing; undefined where it can. */
export function kernelRingProblem(path: string): string | undefined {
  try {
    using ring = new KernelRing(path)
    ring.read(1)
    return undefined
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return `${path} does not exist on this machine`
    if (code === 'EACCES' || code === 'EPERM')
      return `${path} may not be read: it takes CAP_SYSLOG, or kernel.dmesg_restrict=0 and read permission for the file`
    return `${path} cannot be read: ${message}`
  }
}

/** The id of this boot; empty where the kernel does not say. */
export function bootId(proc = '/proc'): string {
  try {
    return readFileSync(`${proc}/sys/kernel/random/boot_id`, 'latin1').trim()
  } catch {
    return ''
  }
}

/** Microseconds since the boot. */
export function uptimeMicroseconds(proc = '/proc'): number | undefined {
  try {
    const seconds = Number(readFileSync(`${proc}/uptime`, 'latin1').split(' ')[0])
    return Number.isFinite(seconds) ? seconds * 1e6 : undefined
  } catch {
    return undefined
  }
}
