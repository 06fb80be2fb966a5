// One InfluxDB: the client's transport for what is written and asked, with its answers as errors of ours.
import { HttpError, InfluxDB, setLogger } from '@influxdata/influxdb-client'
import { PermanentError, RetryableError, messageOf } from '../../../plugins/contract/errors.ts'
import type { InfluxSettings } from './address.ts'
import { CsvRows } from './csv.ts'

// It would write of every failed attempt to the console; what fails is told by the errors.
setLogger({ error: () => undefined, warn: () => undefined })

/** What became of lines that were sent: taken, or refused in whole or in part. */
export type Outcome =
  | { state: 'taken' }
  /** `dropped`: how many lines of the body, where InfluxDB tells; the others are stored. */
  | { state: 'refused'; reason: string; dropped: number | undefined }
  | { state: 'too_large' }

export class Connection {
  readonly settings: InfluxSettings
  #client: { token: string; influx: InfluxDB } | undefined

  constructor(settings: InfluxSettings) {
    this.settings = settings
  }

  /** The client, made anew when the token was changed. */
  get influx(): InfluxDB {
    const token = this.settings.token()
    if (this.#client?.token !== token) {
      const { url } = this.settings
      this.#client = { token, influx: new InfluxDB({ url, token, timeout: this.settings.writeTimeoutMs }) }
    }
    return this.#client.influx
  }

  async write(bucket: string, body: Uint8Array): Promise<Outcome> {
    const query = new URLSearchParams({ org: this.settings.org, bucket, precision: 'ns' })
    try {
      await new Promise<void>((resolve, reject) => {
        this.influx.transport.send(
          `/api/v2/write?${query}`,
          // Declared as text, but bytes are as good: it makes a Buffer of either.
          body as unknown as string,
          { method: 'POST', headers: { 'content-type': 'text/plain; charset=utf-8' } },
          { complete: resolve, error: reject },
        )
      })
      return { state: 'taken' }
    } catch (error) {
      if (error instanceof HttpError) {
        if (error.statusCode === 413) return { state: 'too_large' }
        if (error.statusCode === 400 || error.statusCode === 422) return refusal(error)
      }
      throw this.failure(error, `InfluxDB does not take a write to bucket '${bucket}'`)
    }
  }

  /** Rows of an InfluxQL query, by the names of their columns, as they come. Times are nanoseconds. */
  async *rows(query: string, signal: AbortSignal): AsyncGenerator<Row> {
    const ended = AbortSignal.any([signal, AbortSignal.timeout(this.settings.queryTimeoutMs)])
    const parameters = new URLSearchParams({
      db: this.settings.bucket,
      org: this.settings.org,
      epoch: 'ns',
      chunked: 'true',
      chunk_size: '2000',
      q: query,
    })
    const csv = new CsvRows()
    let head: string[] = []
    const named = function* (rows: Iterable<string[]>): Generator<Row> {
      for (const cells of rows) {
        if (cells[0] === 'error' && cells.length === 1) head = cells
        else if (head[0] === 'error') throw new PermanentError('PEER_REFUSED', `InfluxDB: ${cells[0]}`)
        else if (cells[0] === 'name' && cells[1] === 'tags') head = cells
        else yield new Row(head, cells)
      }
    }
    try {
      const chunks = this.influx.transport.iterate('/query', parameters.toString(), {
        method: 'POST',
        headers: { accept: 'application/csv', 'content-type': 'application/x-www-form-urlencoded' },
        signal: ended,
      })
      for await (const chunk of chunks) {
        ended.throwIfAborted()
        yield* named(csv.push(chunk))
      }
      yield* named(csv.finish())
      ended.throwIfAborted()
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (ended.aborted) {
        const seconds = this.settings.queryTimeoutMs / 1000
        throw new RetryableError('PEER_TIMEOUT', `the store needed more than ${seconds} s`, { cause: error })
      }
      throw this.failure(error, 'InfluxDB does not answer a query')
    }
  }

  /** What went wrong, as the kind of error that says whether trying again can help. */
  failure(error: unknown, what: string): Error {
    if (error instanceof RetryableError || error instanceof PermanentError) return error
    if (!(error instanceof HttpError)) {
      const said = messageOf(error)
      const code = said.includes('timed out') ? 'PEER_TIMEOUT' : 'PEER_UNREACHABLE'
      return new RetryableError(code, `${what} (${this.settings.url})`, { cause: error })
    }
    const { statusCode } = error
    const told = new Error(`status ${statusCode}: ${error.message}`)
    if (statusCode === 401 || statusCode === 403) {
      // The journal keeps all until somebody mends the token: nothing is dropped for it.
      return new RetryableError('PERMISSION_DENIED', `${what}: its token does not allow that`, {
        cause: told,
      })
    }
    if (statusCode === 429 || statusCode === 503) {
      const retryAfterMs = error.retryAfter() * 1000
      return new RetryableError('PEER_OVERLOADED', what, { cause: told, retryAfterMs })
    }
    if (statusCode === 404 || statusCode >= 500)
      return new RetryableError('PEER_REFUSED', what, { cause: told })
    return new PermanentError('PEER_REFUSED', what, { cause: told })
  }
}

/** One row of an answer. */
export class Row {
  readonly head: readonly string[]
  readonly cells: readonly string[]

  constructor(head: readonly string[], cells: readonly string[]) {
    this.head = head
    this.cells = cells
  }

  /** Text of the column; empty where it holds nothing. */
  text(column: string): string {
    return this.cells[this.head.indexOf(column)] ?? ''
  }

  /** A tag of `GROUP BY`, which stand in one cell: `key=value,key=value`. */
  get tags(): string {
    return this.cells[1] ?? ''
  }
}

function refusal(error: HttpError): Outcome {
  const reason = error.message
  const dropped = /dropped=(\d+)/.exec(reason)?.[1]
  return { state: 'refused', reason, dropped: dropped === undefined ? undefined : Number(dropped) }
}

/** A name of a database, measurement or column in InfluxQL. */
export const quotedName = (name: string): string => `"${escaped(name).replaceAll('"', String.raw`\"`)}"`

/** A text in InfluxQL. */
export const quotedText = (text: string): string => `'${escaped(text).replaceAll("'", String.raw`\'`)}'`

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', String.raw`\n`)
