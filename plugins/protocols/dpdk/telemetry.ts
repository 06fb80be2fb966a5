// Client of DPDK's telemetry, version 2 (doc.dpdk.org, "Telemetry Library"): a socket of the Unix domain that keeps
// messages apart (SOCK_SEQPACKET), which Node does not have. A command such as `/ethdev/stats,0` is one message, its
// answer `{"/ethdev/stats": …}` another. Nothing here blocks: waiting happens on a thread of libc's.
import { PermanentError, RetryableError } from '../../contract/index.ts'
import { countOf, objectOf, parseExact, textOf } from '../exact-json.ts'
import { loadLibc, longestPath } from '../native/index.ts'
import {
  AF_UNIX,
  EAGAIN,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLIN,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
} from '../native/libc.ts'
import type { Libc } from '../native/libc.ts'
import { unixAddress } from '../native/sockaddr.ts'

const mostAnswer = 1024 * 1024
const ENOENT = 2
const EACCES = 13

export interface TelemetryInfo {
  readonly version: string
  readonly pid: number
}

export class TelemetryClient implements Disposable {
  readonly #libc: Libc
  readonly #fd: number
  readonly #timeoutMs: number
  readonly #answer = Buffer.alloc(mostAnswer)
  readonly #waiting = new Uint8Array(8)
  #isClosed = false
  #info: TelemetryInfo = { version: '', pid: 0 }

  private constructor(libc: Libc, fd: number, timeoutMs: number) {
    this.#libc = libc
    this.#fd = fd
    this.#timeoutMs = timeoutMs
    // struct pollfd { int fd; short events; short revents; }
    const view = new DataView(this.#waiting.buffer)
    view.setInt32(0, fd, true)
    view.setInt16(4, POLLIN, true)
  }

  /** @throws RetryableError where nobody answers, PermanentError where the socket may not be opened. */
  static async open(path: string, timeoutMs: number): Promise<TelemetryClient> {
    const libc = await loadLibc()
    const address = unixAddress(path)
    if (address === undefined)
      throw new PermanentError('CONFIG_INVALID', `${path} is longer than ${longestPath} bytes`)
    const fd = libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if (fd < 0) throw new RetryableError('UNEXPECTED', `no socket could be made (errno ${libc.errno()})`)
    const client = new TelemetryClient(libc, fd, timeoutMs)
    try {
      if (libc.connect(fd, address, address.length) < 0) throw refusal(path, libc.errno())
      const greeting = objectOf(await client.#receive(path))
      client.#info = { version: textOf(greeting.version), pid: Number(countOf(greeting.pid) ?? 0n) }
      return client
    } catch (error) {
      client[Symbol.dispose]()
      throw error
    }
  }

  get info(): TelemetryInfo {
    return this.#info
  }

  /** What a command answers; undefined where the program does not know it, or has nothing to say. */
  async ask(command: string): Promise<unknown> {
    const bytes = Buffer.from(command)
    if (this.#libc.send(this.#fd, bytes, bytes.length, MSG_NOSIGNAL) < 0)
      throw new RetryableError('PEER_UNREACHABLE', `${command}: the program has gone`)
    const answer = objectOf(await this.#receive(command))
    return answer[command.split(',')[0] ?? ''] ?? undefined
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#libc.close(this.#fd)
  }

  async #receive(what: string): Promise<unknown> {
    const ready = await this.#libc.pollLater(this.#waiting, 1, this.#timeoutMs)
    if (ready === 0)
      throw new RetryableError('PEER_TIMEOUT', `${what}: no answer within ${this.#timeoutMs} ms`)
    const size = this.#libc.recv(this.#fd, this.#answer, mostAnswer, MSG_DONTWAIT)
    if (size <= 0) {
      const reason = size < 0 && this.#libc.errno() !== EAGAIN ? ` (errno ${this.#libc.errno()})` : ''
      throw new RetryableError('PEER_UNREACHABLE', `${what}: the program closed its socket${reason}`)
    }
    try {
      return parseExact(this.#answer.toString('utf8', 0, size))
    } catch (cause) {
      // An answer that did not fit into the program's own limit is cut there.
      throw new RetryableError('INPUT_INVALID', `${what}: the answer is no JSON, or was cut`, { cause })
    }
  }
}

function refusal(path: string, errno: number): Error {
  if (errno === EACCES) {
    return new PermanentError(
      'PERMISSION_DENIED',
      `${path} may not be opened: it takes root, or the user of the program`,
    )
  }
  if (errno === ENOENT) return new RetryableError('PEER_UNREACHABLE', `there is no ${path}`)
  return new RetryableError('PEER_UNREACHABLE', `no DPDK program answers on ${path} (errno ${errno})`)
}
