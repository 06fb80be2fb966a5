// Runs queries: each on a connection of its own, few at a time, with a time limit, and interrupted when the asker has
// gone. Whoever changes which segments there are waits until the queries that saw the old ones are over.
import { RetryableError, messageOf } from '../../plugins/contract/errors.ts'
import type { Connection, Database, Row } from './database.ts'

/** One query's way to the database. */
export interface QueryContext {
  rows(sql: string, values?: Record<string, SqlValue>): Promise<Row[]>
}
export type SqlValue = string | number | bigint

export class QueryRunner {
  readonly #database: Database
  readonly #limit: number
  readonly #timeoutMs: number
  readonly #running = new Set<Promise<unknown>>()
  readonly #waiting: (() => void)[] = []
  #active = 0
  readonly #idle: Connection[] = []
  readonly #busy = new Set<Connection>()

  constructor(database: Database, limit: number, timeoutMs: number) {
    this.#database = database
    this.#limit = limit
    this.#timeoutMs = timeoutMs
  }

  /** `timeoutMs` is for what asks on the store's own behalf, such as counting all there is. */
  async run<T>(
    signal: AbortSignal,
    work: (context: QueryContext) => Promise<T>,
    timeoutMs = this.#timeoutMs,
  ): Promise<T> {
    signal.throwIfAborted()
    const ended = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
    await this.#enter(ended, signal, timeoutMs)
    try {
      const running = this.#execute(ended, work)
      const settled = running.catch(() => undefined)
      this.#running.add(settled)
      try {
        return await running
      } finally {
        this.#running.delete(settled)
      }
    } catch (error) {
      if (ended.aborted) throw reasonOf(signal, timeoutMs)
      throw error
    } finally {
      this.#active--
      this.#waiting.shift()?.()
    }
  }

  /** Resolves when the queries that run now are over. */
  async idle(): Promise<void> {
    await Promise.all(this.#running)
  }

  /** Interrupts what runs and waits for its end. */
  async stop(): Promise<void> {
    for (const connection of this.#busy) connection.sql.interrupt()
    await this.idle()
  }

  async #enter(ended: AbortSignal, signal: AbortSignal, timeoutMs: number): Promise<void> {
    while (this.#active >= this.#limit) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#waiting.push(resolve)
      ended.addEventListener('abort', () => resolve(), { once: true })
      await promise
      const place = this.#waiting.indexOf(resolve)
      if (place >= 0) this.#waiting.splice(place, 1)
      if (!ended.aborted) continue
      // Whoever was woken for nothing hands the turn on.
      this.#waiting.shift()?.()
      throw reasonOf(signal, timeoutMs)
    }
    this.#active++
  }

  async #execute<T>(ended: AbortSignal, work: (context: QueryContext) => Promise<T>): Promise<T> {
    const connection = this.#idle.pop() ?? (await this.#database.connect())
    const interrupt = (): void => connection.sql.interrupt()
    ended.addEventListener('abort', interrupt)
    this.#busy.add(connection)
    try {
      return await work({
        rows: async (sql, values) => {
          ended.throwIfAborted()
          const reader = await connection.sql.runAndReadAll(sql, values)
          ended.throwIfAborted()
          return reader.getRows()
        },
      })
    } finally {
      ended.removeEventListener('abort', interrupt)
      this.#busy.delete(connection)
      if (ended.aborted) this.#database.release(connection)
      else this.#idle.push(connection)
    }
  }
}

function reasonOf(signal: AbortSignal, timeoutMs: number): unknown {
  if (signal.aborted) return signal.reason
  return new RetryableError('PEER_TIMEOUT', `the store needed more than ${timeoutMs / 1000} s`)
}

/** For counting and for forgetting, which look at every row that is kept. */
export const longMs = 600_000

/** The file of which DuckDB says that it cannot read it, if the error names one. */
export function fileInError(error: unknown): string | undefined {
  return /([\w-]+\.parquet)/.exec(messageOf(error))?.[1]
}
