// Reads the log services of a BMC: what is new since the cursor, each entry once, over restarts, cleared and rotated logs
// and clocks that jump. An entry is known by what it says, not by its number: numbers begin anew.
import { isDeepStrictEqual } from 'node:util'
import type { Emit } from '../../contract/define.ts'
import { RetryableError, messageOf } from '../../contract/errors.ts'
import type { RedfishClient } from './client.ts'
import { encodeEntries, entryOf } from './entries.ts'
import type { EncodeOptions, Entry } from './entries.ts'
import { emitInGroups } from '../lines/batches.ts'
import { inside, linkOf, objectsOf } from './json.ts'
import type { Json } from './json.ts'
import type { Memory } from './memory.ts'
import type { Quirks } from './quirks.ts'
import { nextLink } from './walk.ts'
import type { Resource } from './walk.ts'

export interface LogReaderOptions {
  readonly client: RedfishClient
  readonly memory: Memory
  readonly emit: Emit
  readonly quirks: () => Quirks
  readonly encoding: () => EncodeOptions
  readonly tell: (what: string, reason: string) => void
}

/** Entries of one log that are read at one time; the rest comes with the next reading. */
const mostEntries = 20_000
const mostPages = 400
const mostLogs = 100
/** Acknowledged together, so that a kill repeats no more. */
const chunk = 250
/** Below it a log is read whole: it costs no more than asking for its end. */
const shortLog = 50

export class LogReader {
  readonly #options: LogReaderOptions
  /** What entries said of late, by `match`: events that tell of them need not be told. */
  readonly #recent = new Set<string>()
  readonly #lengths = new Map<string, number>()

  constructor(options: LogReaderOptions) {
    this.#options = options
  }

  /** Whether a log has told what an event tells. */
  hasTold(match: string): boolean {
    return this.#recent.has(match)
  }

  /** New entries of all logs, emitted and kept in mind. @param whole Also logs that seem unchanged, from their beginning. */
  async read(services: readonly Resource[], whole: boolean, signal: AbortSignal): Promise<void> {
    if (services.length > mostLogs) {
      this.#options.tell('logs', `there are ${services.length}; the first ${mostLogs} are read`)
    }
    for (const service of services.slice(0, mostLogs)) {
      if (signal.aborted) return
      try {
        await this.#readLog(service, whole, signal)
      } catch (error) {
        if (signal.aborted || (error instanceof RetryableError && error.code === 'STOPPING')) throw error
        this.#options.tell(service.path, messageOf(error))
      }
    }
  }

