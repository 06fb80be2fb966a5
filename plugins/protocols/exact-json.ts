// JSON whose integers stay exact: those beyond 2^53, such as counters of ticks, become bigint instead of losing digits.
import { integer } from './proc.ts'

/** @throws SyntaxError */
export function parseExact(text: string): unknown {
  return JSON.parse(text, (_, value: unknown, context?: { source?: string }) => {
    if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
    return integer(context?.source) ?? value
  })
}

/** A count that is a whole number; undefined for everything else, negative numbers included. */
export function countOf(value: unknown): bigint | undefined {
  if (typeof value === 'bigint') return value >= 0n ? value : undefined
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined
}

export type JsonObject = Readonly<Record<string, unknown>>

export const objectOf = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {}

/** The objects of an array; none of anything else, since peers write null for an empty one. */
export const objectsOf = (value: unknown): JsonObject[] =>
  Array.isArray(value) ? value.map((one) => objectOf(one)) : []

export const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
