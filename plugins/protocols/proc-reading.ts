// One reading of the system source: where it looks, and where its data points go.
import { join } from 'node:path'
import type { Attributes, Readings } from '../contract/index.ts'
import type { SystemMetric } from './proc-metrics.ts'
import type { ProcFiles, Stat } from './proc.ts'

export interface Roots {
  proc: string
  sys: string
  files: string
}

export class Reading {
  readonly #readings: Readings
  readonly files: ProcFiles
  readonly roots: Roots
  readonly stat: Stat | undefined
  readonly #most: number

  constructor(readings: Readings, files: ProcFiles, roots: Roots, most: number, stat: Stat | undefined) {
    this.#readings = readings
    this.files = files
    this.roots = roots
    this.#most = most
    this.stat = stat
  }

  /** A value that could not be read is no data point. */
  add(name: SystemMetric, value: number | bigint | undefined, attributes?: Attributes): void {
    if (value !== undefined) this.#readings.add(name, value, attributes)
  }

  proc(path: string): string | undefined {
    return this.files.read(join(this.roots.proc, path))
  }

  /** A file of the machine's first process: from a container, our own would speak of the container. */
  ofMachine(path: string): string | undefined {
    return this.proc(this.roots.proc === '/proc' ? `self/${path}` : `1/${path}`)
  }

  sys(path: string): string | undefined {
    return this.files.read(join(this.roots.sys, path))?.trim()
  }

  /** As many as are allowed, in order of name; says once when there are more. */
  first<T>(kind: string, all: readonly T[], name: (one: T) => string): T[] {
    if (all.length > this.#most)
      this.files.tell(kind, new Error(`${all.length} found, ${this.#most} are read`))
    return all.toSorted((a, b) => (name(a) < name(b) ? -1 : 1)).slice(0, this.#most)
  }
}

/** Exact to the bits of a double for any two amounts. */
export const ratio = (part: bigint, whole: bigint): number =>
  whole === 0n ? 0 : Number(part) / Number(whole)
