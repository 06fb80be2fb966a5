// The buffer before an exporter: memory first, the durable log for what was not acknowledged within `spill`, for what
// memory has no room for, and at a stop. Each batch is exactly once in memory's lanes, read ahead, or left to the log.
// A batch leaves only by `settle`, where what is lost of it is counted.
import { classes, rank } from '../plugins/contract/index.ts'
import type { Class, Clock, DropReason, Header, Log as Logger } from '../plugins/contract/index.ts'
import { LogFullError } from '../plugins/protocols/log/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'
import { Disk, commitBytes } from './disk.ts'
import { letGo } from './held.ts'
import type { Answer, Held } from './held.ts'
import { Lane } from './lane.ts'
import type { Stream } from './stream.ts'

export interface BufferLimits {
  /** Bytes of batches in memory; may change while it runs. */
  readonly memory: number
  /** Bytes in the log; 0 keeps everything in memory. */
  disk: number
  /** Older batches are dropped as `expired`. */
  ageMs: number
  /** A batch that is not acknowledged by then goes to the log; 0 writes each first. */
  spillMs: number
}

export interface BufferOptions {
  exporter: string
  /** Undefined keeps everything in memory. */
  log: Log | undefined
  limits: BufferLimits
  clock: Clock
  logger: Logger
  streams: () => readonly Stream[]
  currentStream: (header: Header) => Stream | undefined
  /** For how long the peer has taken nothing of what it should. */
  peerSilentMs: () => number
  /** As what batches are counted that are dropped for room. */
  roomReason: () => 'overflow' | 'budget'
  /** Something can be sent, or there is room. */
  onChange: () => void
  /** What is held of earlier sessions changed. */
  onHeldChange: () => void
}

/** A younger batch stays in memory although the log has it: it is about to be sent. */
const freshMs = 1000
const retryDiskMs = 1000
const answerMs = 20
/** With a silent peer: so that batches which come together share a commit. */
const silentSpillMs = 10
/** How soon to look again whether the disk has room. */
const fullDiskMs = 100

export class BatchBuffer {
  readonly #options: BufferOptions
  readonly #lanes = classes.map(() => new Lane())
  readonly #disk: Disk | undefined
  #written: Promise<boolean> | undefined
  #diskRetryMs = 0
  /** Batches that are to be written before anyone sends them. */
  #first: Held[] = []
  /** Of sources whose records were dropped, until the count of them is on disk. */
  #toAnswer: Answer[] = []
  readonly #stopped = new AbortController()
  /** Of sealed batches of this session in memory. */
  memoryBytes = 0
  /** Times that the log had no room or could not be written. */
  diskRefusals = 0

  constructor(options: BufferOptions) {
    this.#options = options
    const { log, limits } = options
    if (!log || limits.disk === 0) return
    const discard = (held: Held, reason: DropReason) => this.discard(held, reason)
    const onChange = () => {
      this.#diskRetryMs = 0
      options.onChange()
    }
    this.#disk = new Disk({ ...options, log, discard, onChange })
  }

  async open(): Promise<void> {
    await this.#disk?.open()
  }

  get ended() {
    return this.#disk?.ended ?? []
  }

  get held() {
    return this.#disk?.held ?? []
  }

  get diskBytes(): number {
    return this.#disk?.bytes ?? 0
  }

  get diskBatches(): number {
    return this.#disk?.entries ?? 0
  }

  /** Whether the log has a batch with that mark, or had one. */
  hasMark(key: string): boolean {
    return this.#disk?.hasMark(key) ?? false
  }

  /** What the mark is of is held nowhere else any more. */
  forgetMark(key: string): void {
    this.#disk?.forgetMark(key)
  }

  /** Nothing of this session is in memory. */
  get isDrained(): boolean {
    return this.memoryBytes === 0
  }

