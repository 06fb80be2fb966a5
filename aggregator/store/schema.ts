// The tables of the embedded store. Rows lie in `segments`: a table `hot_<id>` of recent rows of one signal and class,
// or, once sealed, a Parquet file with the same columns. Every row says which record of which batch of which stream it
// is, so that what the store holds can be counted and named.
import { join } from 'node:path'
import type { Layout } from './columns.ts'

/**
 * Log records. `ts` is what searches go by: the claimed time, or the arrival when that is suspect; only then `claimed`
 * is not 0. Times are Unix ns, 0 is unknown. `idx` is the number of the record in its batch.
 */
export const logLayout = {
  ts: 'bigint',
  arrival: 'bigint',
  claimed: 'ubigint',
  observed: 'ubigint',
  device: 'uinteger',
  service: 'uinteger',
  resource: 'uinteger',
  severity: 'integer',
  flags: 'uinteger',
  stream: 'uinteger',
  seq: 'bigint',
  idx: 'uinteger',
  body_form: 'utinyint',
  body: 'text',
  severity_text: 'text',
  attributes: 'text',
  event_name: 'text',
  trace_id: 'text',
  span_id: 'text',
} as const satisfies Layout

/** What `body` is: absent (answered as empty text, as an attribute without a value is), text, or JSON text of another value. */
export const bodyForm = { none: 0, text: 1, json: 2 } as const

/**
 * Data points. Which of `value` and `number` hold something: `form`. `detail` is JSON: buckets, quantiles and
 * exemplars, exact; empty where there are none.
 */
export const pointLayout = {
  ts: 'bigint',
  arrival: 'bigint',
  claimed: 'ubigint',
  start: 'ubigint',
  series: 'uinteger',
  stream: 'uinteger',
  seq: 'bigint',
  idx: 'uinteger',
  flags: 'uinteger',
  form: 'utinyint',
  value: 'double',
  number: 'bigint',
  detail: 'text',
} as const satisfies Layout

/** Of histograms and summaries `number` is the count and `value` the mean, where there is one. */
export const pointForm = { double: 1, integer: 2, mean: 3, count: 4 } as const

/** Batches that were written, with the segment that has their rows. */
export const batchLayout = {
  stream: 'uinteger',
  seq: 'bigint',
  segment: 'uinteger',
  written: 'uinteger',
} as const satisfies Layout

export const layoutOf = { logs: logLayout, metrics: pointLayout } as const

/** What a file is sorted by: what most queries ask for lies together, and compresses best. */
export const sortOf = { logs: 'device, ts', metrics: 'series, ts' } as const

export const columnIndex = <L extends Layout>(layout: L, name: keyof L & string): number =>
  Object.keys(layout).indexOf(name)

/** `state`: the newest version of a key counts, a NULL value deletes; the key '' is the writer's position. */
export const schemaSql = `
CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments (id UINTEGER NOT NULL, signal VARCHAR NOT NULL, class VARCHAR NOT NULL,
  file VARCHAR, rows BIGINT NOT NULL, bytes BIGINT NOT NULL, at_from BIGINT NOT NULL, at_to BIGINT NOT NULL,
  arrival_from BIGINT NOT NULL, arrival_to BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (stream UINTEGER NOT NULL, seq BIGINT NOT NULL, segment UINTEGER NOT NULL,
  written UINTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS tally (stream UINTEGER NOT NULL, removed BIGINT NOT NULL, rejected BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS state (version BIGINT NOT NULL, key VARCHAR NOT NULL, value BLOB);
CREATE TABLE IF NOT EXISTS streams (id UINTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS devices (id UINTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS services (id UINTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS resources (id UINTEGER NOT NULL, attributes VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS series (id UINTEGER NOT NULL, device VARCHAR NOT NULL, metric VARCHAR NOT NULL,
  unit VARCHAR NOT NULL, kind VARCHAR NOT NULL, temporality UTINYINT NOT NULL, identity VARCHAR NOT NULL,
  attributes VARCHAR NOT NULL, resource UINTEGER NOT NULL);
`

/** Grows when older files can no longer be read. */
export const schemaVersion = 1

/** Where the sealed files of a store lie. */
export const filesDirectory = (directory: string): string => join(directory, 'files')

export const hotTable = (segment: number): string => `hot_${segment}`

/** A text literal of SQL. */
export const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`
