// Batches and what sockets read live outside V8's heap. V8 lets hundreds of megabytes of them pile up before it looks
// which are still in use: here it is asked to, each time so much has come in, so that garbage stays bounded.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Clock } from '../plugins/contract/index.ts'
import { loadTrim } from '../plugins/protocols/native/index.ts'

const MiB = 1024 * 1024
/** Emitted bytes pass through three or four buffers: read, encoded, sealed, compressed. */
const lookEvery = 2 * MiB
/** Beyond what was there after the last one: the young are looked at, and then all. */
const youngGarbage = 16 * MiB
const oldGarbage = 32 * MiB
/** Of a limit, one part in so many. */
const parts = { young: 24, old: 14 }
/** After a start, and then as often unless so much came in meanwhile that V8 looks by itself. */
const tidyMs = { first: 15_000, every: 120_000 }
const tidyBelow = 64 * MiB
/** Collecting takes at most this part of the CPU that there is; more where others wait for it. */
const mostTime = { near: 0.1, short: 0.3 }

interface Collection {
  type: 'minor' | 'major'
  /** Only that one shrinks the room of young objects. */
  flavor?: 'last-resort'
}
type Collect = (options: Collection & { execution: 'sync' }) => void

function exposed(): Collect | undefined {
  try {
    setFlagsFromString('--expose-gc')
    return runInNewContext('gc') as Collect
  } catch {
    return undefined // it then comes when V8 finds it due
  }
}

export class Heap {
  readonly #clock: Clock
  #collect: Collect | undefined
  #isExposed = false
  #since = 0
  #sinceTidy = 0
  #young = 0
  #old = 0
  /** Where no limit says less. */
  readonly #mostGarbage: { readonly young: number; readonly old: number }
  #youngGarbage: number
  #oldGarbage: number
  /** The last collection of all. */
  #collected = { endedMs: -Infinity, tookMs: 0 }
  #cpu = 1
  /** Nobody has taken back the room that young objects needed at the start. */
  #isRoomy = true
  #trim: (() => void) | undefined
  #hasTrim = false

  /** `garbage` is what may pile up before V8 is asked to look, where a limit of memory does not say less. */
  constructor(clock: Clock, garbage?: { young: number; old: number }) {
    this.#clock = clock
    this.#mostGarbage = garbage ?? { young: youngGarbage, old: oldGarbage }
    this.#youngGarbage = this.#mostGarbage.young
    this.#oldGarbage = this.#mostGarbage.old
  }

  /** Limits of memory and CPU. */
  configure(limit: number | undefined, cpu: number | undefined): void {
    this.#cpu = Math.min(1, cpu ?? 1)
    const memory = limit ?? Infinity
    this.#youngGarbage = Math.min(this.#mostGarbage.young, memory / parts.young)
    this.#oldGarbage = Math.min(this.#mostGarbage.old, memory / parts.old)
    // Where the young objects live doubles in a flood, to some forty megabytes, and seldom becomes less.
    setFlagsFromString(`--semi-space-growth-factor=${limit === undefined ? 2 : 1}`)
    if (limit === undefined || this.#hasTrim) return
    this.#hasTrim = true
    void loadTrim().then((trim) => (this.#trim = trim))
  }

  /** Records of so many bytes came in. */
  allocated(bytes: number): void {
    this.#since += bytes
    this.#sinceTidy += bytes
    if (this.#since < lookEvery) return
    this.#since = 0
    const now = process.memoryUsage().arrayBuffers
    // What V8 collected by itself is where growth begins again.
    this.#young = Math.min(this.#young, now)
    this.#old = Math.min(this.#old, now)
    if (now - this.#young < this.#youngGarbage) return
    this.#run({ type: 'minor' })
    this.#young = process.memoryUsage().arrayBuffers
    if (this.#young - this.#old >= this.#oldGarbage) this.collect('near')
  }

  /** All garbage now, unless that was done a moment ago; what is free goes back to the system. */
  collect(need: keyof typeof mostTime): boolean {
    const nowMs = this.#clock.elapsedMs()
    const { endedMs, tookMs } = this.#collected
    if (nowMs - endedMs < tookMs / (mostTime[need] * this.#cpu)) return false
    this.#collectAll(this.#isRoomy)
    this.#isRoomy = false
    return true
  }

  /**
   * Until aborted. What a start leaves behind stays for hours where little comes in: V8 then sees no reason to look, and
   * keeps room for young objects as if the next start were due.
   */
  async tidy(signal: AbortSignal): Promise<void> {
    try {
      await this.#clock.delay(tidyMs.first, signal)
    } catch {
      return
    }
    await this.#clock.every(tidyMs.every, signal, () => {
      if (this.#sinceTidy < tidyBelow) this.#collectAll(true)
      this.#sinceTidy = 0
    })
  }

  #collectAll(withRoom: boolean): void {
    const beganMs = this.#clock.elapsedMs()
    this.#run({ type: 'major', ...(withRoom && { flavor: 'last-resort' }) })
    this.#trim?.()
    const endedMs = this.#clock.elapsedMs()
    this.#collected = { endedMs, tookMs: endedMs - beganMs }
    this.#old = this.#young = process.memoryUsage().arrayBuffers
  }

  #run(collection: Collection): void {
    if (!this.#isExposed) {
      this.#isExposed = true
      this.#collect = exposed()
    }
    this.#collect?.({ ...collection, execution: 'sync' })
  }
}
