// What is wrong with a configuration: each problem with its path and the line where it stands. Collector and aggregator
// tell theirs alike.
import { LineCounter, isMap, isNode, isPair, isSeq, parseDocument } from 'yaml'
import type { Document } from 'yaml'
import type * as z from 'zod'
import { messageOf } from '../plugins/contract/index.ts'

export interface Problem {
  /** `exporters.fleet.buffer.disk`; empty for the file as a whole. */
  path: string
  message: string
  /** A warning does not hinder the start. */
  severity: 'error' | 'warning'
  line?: number
  column?: number
}

type Path = readonly PropertyKey[]

/** `line 3: exporters.fleet.type: there is no exporter type otpl; did you mean otlp?` */
export const textOf = ({ line, path, message }: Problem): string =>
  [...(line === undefined ? [] : [`line ${line}`]), ...(path === '' ? [] : [path]), message].join(': ')

/** The problems of one text of YAML, as they are found. */
export class Problems {
  readonly problems: Problem[] = []
  readonly #document: Document
  readonly #lines = new LineCounter()

  constructor(text: string) {
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      prettyErrors: false,
      uniqueKeys: true,
    })
    for (const { message, pos } of [...this.#document.errors, ...this.#document.warnings]) {
      const { line, col } = this.#lines.linePos(pos[0])
      this.problems.push({ path: '', message: message.trim(), severity: 'error', line, column: col })
    }
  }

  /** What the text says; undefined where it is no YAML, which is among the problems then. */
  plain(): unknown {
    if (this.#document.errors.length > 0) return undefined
    try {
      return this.#document.toJS({ maxAliasCount: 100 }) ?? {}
    } catch (error) {
      this.problem([], messageOf(error))
      return undefined
    }
  }

  problem(path: Path, message: string, severity: Problem['severity'] = 'error'): void {
    const text = path.map(String).join('.')
    // The outline and a component's own schema may both say the same.
    if (this.problems.some((known) => known.path === text && known.message === message)) return
    this.problems.push({ path: text, message, severity, ...this.#place(path) })
  }

  issues(error: z.ZodError, at: Path): void {
    for (const issue of error.issues) {
      if (issue.code === 'unrecognized_keys') {
        for (const key of issue.keys) this.problem([...at, ...issue.path, key], 'there is no such setting')
      } else this.problem([...at, ...issue.path], sentence(issue))
    }
  }

  /** Into the order of the lines. */
  sort(): void {
    this.problems.sort((one, other) => (one.line ?? 0) - (other.line ?? 0))
  }

  /** Where the value stands in the file, or the nearest thing around it. */
  #place(path: Path): { line: number; column: number } | undefined {
    let offset: number | undefined
    let node: unknown = this.#document.contents
    for (const key of path) {
      let next: unknown
      if (isMap(node)) {
        const pair = node.items.find((item) => isPair(item) && isNode(item.key) && item.key.toJSON() === key)
        if (isNode(pair?.key)) offset = pair.key.range?.[0] ?? offset
        next = pair?.value
      } else if (isSeq(node)) {
        next = node.items[Number(key)]
        if (isNode(next)) offset = next.range?.[0] ?? offset
      }
      if (next === undefined) break
      node = next
    }
    if (offset === undefined) return undefined
    const { line, col } = this.#lines.linePos(offset)
    return { line, column: col }
  }
}

function sentence(issue: z.core.$ZodIssue): string {
  // What is wrong with a key is told one level deeper.
  const message = issue.code === 'invalid_key' ? (issue.issues[0]?.message ?? issue.message) : issue.message
  return message.replace(/^Invalid input: /, '')
}
