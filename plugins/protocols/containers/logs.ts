// Follows the logs of containers, each over a stream of its own, and remembers up to which line they are safe: by the
// time of the last line, and how many lines with that very time there were, since Podman's times are whole seconds.
import type { Log } from '../../contract/index.ts'
import { ContainerLines } from './frames.ts'
import type { EngineApi } from './api.ts'
import type { TakeContainerLine } from './frames.ts'

/** Up to where a container's log is safe. */
export interface LogPlace {
  readonly seconds: number
  readonly nanos: number
  /** Lines with that time that were taken. */
  readonly count: number
}

export interface FollowOptions {
  readonly api: EngineApi
  readonly longest: number
  readonly most: number
  readonly log: Log
  /** A line of the container with this id. */
  readonly take: (id: string, ...line: Parameters<TakeContainerLine>) => void
  readonly flushed: () => Promise<void>
}

interface Follower {
  /** Of the last line that was given. */
  taken: LogPlace
  /** When the container had ended, if its log was read to the end since. */
  readTo: string
  running: Promise<void> | undefined
}

export class LogFollowers {
  readonly #options: FollowOptions
  readonly #followers = new Map<string, Follower>()
  readonly #safe: Map<string, LogPlace>
  #isOverTold = false

  constructor(options: FollowOptions, saved: Readonly<Record<string, LogPlace>>) {
    this.#options = options
    this.#safe = new Map(Object.entries(saved))
  }

  /** Whether the log of a container that has ended was read since; if not, it will have been after `follow`. */
  isRead(id: string, finished: string): boolean {
    const follower = this.#followers.get(id)
    if (follower === undefined) return false
    if (follower.readTo === finished) return true
    if (follower.running === undefined) follower.readTo = finished
    return false
  }

  /** Follows a container unless it is followed already; from where it was left, or else from `from`. */
  follow(id: string, isTerminal: boolean, from: LogPlace, signal: AbortSignal): void {
    const known = this.#followers.get(id)
    if (known?.running !== undefined) return
    const running = [...this.#followers.values()].filter((one) => one.running !== undefined).length
    if (running >= this.#options.most) {
      if (!this.#isOverTold)
        this.#options.log.warn('more containers than logs are followed', { followed: this.#options.most })
      this.#isOverTold = true
      return
    }
    const follower = known ?? { taken: this.#safe.get(id) ?? from, readTo: '', running: undefined }
    this.#followers.set(id, follower)
    follower.running = this.#run(id, follower, isTerminal, signal)
      .catch((error: unknown) => {
        if (!signal.aborted)
          this.#options.log.warn('the log of a container broke off', { container: id, error })
      })
      .finally(() => {
        follower.running = undefined
      })
  }

  /** The places as they are now: what is written down once all before them is safe. */
  snapshot(): () => Record<string, LogPlace> {
    const places = [...this.#followers].map(([id, { taken }]) => [id, taken] as const)
    return () => {
      for (const [id, place] of places) this.#safe.set(id, place)
      return Object.fromEntries(this.#safe)
    }
  }

  /** Forgets containers that are no more. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of this.#safe.keys()) if (!ids.has(id)) this.#safe.delete(id)
    for (const [id, { running }] of this.#followers) {
      if (!ids.has(id) && running === undefined) this.#followers.delete(id)
    }
  }

  /** When every stream has ended. */
  async ended(): Promise<void> {
    for (const { running } of this.#followers.values()) await running
  }

  async #run(id: string, follower: Follower, isTerminal: boolean, signal: AbortSignal): Promise<void> {
    const { api, longest, take, flushed } = this.#options
    const begin = follower.taken
    let same = 0
    const lines = new ContainerLines({
      longest,
      isTerminal,
      take: (stream, seconds, nanos, ...line) => {
        if (seconds >= 0) {
          // The engine repeats the whole second that `since` names.
          if (isBefore(seconds, nanos, begin)) return
          if (seconds === begin.seconds && nanos === begin.nanos && ++same <= begin.count) return
          const last = follower.taken
          const isSame = seconds === last.seconds && nanos === last.nanos
          follower.taken = { seconds, nanos, count: isSame ? last.count + 1 : 1 }
        }
        take(id, stream, seconds, nanos, ...line)
      },
    })
    const query = `follow=true&stdout=true&stderr=true&timestamps=true&since=${begin.seconds}`
    const response = await api.stream(`/containers/${id}/logs?${query}`, signal)
    if (response === undefined) return
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        lines.push(chunk)
        await flushed()
      }
    } finally {
      response.destroy()
    }
    lines.end()
    await flushed()
  }
}

const isBefore = (seconds: number, nanos: number, place: LogPlace): boolean =>
  seconds < place.seconds || (seconds === place.seconds && nanos < place.nanos)
