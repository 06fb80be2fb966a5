// The part of a buffer that is in the durable log: one topic `<exporter>/<class>` for each class, and the table of
// totals. Writes are gathered into commits, one at a time; reading, forgetting and reclaiming go by the position.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Batch, Class, Clock, Header, Log as Logger } from '../plugins/contract/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import { Backlog, keyOf, readHeader } from './backlog.ts'
import type { BacklogEntry } from './backlog.ts'
import { share } from './gate.ts'
import { hold } from './held.ts'
import type { Held } from './held.ts'
import type { Stream } from './stream.ts'
import { Totals } from './totals.ts'
import type { TableSet } from './totals.ts'

export interface DiskOptions {
  exporter: string
  log: Log
  clock: Clock
  logger: Logger
  limits: { disk: number; ageMs: number }
  /** Streams of this session, for their totals. */
  streams: () => readonly Stream[]
  /** The stream of this session that a header belongs to. */
  currentStream: (header: Header) => Stream | undefined
  /** Drops a batch and counts it. */
  discard: (held: Held, reason: 'expired' | 'overflow' | 'budget') => void
  /** As what batches are counted that are dropped for room. */
  roomReason: () => 'overflow' | 'budget'
  /** Something was read, written or forgotten. */
  onChange: () => void
}

/** One commit takes so much, so that what waits behind it waits little. */
export const commitBytes = 4 * 1024 * 1024
const readLimit = { entries: 64, bytes: 1024 * 1024 }
/** Fewer batches read ahead than this make it read on. */
const fewAhead = 8
const totalsEveryMs = 60_000
const marksEveryMs = 1000
/** Of the longest age, how exactly ages of what this run wrote are known. */
const ageGrain = 0.01
/** Stamps from before this program existed tell of a clock that was not set yet, not of age. */
const clockWasSet = 1_735_689_600_000_000_000n

export class Disk {
  readonly #options: DiskOptions
  readonly #totals: Totals
  readonly #backlogs: Backlog[]
  /** Read, to be sent; those that failed first. */
  readonly #ahead: Held[][] = classes.map(() => [])
  readonly #opened: { elapsedMs: number; unixNano: bigint }
  #reclaiming = false
  #savedTotalsMs: number
  #savedMarksMs: number
  #saving: Promise<void> = Promise.resolve()

  constructor(options: DiskOptions) {
    this.#options = options
    const { log, exporter, clock } = options
    this.#totals = new Totals(log, exporter)
    this.#backlogs = classes.map(
      (name) => new Backlog(log.topic(`${exporter}/${name}`), this.#totals.mark(name)),
    )
    this.#opened = { elapsedMs: clock.elapsedMs(), unixNano: clock.nowUnixNano() }
    this.#savedTotalsMs = this.#savedMarksMs = clock.elapsedMs()
  }

