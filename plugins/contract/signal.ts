// The closed vocabularies of dpulse: signals, classes of records in order of worth, reasons for which a record
// may be dropped. Everything else (topics, streams, the ledger) is spelled with these words.

/** The OTLP signals that dpulse carries. Traces pass through and are counted as `forwarded`. */
export type Signal = 'logs' | 'metrics' | 'traces'

export const signals: readonly Signal[] = ['logs', 'metrics', 'traces']

/**
 * Classes, from the most to the least precious when space or bandwidth runs out.
 *
 * `event` state changes and alerts; `usage` what billing reads; `error` error counters; `log_error` log lines of
 * severity ERROR or worse; `capability` what a device can do; `environment` temperature, power, fans; `resource`
 * cpu, memory, load, interfaces; `log` all other log lines.
 */
export const classes = [
  'event',
  'usage',
  'error',
  'log_error',
  'capability',
  'environment',
  'resource',
  'log',
] as const

export type Class = (typeof classes)[number]

/** 0 is the most precious. */
export const rank: Readonly<Record<Class, number>> = Object.fromEntries(
  classes.map((name, index) => [name, index]),
) as Record<Class, number>

/** Reasons that somebody wished for. */
export const intendedReasons = ['filter', 'sample', 'rate', 'unchanged', 'aggregated'] as const
/** Reasons that are a loss. */
export const lossReasons = ['overflow', 'budget', 'expired', 'invalid', 'rejected', 'corrupted'] as const
export const dropReasons = [...intendedReasons, ...lossReasons] as const

export type DropReason = (typeof dropReasons)[number]

/** Records dropped, by reason; a reason that never happened is absent. */
export type Dropped = Partial<Record<DropReason, number>>

export const isClass = (name: string): name is Class => (classes as readonly string[]).includes(name)
export const isSignal = (name: string): name is Signal => (signals as readonly string[]).includes(name)

/** Lowest severityNumber of the class `log_error` (OTel log data model: 17–20 are ERROR, 21–24 FATAL). */
export const errorSeverity = 17

/** The class of a log record, as DESIGN names it. */
export function classOfLog(severityNumber: number, hasEventName: boolean): Class {
  if (hasEventName) return 'event'
  return severityNumber >= errorSeverity ? 'log_error' : 'log'
}

const environmental = /^hw\./
const errorCounter = /(^|[._])errors?($|[._])|\.dropped($|\.)/

/** The class of a metric by its name: `hw.errors` and error counters, other `hw.*`, the rest. */
export function classOfMetric(name: string): Class {
  if (errorCounter.test(name)) return 'error'
  return environmental.test(name) ? 'environment' : 'resource'
}
