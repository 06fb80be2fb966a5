// Group commit. While one group is written and synced, further requests collect and go into the next. First the files
// of all topics of the group, at the same time; then the tables that were changed in one request with appends. A
// group that fails is undone in every file, so that nothing of it shows; what is asked for later starts anew.
import { LogBusyError, LogClosedError, LogError, systemCode, writeFailure } from './errors.ts'
import { entryBytes } from './entry.ts'
import type { Writable } from './entry.ts'

/** A file, or a row of them, that entries are added to. */
export interface Appendable {
  /** The offset of the first entry that `stage` will write. */
  readonly next: number
  /** Throws when nothing can be added any more, because it was removed. */
  check(): void
  /** Writes and syncs. Not visible yet. */
  stage(entries: readonly Writable[], unixNano: bigint): Promise<void>
  /** Makes visible what was staged. */
  publish(): void
  /** Cuts off what was staged, or a part of it. Never rejects. */
  undo(): Promise<void>
}

interface Addition {
  to: Appendable
  entry: Writable
}

interface Request {
  appends: readonly Addition[]
  sets: readonly Addition[]
  bytes: number
  offsets: number[]
  resolve: (offsets: number[]) => void
  reject: (error: Error) => void
}

export interface GroupOptions {
  maxPendingBytes: number
  now: () => bigint
  /** Frees the reserve; false when there is none. */
  makeRoom: () => Promise<boolean>
}

/** A larger group gains nothing and makes its first request wait. */
const GROUP_BYTES = 8 * 1024 * 1024

export class Committer {
  readonly #options: GroupOptions
  #queue: Request[] = []
  #jobs: (() => Promise<void>)[] = []
  #running: Promise<void> | undefined
  #closed = false
  pendingBytes = 0

  constructor(options: GroupOptions) {
    this.#options = options
  }

  /** Resolves with the offsets of the appends. */
  request(appends: readonly Addition[], sets: readonly Addition[]): Promise<number[]> {
    let bytes = 0
    for (const { entry } of appends) bytes += entryBytes(entry)
    for (const { entry } of sets) bytes += entryBytes(entry)
    if (this.#closed) return Promise.reject(new LogClosedError('the log is closed'))
    if (this.pendingBytes > 0 && this.pendingBytes + bytes > this.#options.maxPendingBytes) {
      return Promise.reject(new LogBusyError(`${this.pendingBytes} bytes already wait for the disk`))
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ appends, sets, bytes, offsets: [], resolve, reject })
      this.pendingBytes += bytes
      this.#start()
    })
  }

  /** Does something between two groups, when nothing is under way. */
  exclusive<T>(job: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new LogClosedError('the log is closed'))
    return new Promise((resolve, reject) => {
      this.#jobs.push(() => job().then(resolve, reject))
      this.#start()
    })
  }

  async flush(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  /** Takes no more; what waits is still written. */
  async close(): Promise<void> {
    this.#closed = true
    await this.flush()
  }

  #start(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
      if (this.#queue.length > 0 || this.#jobs.length > 0) this.#start()
    })
  }

  async #run(): Promise<void> {
    await Promise.resolve() // what is asked for in the same turn goes together
    while (this.#queue.length > 0 || this.#jobs.length > 0) {
      for (let job = this.#jobs.shift(); job !== undefined; job = this.#jobs.shift()) await job()
      const requests = this.#take()
      if (requests.length > 0) await this.#commit(requests)
    }
  }

  #take(): Request[] {
    let count = 0
    let bytes = 0
    for (const request of this.#queue) {
      if (count > 0 && bytes + request.bytes > GROUP_BYTES) break
      bytes += request.bytes
      count++
    }
    const taken = this.#queue.splice(0, count)
    return taken.filter((request) => this.#isPossible(request))
  }

  #isPossible(request: Request): boolean {
    try {
      for (const { to } of request.appends) to.check()
      return true
    } catch (error) {
      this.#settle(request, error)
      return false
    }
  }

  async #commit(requests: readonly Request[]): Promise<void> {
    const error = await this.#write(requests)
    if (error === undefined) {
      for (const request of requests) this.#settle(request, undefined)
      return
    }
    // A truncation, which frees room, must not fail because an append beside it found none.
    const small = requests.filter((request) => request.appends.length === 0)
    for (const request of requests) if (request.appends.length > 0) this.#settle(request, error)
    if (small.length === 0) return
    let again: unknown = error
    if (small.length < requests.length) again = await this.#write(small)
    if (systemCode(again) === 'ENOSPC' && (await this.#options.makeRoom())) again = await this.#write(small)
    for (const request of small) this.#settle(request, again)
  }

  #settle(request: Request, error: unknown): void {
    this.pendingBytes -= request.bytes
    if (error === undefined) request.resolve(request.offsets)
    else request.reject(error instanceof LogError ? error : writeFailure(error))
  }

  /** One group. Returns why it failed, undone. */
  async #write(requests: readonly Request[]): Promise<unknown> {
    const first = new Map<Appendable, Writable[]>()
    const second = new Map<Appendable, Writable[]>()
    const dependent = new Set<Appendable>()
    for (const request of requests) {
      for (const { to, entry } of request.appends) request.offsets.push(to.next + add(first, to, entry))
      if (request.appends.length > 0) for (const { to } of request.sets) dependent.add(to)
    }
    for (const request of requests) {
      for (const { to, entry } of request.sets) add(dependent.has(to) ? second : first, to, entry)
    }
    try {
      const unixNano = this.#options.now()
      await stageAll(first, unixNano)
      await stageAll(second, unixNano)
    } catch (error) {
      await Promise.all([...first.keys(), ...second.keys()].map((to) => to.undo()))
      return error
    }
    for (const to of first.keys()) to.publish()
    for (const to of second.keys()) to.publish()
    return undefined
  }
}

/** Returns the place of the entry among those of its file. */
function add(group: Map<Appendable, Writable[]>, to: Appendable, entry: Writable): number {
  const entries = group.get(to)
  if (entries === undefined) group.set(to, [entry])
  return entries === undefined ? 0 : entries.push(entry) - 1
}

/** Waits for all, also when one fails: what is still being written cannot be cut off. */
async function stageAll(group: Map<Appendable, Writable[]>, unixNano: bigint): Promise<void> {
  const staged = await Promise.allSettled([...group].map(([to, entries]) => to.stage(entries, unixNano)))
  for (const result of staged) if (result.status === 'rejected') throw result.reason
}