  add(held: Held): void {
    this.memoryBytes += held.bytes
    if (held.marks.length > 0 && this.#disk) this.#first.push(held)
    else this.#lane(held.stream.class).add(held)
  }

  /**
   * When a batch is to go to the log, from its sealing. While the peer takes nothing, hoping for `spill` again with each
   * batch would only slow down sources that wait for it.
   */
  get spillAfterMs(): number {
    const { limits, peerSilentMs } = this.#options
    return peerSilentMs() > limits.spillMs ? Math.min(limits.spillMs, silentSpillMs) : limits.spillMs
  }

  hasFresh(name: Class): boolean {
    return this.#lane(name).hasNext(this.#options.clock.elapsedMs())
  }

  takeFresh(name: Class): Held | undefined {
    const held = this.#lane(name).take(this.#options.clock.elapsedMs())
    if (held) held.state = 'sending'
    return held
  }

  /** The next of what the log alone has. Where it must be read first, `onChange` says when it is there. */
  takeBacklog(name: Class): Held | undefined {
    return this.#disk?.take(name)
  }

  /** An attempt failed; there will be another. */
  giveBack(held: Held): void {
    if (held.fromLog) this.#disk?.giveBack(held)
    else this.#lane(held.stream.class).giveBack(held)
  }

  /** When the next batch that waits for its time may be tried again. */
  retryDueMs(nowMs: number): number {
    let due = this.#disk?.retryDueMs(nowMs) ?? Infinity
    for (const lane of this.#lanes) due = Math.min(due, lane.retryDueMs(nowMs))
    return due
  }

  /** A batch is done with: so many of its records are lost for the reason, the peer has the others. */
  settle(held: Held, lost: number, reason: DropReason): void {
    if (held.settled) return
    const { stream, offset } = held
    held.settled = true
    if (!held.writing) letGo(held)
    held.state = 'gone'
    if (!held.fromLog) this.memoryBytes -= held.bytes
    stream.settle(held.batch.header, lost, reason, offset >= 0)
    if (held.safe) {
      // A source is told of a loss when the count of it outlives a crash.
      if (lost > 0 && this.#disk) this.#answerOnceKept(this.#disk, held.safe)
      else held.safe()
      held.safe = undefined
    }
    if (offset < 0) return
    const isLast = this.#disk?.done(stream, offset, () => this.#lane(stream.class))
    if (isLast && !stream.current) this.#options.onHeldChange()
  }

  /** Many at once, and not all the time: each is a write to the disk. */
  #answerOnceKept(disk: Disk, answer: Answer): void {
    this.#toAnswer.push(answer)
    if (this.#toAnswer.length > 1) return
    const save = () => this.#saveAndAnswer(disk)
    this.#options.clock.delay(answerMs, this.#stopped.signal).then(save, () => undefined)
  }

  #saveAndAnswer(disk: Disk): Promise<void> {
    return disk.save(() => {
      const answers = this.#toAnswer
      this.#toAnswer = []
      return () => answers.forEach((answer) => answer())
    })
  }

  /** Drops and counts a batch; totals that only it told are told again. */
  discard(held: Held, reason: DropReason): void {
    this.settle(held, held.batch.header.count, reason)
    if (held.batch.header.count === 0) held.stream.forgetTold()
  }

  /** An attempt is about to be made with it: whether it is too old for that. */
  isExpired(held: Held): boolean {
    return this.#options.clock.elapsedMs() - held.sinceMs > this.#options.limits.ageMs
  }

  /**
   * Makes room in memory for records that cannot wait: first what the log has, then the oldest of the least precious
   * class, down to the class itself.
   */
  makeRoom(name: Class, isEnough: () => boolean): boolean {
    for (const lane of this.#lanes) lane.eachToEvict(Infinity, (held) => this.#evict(held))
    for (const victim of [...classes].reverse()) {
      const lane = this.#lane(victim)
      for (let held = lane.oldestIdle(); held && !isEnough(); held = lane.oldestIdle()) {
        this.discard(held, this.#options.roomReason())
      }
      if (victim === name) break
    }
    return isEnough()
  }

  /** Writes, leaves to the log and drops what is due; when the next is due. */
  tick(): number {
    const { clock, limits } = this.#options
    const nowMs = clock.elapsedMs()
    const keepMs = Math.max(freshMs, limits.spillMs)
    const spillMs = this.spillAfterMs
    const disk = this.#disk
    let spillDue = this.#first.some(({ writing }) => !writing) ? nowMs : Infinity
    let evictDue = Infinity
    for (const lane of this.#lanes) {
      for (let old = lane.oldestIdle(); old && this.isExpired(old); old = lane.oldestIdle()) {
        this.discard(old, 'expired')
      }
      if (!disk) continue
      lane.eachToEvict(this.#isShort ? Infinity : nowMs - keepMs, (held) => this.#evict(held))
      spillDue = Math.min(spillDue, lane.spillDueMs(this.#isShort ? 0 : spillMs))
      evictDue = Math.min(evictDue, lane.evictDueMs(keepMs))
    }
    if (!disk) return Infinity
    if (spillDue <= nowMs) {
      if (!this.#written && nowMs >= this.#diskRetryMs) void this.#spill(false)
      // Its end calls `onChange`, which ticks again; a refusal names its own time.
      spillDue = this.#written ? Infinity : Math.max(this.#diskRetryMs, nowMs + 1)
    }
    return Math.min(spillDue, evictDue, disk.tick(nowMs))
  }

  /** At a stop: whatever is in memory goes to the log, and the totals with it. What the log refuses is dropped. */
  async spillAll(): Promise<void> {
    const disk = this.#disk
    for (let more = disk !== undefined; more;) {
      await this.#written
      more = await this.#spill(true)
    }
    for (const list of [this.#first, ...this.#lanes]) {
      for (const held of list) {
        if (held.offset >= 0) continue
        held.safe?.(new Error('the buffer could not keep it at the stop'))
        held.safe = undefined
        this.discard(held, 'overflow')
      }
    }
    this.#stopped.abort()
    if (disk) await this.#saveAndAnswer(disk)
  }

  get #isShort(): boolean {
    return this.memoryBytes > this.#options.limits.memory / 2
  }

  #lane(name: Class): Lane {
    return this.#lanes[rank[name]] as Lane // one for each class
  }

  #evict(held: Held): void {
    letGo(held)
    this.memoryBytes -= held.bytes
    this.#disk?.leave(held)
  }

  /** True when it wrote something. One at a time: the batches that come meanwhile are the next commit. */
  async #spill(all: boolean): Promise<boolean> {
    this.#written = this.#spillOnce(all)
    try {
      return await this.#written
    } finally {
      this.#written = undefined
      this.#options.onChange()
    }
  }

  async #spillOnce(all: boolean): Promise<boolean> {
    const { clock, logger } = this.#options
    const disk = this.#disk
    const nowMs = clock.elapsedMs()
    const chosen = disk
      ? this.#choose(disk, all || this.#isShort ? Infinity : nowMs - this.spillAfterMs, all)
      : []
    if (!disk || chosen.length === 0) return false
    try {
      await disk.write(chosen)
      for (const held of this.#first) if (held.offset >= 0) this.#evict(held)
      this.#first = this.#first.filter(({ state }) => state !== 'gone')
      return true
    } catch (error) {
      for (const held of chosen) held.writing = false
      for (const lane of this.#lanes) lane.respill()
      this.#diskRetryMs = nowMs + retryDiskMs
      this.diskRefusals++
      if (error instanceof LogFullError) logger.warn('the disk has no room for the buffer', { error })
      else logger.error('the buffer could not be written to the disk', { error })
      if (chosen.some(({ mayWait }) => !mayWait)) void disk.reclaim('event')
      return false
    }
  }

  #choose(disk: Disk, untilMs: number, all: boolean): Held[] {
    const chosen: Held[] = []
    let bytes = 0
    const choose = (held: Held): boolean => {
      const { class: name } = held.stream
      if (bytes > 0 && bytes + held.bytes > commitBytes) return false
      if (!disk.hasRoom(all ? 'event' : name, bytes + held.bytes)) {
        this.diskRefusals++
        this.#diskRetryMs = this.#options.clock.elapsedMs() + fullDiskMs
        if (!held.mayWait) void disk.reclaim(name)
        return false
      }
      bytes += held.bytes
      held.writing = true
      chosen.push(held)
      return true
    }
    for (const held of this.#first) if (!held.writing && !choose(held)) break
    for (const name of classes) this.#lane(name).eachToSpill(untilMs, choose)
    return chosen
  }
}
