// What the store and its thread say to each other. Values are plain data, so that they can be cloned.
import type { ErrorCode } from '../../plugins/contract/errors.ts'
import type { Class } from '../../plugins/contract/signal.ts'
import type { LogPage, LogQuery, LatestValue, MetricInfo, MetricQuery, SeriesResult } from '../query.ts'
import type { Store, StoreReceipt, StreamCount } from './store.ts'

export interface WriteBatch {
  readonly stream: string
  readonly device: string
  readonly class: Class
  readonly seq: number
  /** Number of its first record in the batch. */
  readonly first: number
  readonly count: number
  readonly signal: 'logs' | 'metrics'
  readonly arrivedUnixNano: bigint
  /** Bytes of `values` that are its own; they follow each other. */
  readonly length: number
}

export interface WriteRequest {
  readonly batches: readonly WriteBatch[]
  /** All values, one after the other: one buffer that changes threads instead of a copy of each. */
  readonly values: ArrayBuffer
  readonly position: Readonly<Record<string, number>>
  readonly streams: readonly (readonly [string, Uint8Array | undefined])[]
}

/** `seal`: `due` what is old or large enough; `all` every row there is. */
export interface MaintainRequest {
  readonly seal: 'due' | 'all'
}

/** Everything that can be asked, with its answer. */
export interface Calls {
  load: { ask: undefined; answer: { position: Record<string, number>; streams: [string, Uint8Array][] } }
  write: { ask: WriteRequest; answer: StoreReceipt[] }
  forget: { ask: readonly string[]; answer: string[] }
  count: { ask: string | undefined; answer: StreamCount[] }
  status: { ask: undefined; answer: Awaited<ReturnType<Store['status']>> }
  maintain: { ask: MaintainRequest; answer: undefined }
  logs: { ask: LogQuery; answer: LogPage }
  metrics: { ask: readonly string[] | undefined; answer: MetricInfo[] }
  query: { ask: MetricQuery; answer: SeriesResult[] }
  latest: { ask: string; answer: LatestValue[] }
  close: { ask: undefined; answer: undefined }
}
export type CallName = keyof Calls

export type ToWorker = { id: number; call: CallName; ask: unknown } | { abort: number }

export interface LogEvent {
  level: 'error' | 'warn' | 'info' | 'debug'
  message: string
  fields: Record<string, unknown>
}

/** An error that keeps its kind on the way between threads. */
export type ErrorMessage = { message: string; cause: string | undefined } & (
  | { kind: 'retryable' | 'permanent'; code: ErrorCode }
  | { kind: 'refused'; parameter: string }
  | { kind: 'aborted' }
)

export type FromWorker =
  | { id: number; answer: unknown }
  | { id: number; error: ErrorMessage }
  | { log: LogEvent }
  | { opened: true }
  | { openFailed: ErrorMessage }