  async #readLog({ path, body }: Resource, whole: boolean, signal: AbortSignal): Promise<void> {
    const entries = linkOf(body.Entries)
    if (entries === undefined) return // a service that only collects dumps
    const { memory } = this.#options
    const newest = await this.#newest(path, signal)
    const cursor = memory.log(path)
    if (!whole && newest !== undefined && newest === cursor.newest) return
    const known = new Set(cursor.seen)
    const found = await this.#entries(path, entries, whole ? undefined : cursor.seen.at(-1), signal)
    const fresh = found.entries.filter((one) => !known.has(one.key))
    // Oldest first, whatever the order of the service; entries of one second keep theirs.
    const ordered = fresh.toSorted((a, b) => compare(a.timeUnixNano, b.timeUnixNano))
    const present = found.isWhole
      ? found.entries.map(({ key }) => key).filter((key) => known.has(key))
      : cursor.seen
    await this.#tell(path, ordered, present, signal)
    if (signal.aborted) return
    const last = found.entries.at(-1)?.key
    const now = { seen: lastOf(memory.log(path).seen, last), ...(newest === undefined ? {} : { newest }) }
    memory.setLog(path, now)
    // What is as it was is not written again: flash wears out.
    if (!isDeepStrictEqual(now, { ...cursor })) await memory.save()
  }

  /** Emits, then remembers, chunk by chunk. */
  async #tell(
    path: string,
    entries: readonly Entry[],
    present: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const { memory, emit, encoding } = this.#options
    memory.setLog(path, { seen: [...present] })
    for (let at = 0; at < entries.length && !signal.aborted; at += chunk) {
      const some = entries.slice(at, at + chunk)
      this.#remember(some)
      // What came as an event has been told.
      const untold = some.filter(({ match }) => !memory.takeEvent(match))
      await emitInGroups(emit, encodeEntries(untold, encoding()))
      memory.setLog(path, { seen: [...memory.log(path).seen, ...some.map(({ key }) => key)] })
      await memory.save()
    }
  }

  #remember(entries: readonly Entry[]): void {
    for (const { match } of entries) {
      this.#recent.add(match)
      if (this.#recent.size > 2000) this.#recent.delete(this.#recent.values().next().value ?? '')
    }
  }

  async #newest(path: string, signal: AbortSignal): Promise<string | undefined> {
    const where = this.#options.quirks().newestEntry
    if (!where) return undefined
    const got = await this.#options.client.get(path, signal)
    if (got.is !== 'found') return undefined
    const value = inside(got.body, ...where.slice(0, -1))[where.at(-1) ?? '']
    const time = inside(got.body, ...where.slice(0, -1))['LatestEntryTimeStamp']
    return typeof value === 'string' ? `${value} ${typeof time === 'string' ? time : ''}` : undefined
  }

  /**
   * The entries of a log. Of a long one only its end is asked for, from the last entry that is known: where that stands at
   * the same place, nothing before it has changed; else (or where `$skip` is ignored) all are read.
   */
  async #entries(path: string, at: string, last: string | undefined, signal: AbortSignal) {
    const length = this.#lengths.get(path) ?? 0
    if (last !== undefined && length > shortLog) {
      const end = await this.#pages(`${at}?$skip=${length - 1}`, path, signal)
      if (end.entries[0]?.key === last) {
        this.#lengths.set(path, length - 1 + end.entries.length)
        return { entries: end.entries, isWhole: false }
      }
    }
    const all = await this.#pages(at, path, signal)
    this.#lengths.set(path, all.isWhole ? all.entries.length : 0)
    return all
  }

  async #pages(
    first: string,
    log: string,
    signal: AbortSignal,
  ): Promise<{ entries: Entry[]; isWhole: boolean }> {
    const { client, tell } = this.#options
    const found: Entry[] = []
    const seen = new Set<string>()
    let next: string | undefined = first
    for (let page = 0; next !== undefined; page++) {
      if (page >= mostPages || found.length >= mostEntries) {
        tell(log, `the log has more than ${found.length} entries; the first are read`)
        return { entries: found, isWhole: false }
      }
      const got = await client.get(next, signal)
      if (got.is !== 'found') break
      const members = await this.#members(got.body, seen, signal)
      found.push(...members.map((one) => entryOf(one, log)))
      // A page that brings nothing new leads in a circle.
      next = members.length > 0 ? nextLink(got.body) : undefined
    }
    return { entries: found, isWhole: true }
  }

  /** Entries of a page that no page before it had; those that are links only are asked for. */
  async #members(body: Json, seen: Set<string>, signal: AbortSignal): Promise<Json[]> {
    const members: Json[] = []
    for (const one of objectsOf(body.Members)) {
      const path = linkOf(one)
      const id = path ?? JSON.stringify(one)
      if (seen.has(id)) continue
      seen.add(id)
      const isLink = path !== undefined && Object.keys(one).every((key) => key.startsWith('@odata.'))
      const got = isLink ? await this.#options.client.get(path, signal) : undefined
      if (!got) members.push(one)
      else if (got.is === 'found') members.push(got.body)
    }
    return members
  }
}

const compare = (a: bigint | undefined, b: bigint | undefined): number =>
  a === undefined || b === undefined || a === b ? 0 : a < b ? -1 : 1

/** The key of the entry that stands last in the log, last: from there the next reading goes on. */
function lastOf(seen: readonly string[], last: string | undefined): string[] {
  return last === undefined || seen.at(-1) === last
    ? [...seen]
    : [...seen.filter((one) => one !== last), last]
}
