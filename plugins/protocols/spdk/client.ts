// JSON-RPC 2.0 of SPDK over its Unix socket (spdk.io/doc/jsonrpc.html). Answers come without a delimiter: one is whole
// where its outermost bracket closes.
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { PermanentError, RetryableError } from '../../contract/index.ts'
import { countOf, objectOf, parseExact, textOf } from '../exact-json.ts'

const mostAnswer = 32 * 1024 * 1024
const methodNotFound = -32_601

/** One connection; requests go one after the other. */
export class SpdkClient implements Disposable {
  readonly #socket: Socket
  readonly #path: string
  readonly #timeoutMs: number
  #id = 0

  private constructor(socket: Socket, path: string, timeoutMs: number) {
    this.#socket = socket
    this.#path = path
    this.#timeoutMs = timeoutMs
  }

  /** @throws RetryableError where nobody answers, PermanentError where the socket may not be opened. */
  static async open(path: string, timeoutMs: number, signal: AbortSignal): Promise<SpdkClient> {
    const socket = connect(path)
    try {
      await once(socket, 'connect', { signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) })
    } catch (cause) {
      socket.destroy()
      if (signal.aborted) throw cause
      const { code } = cause as NodeJS.ErrnoException
      if (code === 'EACCES') {
        throw new PermanentError(
          'PERMISSION_DENIED',
          `${path} may not be opened: it takes root, or the right to write to the socket`,
          { cause },
        )
      }
      throw new RetryableError('PEER_UNREACHABLE', `no SPDK program answers on ${path}`, { cause })
    }
    return new SpdkClient(socket, path, timeoutMs)
  }

  /** The result, integers exact; undefined where the program does not know the method. */
  async call(method: string, signal: AbortSignal): Promise<unknown> {
    const id = ++this.#id
    this.#socket.write(JSON.stringify({ jsonrpc: '2.0', method, id }))
    const limit = AbortSignal.any([signal, AbortSignal.timeout(this.#timeoutMs)])
    const answer = objectOf(await this.#answer(method, limit, signal))
    const error = objectOf(answer.error)
    if (error.code === methodNotFound) return undefined
    if (answer.error !== undefined)
      throw new RetryableError(
        'PEER_REFUSED',
        `${method}: ${textOf(error.message) || JSON.stringify(error.code)}`,
      )
    if (countOf(answer.id) !== BigInt(id))
      throw new RetryableError('INPUT_INVALID', `${method}: an answer to another request`)
    return answer.result
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  async #answer(method: string, limit: AbortSignal, signal: AbortSignal): Promise<unknown> {
    const parts: Buffer[] = []
    const whole = new WholeDocument()
    let size = 0
    const reader = this.#socket.iterator({ destroyOnReturn: false })
    const giveUp = () => this.#socket.destroy()
    limit.addEventListener('abort', giveUp, { once: true })
    try {
      for await (const part of reader as AsyncIterable<Buffer>) {
        parts.push(part)
        size += part.length
        if (size > mostAnswer)
          throw new RetryableError(
            'INPUT_TOO_LARGE',
            `${method}: the answer is larger than ${mostAnswer} bytes`,
          )
        if (whole.ends(part)) return parse(method, Buffer.concat(parts).toString())
      }
    } catch (cause) {
      if (cause instanceof RetryableError || signal.aborted) throw cause
      throw new RetryableError('PEER_UNREACHABLE', `${method}: the answer broke off`, { cause })
    } finally {
      limit.removeEventListener('abort', giveUp)
    }
    if (signal.aborted) throw signal.reason
    if (limit.aborted)
      throw new RetryableError('PEER_TIMEOUT', `${method}: no answer within ${this.#timeoutMs} ms`)
    throw new RetryableError('PEER_UNREACHABLE', `${method}: ${this.#path} was closed`)
  }
}

function parse(method: string, text: string): unknown {
  try {
    return parseExact(text)
  } catch (cause) {
    throw new RetryableError('INPUT_INVALID', `${method}: the answer is no JSON`, { cause })
  }
}

/** Counts brackets outside of texts. */
class WholeDocument {
  #depth = 0
  #isText = false
  #isEscaped = false

  ends(part: Buffer): boolean {
    for (const byte of part) {
      if (this.#isText) {
        if (this.#isEscaped) this.#isEscaped = false
        else if (byte === 0x5c) this.#isEscaped = true
        else if (byte === 0x22) this.#isText = false
      } else if (byte === 0x22) this.#isText = true
      else if (byte === 0x7b || byte === 0x5b) this.#depth++
      else if ((byte === 0x7d || byte === 0x5d) && --this.#depth <= 0) return true
    }
    return false
  }
}
