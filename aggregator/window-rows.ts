// Rows of state of the filter's windows, beside those of streams. They are named by device, so that they go with its
// partition; no stream's name begins as theirs do.
//
//   $window/<device>/<rule>/<series>/<start>   readings of a window that is open
//   $window/<device>/<rule>/<series>/last      the last value of a series, from which the next window counts
//   $made/<device>/<class>/<seq>               what a window made and the store has perhaps not: arrival, then the batch
import { findHeader, streamKey } from '../plugins/contract/batch.ts'
import type { Header } from '../plugins/contract/batch.ts'
import type { StoreBatch } from './store/store.ts'

/** Who reports what windows made. No collector has such a session, whatever it is called. */
export const madeBy = { collector: 'filter', session: 'FILTER'.padStart(26, '0') } as const

export const isWindowRow = (key: string): boolean => key.startsWith('$')

/** The device whose row of the writer this is: of a stream, or of a window. */
export const deviceOfRow = (key: string): string => key.split('/')[isWindowRow(key) ? 1 : 2] ?? ''

export const windowRow = (device: string, rule: string, series: string, place: string): string =>
  `$window/${device}/${rule}/${series}/${place}`

export const madeRow = ({ device, class: name, seq }: Header): string => `$made/${device}/${name}/${seq}`

/** What a window made, until the store has it. */
export interface MadeBatch {
  readonly row: string
  readonly stream: string
  readonly batch: StoreBatch
}

export const madeBatch = (header: Header, value: Uint8Array, arrivedUnixNano: bigint): MadeBatch => ({
  row: madeRow(header),
  stream: streamKey(header),
  batch: { header, signal: 'metrics', value, arrivedUnixNano },
})

export function encodeMade({ batch: { arrivedUnixNano, value } }: MadeBatch): Uint8Array {
  const row = Buffer.allocUnsafe(8 + value.length)
  row.writeBigUInt64LE(arrivedUnixNano)
  row.set(value, 8)
  return row
}

/** Undefined where the row cannot be read. */
export function decodeMade(row: Uint8Array): MadeBatch | undefined {
  try {
    const bytes = Buffer.from(row)
    const value = bytes.subarray(8)
    const header = findHeader(value)
    return header && madeBatch(header, value, bytes.readBigUInt64LE())
  } catch {
    return undefined
  }
}
