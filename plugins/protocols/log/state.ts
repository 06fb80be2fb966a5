// What the log knows of its topics besides their files, kept in a table of its own that no name can reach: consumers'
// positions, the first offset that is kept, and at a clean end where each topic ended.
import type { TableFile } from './table.ts'

export const STATE = '$state'

type Kind =
  | 'first' // forgotten before this
  | 'end' // entries before this were acknowledged
  | 'position' // of a consumer
  | 'removed' // its files are to go

export class State {
  readonly #table: TableFile
  constructor(table: TableFile) {
    this.#table = table
  }

  get(kind: Kind, topic: string, consumer = ''): number | undefined {
    const value = this.#table.get(keyOf(kind, topic, consumer))
    const figure = value === undefined ? undefined : Number(Buffer.from(value).toString('latin1'))
    return Number.isSafeInteger(figure) ? figure : undefined
  }

  async set(kind: Kind, topic: string, value: number, consumer = ''): Promise<void> {
    await this.#table.set(keyOf(kind, topic, consumer), Buffer.from(String(value)))
  }

  /** Of each topic that is known: all entries before this were acknowledged once. */
  reached(): Map<string, number> {
    const reached = new Map<string, number>()
    for (const { kind, name, consumer } of this.#keys()) {
      if (kind === 'removed') continue
      reached.set(name, Math.max(reached.get(name) ?? 0, this.get(kind, name, consumer) ?? 0))
    }
    return reached
  }

  /** Written at a clean end, where it tells a damaged last entry from one that was never finished. */
  async markEnds(ends: ReadonlyMap<string, number>): Promise<void> {
    const changed = [...ends].filter(([topic, end]) => this.get('end', topic) !== end)
    if (changed.length === 0) return
    await this.#table.setAll(
      changed.map(([topic, end]) => ({ key: keyOf('end', topic, ''), value: Buffer.from(String(end)) })),
    )
  }

  removed(): string[] {
    return this.#keys()
      .filter(({ kind }) => kind === 'removed')
      .map(({ name }) => name)
  }

  /** In one write: the mark comes first, so that no torn one forgets the positions and keeps the files. */
  async markRemoved(topic: string): Promise<void> {
    const gone = this.#keys().filter(({ name }) => name === topic)
    await this.#table.setAll([
      { key: keyOf('removed', topic, ''), value: Buffer.from('1') },
      ...gone.map(({ kind, consumer }) => ({ key: keyOf(kind, topic, consumer), value: undefined })),
    ])
  }

  async forgetRemoved(topic: string): Promise<void> {
    await this.#table.set(keyOf('removed', topic, ''), undefined)
  }

  #keys(): { kind: Kind; name: string; consumer: string }[] {
    return [...this.#table.keys()].map((key) => {
      const [kind, name = '', consumer = ''] = key.split(' ')
      return { kind: kind as Kind, name, consumer } // only this file writes keys
    })
  }
}

/** Neither names nor consumers hold a space. */
const keyOf = (kind: Kind, topic: string, consumer: string): string =>
  consumer === '' ? `${kind} ${topic}` : `${kind} ${topic} ${consumer}`
