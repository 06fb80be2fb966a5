// Our own log, to stderr: text on a terminal, JSON elsewhere. A message that repeats is folded: it is written once, and
// once more with how often it came when it stops or a minute has passed.
import process from 'node:process'
import { Secret, codeOf, messageOf } from '../plugins/contract/index.ts'
import type { Log } from '../plugins/contract/index.ts'

type Level = keyof Log
type Fields = Readonly<Record<string, unknown>>

export interface LoggerOptions {
  write: (line: string) => void
  isText: boolean
  /** The least that is written. */
  level: Level
  nowMs: () => number
}

const ranks: Readonly<Record<Level, number>> = { debug: 0, info: 1, warn: 2, error: 3 }
const foldMs = 60_000
const mostFolds = 1000
const mostText = 4096

interface Fold {
  sinceMs: number
  repeats: number
  level: Level
  message: string
  fields: Fields
}

export class Logger {
  readonly #options: LoggerOptions
  readonly #folds = new Map<string, Fold>()

  constructor(options: Partial<LoggerOptions> = {}) {
    this.#options = {
      write: (line) => void process.stderr.write(line),
      isText: process.stderr.isTTY,
      level: levelOf(process.env.DPULSE_LOG),
      nowMs: Date.now,
      ...options,
    }
  }

  /** The log of one component. */
  for(component?: string): Log {
    const at = (level: Level) => (message: string, fields?: Fields) =>
      this.#log(level, component, message, fields ?? {})
    return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') }
  }

  /** Writes what is folded. */
  flush(): void {
    for (const [key, fold] of this.#folds) {
      if (fold.repeats > 0) this.#write(fold.level, fold.message, { ...fold.fields, repeated: fold.repeats })
      this.#folds.delete(key)
    }
  }

  #log(level: Level, component: string | undefined, message: string, given: Fields): void {
    if (ranks[level] < ranks[this.#options.level]) return
    const fields = component === undefined ? given : { component, ...given }
    if (level === 'info' || level === 'debug') return this.#write(level, message, fields)
    const nowMs = this.#options.nowMs()
    const key = `${component ?? ''}\0${message}\0${given.error === undefined ? '' : codeOf(given.error)}`
    const fold = this.#folds.get(key)
    if (fold && nowMs - fold.sinceMs < foldMs) {
      fold.repeats++
      fold.fields = fields
      return
    }
    if (fold && fold.repeats > 0) this.#write(level, message, { ...fields, repeated: fold.repeats + 1 })
    else this.#write(level, message, fields)
    this.#folds.delete(key)
    if (this.#folds.size >= mostFolds) this.#folds.delete(this.#folds.keys().next().value ?? '')
    this.#folds.set(key, { sinceMs: nowMs, repeats: 0, level, message, fields })
  }

  #write(level: Level, message: string, fields: Fields): void {
    const time = new Date(this.#options.nowMs()).toISOString()
    if (!this.#options.isText) {
      const shown = Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, plain(value)]))
      return this.#options.write(`${JSON.stringify({ time, level, message, ...shown })}\n`)
    }
    const shown = Object.entries(fields).map(([key, value]) => `${key}=${asText(plain(value))}`)
    this.#options.write(`${[time.slice(11, 23), level.padEnd(5), message, ...shown].join(' ')}\n`)
  }
}

/** The log of a whole program. */
export const createLogger = (program: string): Log => new Logger().for(program)

const levelOf = (name: string | undefined): Level =>
  name !== undefined && name in ranks ? (name as Level) : 'info'

const asText = (value: unknown): string => JSON.stringify(value) ?? ''

/** JSON-ready. An error is its message with those of its causes; an unexpected one shows where it came from. */
function plain(value: unknown): unknown {
  if (value instanceof Error) {
    const text = messageOf(value)
    if (codeOf(value) !== 'UNEXPECTED' || value.stack === undefined) return text.slice(0, mostText)
    return `${text}\n${value.stack}`.slice(0, mostText)
  }
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Secret) return '[redacted]'
  if (typeof value === 'string') return value.slice(0, mostText)
  if (typeof value !== 'object' || value === null) return value
  const json = JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'bigint' ? item.toString() : item,
  )
  return json.length > mostText ? json.slice(0, mostText) : (JSON.parse(json) as unknown)
}
