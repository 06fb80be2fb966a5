// The bodies of one write: lines gather for each bucket, and a few bodies are on their way while more are written.
import { Lines } from './line.ts'

export class Bodies {
  readonly #most: number
  readonly #deliver: (bucket: string, lines: Lines) => Promise<void>
  readonly #open = new Map<string, Lines>()
  readonly #spare: Lines[] = []
  readonly #underWay = new Set<Promise<void>>()
  #failure: { error: unknown } | undefined

  constructor(most: number, deliver: (bucket: string, lines: Lines) => Promise<void>) {
    this.#most = most
    this.#deliver = deliver
  }

  /** What takes the next lines of a bucket. */
  of(bucket: string): Lines {
    let lines = this.#open.get(bucket)
    if (!lines) this.#open.set(bucket, (lines = this.#spare.pop() ?? new Lines()))
    return lines
  }

  /** Sends what has gathered for a bucket; resolves when there is room for more. @throws what one before it met. */
  async send(bucket: string): Promise<void> {
    const lines = this.#open.get(bucket)
    if (!lines || lines.count === 0) return
    this.#open.delete(bucket)
    const sending = this.#sendOne(bucket, lines)
    this.#underWay.add(sending)
    void sending.then(() => this.#underWay.delete(sending))
    while (this.#underWay.size >= this.#most) await Promise.race(this.#underWay)
    if (this.#failure) throw this.#failure.error
  }

  async #sendOne(bucket: string, lines: Lines): Promise<void> {
    try {
      await this.#deliver(bucket, lines)
    } catch (error) {
      this.#failure ??= { error }
    }
    lines.clear()
    this.#spare.push(lines)
  }

  /** Sends what is left, unless something failed, and waits for all of it. @throws what failed. */
  async finish(): Promise<void> {
    for (const bucket of this.#open.keys()) if (!this.#failure) await this.send(bucket).catch(() => undefined)
    await Promise.all(this.#underWay)
    if (this.#failure) throw this.#failure.error
  }
}
