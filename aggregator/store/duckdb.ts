// The embedded store: DuckDB in a thread of its own, so that neither appending nor searching holds the event loop of
// the aggregator. This is the side that the aggregator sees; it packs, asks and waits.
import { Worker } from 'node:worker_threads'
import { streamKey } from '../../plugins/contract/batch.ts'
import type { Log } from '../../plugins/contract/define.ts'
import { PermanentError, RetryableError } from '../../plugins/contract/errors.ts'
import { QueryRefused } from '../query.ts'
import type { Queries } from '../query.ts'
import type {
  Calls,
  CallName,
  ErrorMessage,
  FromWorker,
  MaintainRequest,
  ToWorker,
  WriteRequest,
} from './messages.ts'
import { settingsOf } from './settings.ts'
import type { DuckStoreSettings } from './settings.ts'
import type { Store, StoreBatch, StoreReceipt, StreamCount, WriterState } from './store.ts'

export interface DuckStoreOptions extends Partial<DuckStoreSettings> {
  log: Log
  /** The store's thread died, and nothing will be answered any more. */
  onEnd?: (error: Error) => void
}

export interface DuckStore extends Store {
  /** Seals and removes what is due now; `all` seals every row there is. Failures are in `status`. */
  maintain(request?: MaintainRequest): Promise<void>
}

interface Waiting {
  resolve: (answer: never) => void
  reject: (error: unknown) => void
}

/**
 * Opens the store in `directory`, or makes it.
 * @throws PermanentError where another process has it open, or it is damaged or of a newer format;
 * RetryableError DISK_FULL.
 */
export async function openDuckStore(directory: string, options: DuckStoreOptions): Promise<DuckStore> {
  const { log, onEnd, ...given } = options
  // Built, both files are JavaScript.
  const file = import.meta.url.endsWith('.ts') ? './duckdb-worker.ts' : './duckdb-worker.js'
  const worker = new Worker(new URL(file, import.meta.url), {
    workerData: { directory, settings: settingsOf(given) },
    name: 'store',
  })
  const store = new WorkerStore(worker, log, onEnd)
  await store.opened
  return store
}

class WorkerStore implements DuckStore {
  readonly #worker: Worker
  readonly #waiting = new Map<number, Waiting>()
  #next = 1
  #isOpen = false
  #ended: Error | undefined
  #closed: Promise<void> | undefined
  readonly opened: Promise<void>
  readonly queries: Queries

  constructor(worker: Worker, log: Log, onEnd?: (error: Error) => void) {
    this.#worker = worker
    const opening = Promise.withResolvers<void>()
    this.opened = opening.promise
    worker.on('message', (message: FromWorker) => {
      if ('log' in message) log[message.log.level](message.log.message, message.log.fields)
      else if ('opened' in message) {
        this.#isOpen = true
        opening.resolve()
      } else if ('openFailed' in message) {
        opening.reject(errorOf(message.openFailed))
        void worker.terminate()
      } else this.#settle(message)
    })
    const end = (error: Error): void => {
      const isNews = this.#ended === undefined && this.#closed === undefined && this.#isOpen
      this.#end(error, opening.reject)
      if (isNews) onEnd?.(error)
    }
    worker.on('error', end)
    worker.on('exit', () => end(new Error('the thread of the store has ended')))
    this.queries = {
      logs: (query, signal) => this.#call('logs', query, signal),
      metrics: (device, signal) => this.#call('metrics', device, signal),
      query: (query, signal) => this.#call('query', query, signal),
      latest: (device, signal) => this.#call('latest', device, signal),
    }
  }

  async load(): Promise<{ position: Record<string, number>; streams: Map<string, Uint8Array> }> {
    const { position, streams } = await this.#call('load', undefined)
    return { position, streams: new Map(streams) }
  }

  write(batches: readonly StoreBatch[], state: WriterState): Promise<readonly StoreReceipt[]> {
    const request = pack(batches, state)
    return this.#call('write', request, undefined, [request.values])
  }

  forget(streams: readonly string[]): Promise<string[]> {
    return this.#call('forget', streams)
  }

  count(device?: string): Promise<StreamCount[]> {
    return this.#call('count', device)
  }

  status(): ReturnType<Store['status']> {
    return this.#call('status', undefined)
  }

  async maintain(request: MaintainRequest = { seal: 'due' }): Promise<void> {
    await this.#call('maintain', request)
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    if (!this.#ended) await this.#call('close', undefined).catch(() => undefined)
    await this.#worker.terminate()
  }

  async #call<Name extends CallName>(
    call: Name,
    ask: Calls[Name]['ask'],
    signal?: AbortSignal,
    transfer: ArrayBuffer[] = [],
  ): Promise<Calls[Name]['answer']> {
    signal?.throwIfAborted()
    if (this.#ended) throw new RetryableError('UNEXPECTED', 'the store has ended', { cause: this.#ended })
    const id = this.#next++
    const { promise, resolve, reject } = Promise.withResolvers<Calls[Name]['answer']>()
    this.#waiting.set(id, { resolve, reject })
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    const abort = (): void => this.#worker.postMessage({ abort: id } satisfies ToWorker)
    signal?.addEventListener('abort', abort, { once: true })
    this.#worker.postMessage({ id, call, ask } satisfies ToWorker, transfer)
    try {
      return await promise
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  #settle(message: Extract<FromWorker, { id: number }>): void {
    const waiting = this.#waiting.get(message.id)
    this.#waiting.delete(message.id)
    if (!waiting) return
    if ('error' in message) waiting.reject(errorOf(message.error))
    else waiting.resolve(message.answer as never)
  }

  #end(cause: Error, opening: (error: unknown) => void): void {
    this.#ended ??= cause
    const error = new RetryableError('UNEXPECTED', 'the store has ended', { cause: this.#ended })
    opening(error)
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

function pack(batches: readonly StoreBatch[], { position, streams }: WriterState): WriteRequest {
  const values = new Uint8Array(batches.reduce((sum, { value }) => sum + value.length, 0))
  let offset = 0
  const heads = batches.map(({ header, signal, value, arrivedUnixNano, ...part }) => {
    values.set(value, offset)
    offset += value.length
    const { device, seq, count } = header
    return {
      stream: streamKey(header),
      device,
      class: part.class ?? header.class,
      seq,
      first: part.first ?? 0,
      count,
      signal,
      arrivedUnixNano,
      length: value.length,
    }
  })
  return { batches: heads, values: values.buffer, position, streams: [...streams] }
}

function errorOf(message: ErrorMessage): Error {
  const options = message.cause === undefined ? {} : { cause: new Error(message.cause) }
  switch (message.kind) {
    case 'refused':
      return new QueryRefused(message.parameter, message.message, options)
    case 'retryable':
      return new RetryableError(message.code, message.message, options)
    case 'permanent':
      return new PermanentError(message.code, message.message, options)
    case 'aborted':
      return new DOMException(message.message, 'AbortError')
    default:
      return message satisfies never
  }
}