  /** Finds what the rows of the table do not know of the log: at most what one commit held. */
  async open(): Promise<void> {
    for (const name of classes) {
      const { topic, entries } = this.#backlog(name)
      for (let from = Math.max(this.#totals.mark(name)?.scanned ?? 0, topic.first); from < topic.next;) {
        const read = await topic.read(from, readLimit)
        for (const { key, value } of read) {
          const header = readHeader(value)
          if (header) this.#totals.amend(header)
          for (const mark of key.split(' ').slice(1)) this.#totals.marked(mark)
        }
        const last = read.at(-1)
        if (!last) break
        from = last.offset + 1
      }
      if (entries === 0) this.#totals.drained(name)
    }
  }

  get ended() {
    return this.#totals.ended()
  }

  get held() {
    return this.#totals.held()
  }

  get bytes(): number {
    return this.#backlogs.reduce((sum, { topic }) => sum + topic.bytes, 0)
  }

  /** Batches that are not done. */
  get entries(): number {
    return this.#backlogs.reduce((sum, { entries }) => sum + entries, 0)
  }

  hasRoom(name: Class, bytes: number): boolean {
    return this.bytes + bytes <= this.#options.limits.disk * share(name)
  }

  /** Writes batches with the totals of their streams. @throws LogError where nothing of it is kept. */
  async write(chosen: readonly Held[]): Promise<void> {
    const append = chosen.map((held) => ({
      topic: this.#backlog(held.stream.class).topic.name,
      key: keyOf(held.batch, held.marks),
      value: held.batch.bytes,
    }))
    const offsets = await this.#options.log.commit({ append, set: this.#rowsWith(chosen) })
    for (const [index, held] of chosen.entries()) this.#written(held, offsets[index] ?? 0)
  }

  hasMark(key: string): boolean {
    return this.#totals.hasMark(key)
  }

  forgetMark(key: string): void {
    this.#totals.forgetMark(key)
  }

  /** A batch left memory: the log alone has it now. */
  leave(held: Held): void {
    this.#backlog(held.stream.class).leave(held.offset)
  }

  /** The next of a class; reads on when few are left. */
  take(name: Class): Held | undefined {
    const ahead = this.#aheadOf(name)
    const backlog = this.#backlog(name)
    if (ahead.length < fewAhead && backlog.waiting > 0 && !backlog.isReading) void this.#readAhead(name)
    const nowMs = this.#options.clock.elapsedMs()
    const index = ahead.findIndex((held) => held.notBeforeMs <= nowMs)
    const held = index < 0 ? undefined : ahead.splice(index, 1)[0]
    if (held) held.state = 'sending'
    return held
  }

  giveBack(held: Held): void {
    held.state = 'retry'
    this.#aheadOf(held.stream.class).unshift(held)
  }

  retryDueMs(nowMs: number): number {
    let due = Infinity
    for (const ahead of this.#ahead) {
      for (const held of ahead) if (held.notBeforeMs > nowMs) due = Math.min(due, held.notBeforeMs)
    }
    return due
  }

  /** A batch that the log has was delivered or dropped. True when nothing more is left of its class. */
  done(stream: Stream, offset: number, inMemory: () => Iterable<Held>): boolean {
    const backlog = this.#backlog(stream.class)
    backlog.done(offset)
    if (!stream.current) this.#totals.changed(stream)
    if (backlog.entries > 0) return false
    this.#finishClass(stream.class, inMemory)
    return true
  }

  /** Writes totals and positions when that is due; when it is due again. */
  tick(nowMs: number): number {
    const moved = this.#backlogs.some(({ isDirty }) => isDirty)
    if (nowMs - this.#savedTotalsMs >= totalsEveryMs) {
      this.#savedTotalsMs = this.#savedMarksMs = nowMs
      for (const name of classes) this.#expire(name)
      void this.save()
    } else if (moved && nowMs - this.#savedMarksMs >= marksEveryMs) {
      this.#savedMarksMs = nowMs
      void this.save()
    }
    return moved ? this.#savedMarksMs + marksEveryMs : this.#savedTotalsMs + totalsEveryMs
  }

  /** While nothing can be sent, what got too old is dropped all the same. */
  #expire(name: Class): void {
    const ahead = this.#aheadOf(name)
    const old = ahead.filter((held) => this.#isExpired(held))
    if (old.length > 0) this.#ahead[rank[name]] = ahead.filter((held) => !old.includes(held))
    for (const held of old) this.#options.discard(held, 'expired')
    const backlog = this.#backlog(name)
    if (old.length === ahead.length && backlog.waiting > 0 && !backlog.isReading) void this.#readAhead(name)
  }

  /** Totals and positions to the log's table, room back to the disk. `begin` is called when it begins, its result when it ended. */
  save(begin?: () => () => void): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      const end = begin?.()
      await this.#save()
      end?.()
    })
    return this.#saving
  }

  async #save(): Promise<void> {
    const { log, logger, streams } = this.#options
    const sets = this.#totals.due(streams())
    for (const name of classes) {
      const backlog = this.#backlog(name)
      if (backlog.isDirty) sets.push(this.#totals.markSet(name, backlog.mark()))
    }
    try {
      if (sets.length > 0) await log.commit({ set: sets })
      for (const { canTruncate, topic, position } of this.#backlogs) {
        if (canTruncate) await topic.truncate(position)
      }
    } catch (error) {
      this.#totals.again(sets)
      logger.warn('totals and positions of the buffer could not be written', { error })
    }
  }

  /** Drops the oldest of the least precious class, down to `name`, until there is room for one more commit, or some. */
  async reclaim(name: Class): Promise<void> {
    if (this.#reclaiming) return
    this.#reclaiming = true
    try {
      const target = this.bytes - Math.min(commitBytes, this.#options.limits.disk / 8)
      for (const victim of [...classes].reverse()) {
        const { next } = this.#backlog(victim).topic
        while (this.bytes > target) {
          const front = this.#triedInFront(victim)
          if (front && front.offset < next) await this.#moveBack(front)
          else if (!(await this.#dropOldest(victim, this.bytes - target))) break
          await this.save()
        }
        if (victim === name) break
      }
    } catch (error) {
      this.#options.logger.error('no room could be made in the buffer', { error })
    } finally {
      this.#reclaiming = false
      this.#options.onChange()
    }
  }

  /** A batch that was tried is never dropped for room, and the log gives room back from its front only. */
  #triedInFront(name: Class): Held | undefined {
    const { front } = this.#backlog(name)
    return front && front.attempts > 0 ? front : undefined
  }

  /** Writes a batch again at the end of its topic, and is done with it in front, in one commit. */
  async #moveBack(held: Held): Promise<void> {
    const { clock, limits, log } = this.#options
    const { batch, marks, offset: before } = held
    const name = held.stream.class
    const backlog = this.#backlog(name)
    const append = [{ topic: backlog.topic.name, key: keyOf(batch, marks), value: batch.bytes }]
    held.writing = true
    try {
      const set = [this.#totals.markSet(name, backlog.mark(before))]
      const [offset = 0] = await log.commit({ append, set })
      backlog.written(offset, held, clock.elapsedMs(), limits.ageMs * ageGrain)
      if (held.settled) return backlog.done(offset)
      held.offset = offset
      backlog.done(before)
    } finally {
      held.writing = false
    }
  }

  #backlog(name: Class): Backlog {
    return this.#backlogs[rank[name]] as Backlog // one for each class, since the constructor
  }

  #aheadOf(name: Class): Held[] {
    return this.#ahead[rank[name]] as Held[] // as above
  }

  #rowsWith(chosen: readonly Held[]): TableSet[] {
    const extra = new Map<Stream, { records: number; seq: number }>()
    for (const { stream, batch } of chosen) {
      const { records, seq } = extra.get(stream) ?? { records: 0, seq: 0 }
      const { header } = batch
      extra.set(stream, { records: records + header.count, seq: Math.max(seq, header.seq) })
    }
    // Before how far the log was read: where only a part of this is written, the entries are looked at again.
    const sets = this.#totals.markRows(chosen.flatMap(({ marks }) => marks))
    sets.push(...this.#totals.rows(extra.keys(), extra))
    for (const name of new Set(chosen.map(({ stream }) => stream.class))) {
      sets.push(this.#totals.markSet(name, this.#backlog(name).mark()))
    }
    return sets
  }

  #written(held: Held, offset: number): void {
    const { stream, batch } = held
    const backlog = this.#backlog(stream.class)
    held.writing = false
    backlog.written(offset, held, this.#options.clock.elapsedMs(), this.#options.limits.ageMs * ageGrain)
    stream.spilledSeq = Math.max(stream.spilledSeq, batch.header.seq)
    if (held.settled) return backlog.done(offset) // acknowledged while it was written
    held.offset = offset
    stream.onDisk += batch.header.count
    held.safe?.()
    held.safe = undefined
  }

  async #readAhead(name: Class): Promise<void> {
    try {
      const found = await this.#read(name)
      this.#aheadOf(name).push(...found) // to the list that there is by now
    } catch (error) {
      return this.#options.logger.error('the log of the buffer could not be read', { error })
    }
    this.#options.onChange()
  }

  /** Entries that are neither done nor in memory, without those that are too old. */
  async #read(name: Class): Promise<Held[]> {
    const backlog = this.#backlog(name)
    const list: Held[] = []
    for (const found of await backlog.read(readLimit)) {
      const held = this.#fromEntry(found)
      if (this.#isExpired(held)) this.#options.discard(held, 'expired')
      else list.push(held)
    }
    if (backlog.damaged && backlog.entries === 0) this.#finishClass(name, () => [])
    return list
  }

  #fromEntry({ header, offset, entry }: BacklogEntry): Held {
    const [key] = entry.key.split(' ')
    const signal = key === 'metrics' || key === 'traces' ? key : 'logs'
    const batch: Batch = { header, signal, bytes: entry.value }
    const sinceMs = this.#sinceMs(header.class, offset, entry.appendedUnixNano)
    const stream = this.#options.currentStream(header) ?? this.#totals.oldStream(header)
    const held = hold(batch, stream, sinceMs, { offset })
    this.#backlog(header.class).took(offset, held)
    return held
  }

  #isExpired(held: Held): boolean {
    return this.#options.clock.elapsedMs() - held.sinceMs > this.#options.limits.ageMs
  }

  /**
   * Since when the log has an entry, by the monotonic clock. The stamp of the wall clock counts only for what earlier
   * runs wrote, and only as it looked when this one began: a clock that is set meanwhile makes nothing older.
   */
  #sinceMs(name: Class, offset: number, appendedUnixNano: bigint): number {
    const { clock, limits } = this.#options
    const written = this.#backlog(name).writtenMs(offset)
    // It tells the beginning of a while, and nothing may be dropped too early.
    if (written !== undefined) return Math.min(clock.elapsedMs(), written + limits.ageMs * ageGrain)
    if (appendedUnixNano < clockWasSet) return this.#opened.elapsedMs
    const ageMs = Number((this.#opened.unixNano - appendedUnixNano) / 1_000_000n)
    return this.#opened.elapsedMs - Math.max(0, ageMs)
  }

  /** Nothing of a class is left in the log: what its streams still miss there is what the log lost. */
  #finishClass(name: Class, inMemory: () => Iterable<Held>): void {
    const backlog = this.#backlog(name)
    if (backlog.damaged) {
      backlog.damaged = false
      const left = new Map<Stream, number>()
      for (const { stream } of inMemory()) left.set(stream, (left.get(stream) ?? 0) + 1)
      for (const stream of [...this.#options.streams(), ...this.#totals.old]) {
        if (stream.class !== name || stream.onDisk <= 0) continue
        const lost = stream.loseRest(left.get(stream) ?? 0)
        this.#totals.changed(stream)
        this.#options.logger.error('the log of the buffer lost records', {
          device: stream.device,
          class: name,
          lost,
        })
      }
    }
    this.#totals.drained(name)
  }

  /** Drops the oldest of a class that were not tried, as many as hold so many bytes. False where there are none. */
  async #dropOldest(name: Class, toFree: number): Promise<boolean> {
    const isUntried = ({ attempts }: Held): boolean => attempts === 0
    const backlog = this.#backlog(name)
    while (!this.#aheadOf(name).some(isUntried) && backlog.waiting > 0 && !backlog.isReading) {
      const found = await this.#read(name)
      this.#aheadOf(name).push(...found)
    }
    const dropped = new Set<Held>()
    let left = toFree
    for (const held of this.#aheadOf(name)) {
      if (left <= 0) break
      if (!isUntried(held)) continue
      dropped.add(held)
      left -= held.bytes
    }
    this.#ahead[rank[name]] = this.#aheadOf(name).filter((held) => !dropped.has(held))
    for (const held of dropped) this.#options.discard(held, this.#options.roomReason())
    return dropped.size > 0
  }
}
