// What is wished of each collector, in the journal's registry: a row for each collector, and the text of each
// configuration once, under its hash. Nothing is kept beside the table, so that all who share it answer alike.
//
//   wish/<collector>       revision, configuration without its text, verbosity, labels
//   configuration/<hash>   YAML
import * as z from 'zod'
import { messageOf } from '../../plugins/contract/errors.ts'
import type { Log } from '../../plugins/contract/define.ts'
import { desiredSchema } from '../../plugins/protocols/change.ts'
import type { Desired } from '../../plugins/protocols/change.ts'

/** A compacted table of the journal. */
export interface Table {
  get(key: string): Uint8Array | undefined
  entries(): IterableIterator<[string, Uint8Array]>
  /** Resolves when on disk. Undefined deletes. */
  set(key: string, value: Uint8Array | undefined): Promise<void>
}

const wishSchema = desiredSchema.extend({
  configuration: z
    .object({
      revision: z.int(),
      hash: z.string().nullable(),
      by: z.string(),
      time: z.string(),
      /** The rollout that wished for it. */
      rollout: z.string().optional(),
    })
    .nullable(),
})
export type Wish = z.infer<typeof wishSchema>

const wishPrefix = 'wish/'
const textPrefix = 'configuration/'

export const noWish: Wish = { revision: 0, configuration: null, verbosity: [], labels: {} }

export class Wishes {
  readonly #table: Table
  readonly #log: Log
  /** Rows as they were read last: they are looked at every few seconds, and seldom change. */
  readonly #read = new Map<string, { value: Uint8Array; wish: Wish }>()

  constructor(table: Table, log: Log) {
    this.#table = table
    this.#log = log
  }

  get(collector: string): Wish | undefined {
    const value = this.#table.get(wishPrefix + collector)
    return value && this.#parse(collector, value)
  }

  *all(): IterableIterator<[collector: string, wish: Wish]> {
    for (const [key, value] of this.#table.entries()) {
      if (!key.startsWith(wishPrefix)) continue
      const collector = key.slice(wishPrefix.length)
      const wish = this.#parse(collector, value)
      if (wish) yield [collector, wish]
    }
  }

  count(): number {
    let count = 0
    for (const [key] of this.#table.entries()) if (key.startsWith(wishPrefix)) count++
    return count
  }

  async forget(collector: string): Promise<void> {
    this.#read.delete(collector)
    await this.#table.set(wishPrefix + collector, undefined)
  }

  set(collector: string, wish: Wish): Promise<void> {
    return this.#table.set(wishPrefix + collector, Buffer.from(JSON.stringify(wish)))
  }

  text(hash: string): string | undefined {
    const value = this.#table.get(textPrefix + hash)
    return value && Buffer.from(value).toString()
  }

  async keepText(hash: string, text: string): Promise<void> {
    if (this.text(hash) === undefined) await this.#table.set(textPrefix + hash, Buffer.from(text))
  }

  /** Texts that nobody wishes for any more. */
  async prune(isNeeded: (hash: string) => boolean): Promise<void> {
    const used = new Set([...this.all()].map(([, { configuration }]) => configuration?.hash))
    const texts = [...this.#table.entries()].flatMap(([key]) =>
      key.startsWith(textPrefix) ? [key.slice(textPrefix.length)] : [],
    )
    for (const hash of texts) {
      if (!used.has(hash) && !isNeeded(hash)) await this.#table.set(textPrefix + hash, undefined)
    }
  }

  /** As it is published. Undefined where its text is gone. */
  desired({ configuration, ...rest }: Wish): Desired | undefined {
    if (!configuration) return { ...rest, configuration: null }
    const { rollout: _, ...about } = configuration
    const text = about.hash === null ? null : this.text(about.hash)
    return text === undefined ? undefined : { ...rest, configuration: { ...about, text } }
  }

  #parse(collector: string, value: Uint8Array): Wish | undefined {
    const known = this.#read.get(collector)
    if (known && Buffer.compare(known.value, value) === 0) return known.wish
    try {
      const wish = wishSchema.parse(JSON.parse(Buffer.from(value).toString()))
      this.#read.set(collector, { value, wish })
      return wish
    } catch (error) {
      this.#log.error('a wish cannot be read', { collector, error: messageOf(error) })
      return undefined
    }
  }
}
