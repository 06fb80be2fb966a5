// A disk in memory for the tests of the durable log. What was written and what is on disk are kept apart; it can
// fail at a chosen operation, and crash at one: then nothing works any more, and `afterCrash` gives the disk that the
// next start finds, with some of what was not synced gone, cut in the middle, or never written inside its length.
import { basename } from 'node:path'
import type { LogFile, LogFileSystem } from '../../../plugins/protocols/log/index.ts'

type Change = { at: number; data: Buffer } | { truncate: number }
type NameChange = { remove?: string; add?: string; inode?: Inode }

interface Inode {
  written: Buffer
  synced: Buffer
  /** Since the last sync. */
  pending: Change[]
  /** Pieces whose sync failed: the kernel may believe that they are clean. */
  doubtful: { at: number; length: number }[]
}

export interface Fault {
  kind: 'write' | 'sync' | 'truncate' | 'create' | 'rename' | 'unlink' | 'syncDirectory' | 'read'
  code: string
  /** So many of this kind go well first. */
  after: number
  times: number
}

const SECTOR = 512

export class SimulatedDisk implements LogFileSystem {
  names = new Map<string, Inode>()
  operations = 0
  /** Counted in operations that change something. */
  crashAt = Infinity
  crashed = false
  fault: Fault | undefined
  written = 0
  #synced = new Map<string, Inode>()
  #pending: NameChange[] = []
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = random(seed)
  }

  async makeDirectory(): Promise<void> {
    this.#step('create')
  }

  async list(): Promise<string[]> {
    return [...this.names.keys()]
  }

  async size(path: string): Promise<number> {
    return this.#inode(path).written.length
  }

  async lock(): Promise<() => Promise<void>> {
    return async () => undefined
  }

  async open(path: string, mode: 'create' | 'update'): Promise<LogFile> {
    await turn()
    const name = basename(path)
    if (mode === 'create') {
      this.#step('create')
      if (this.names.has(name)) throw failure('EEXIST')
      const inode = { written: Buffer.alloc(0), synced: Buffer.alloc(0), pending: [], doubtful: [] }
      this.names.set(name, inode)
      this.#pending.push({ add: name, inode })
    }
    return this.#file(this.#inode(path))
  }

  async rename(from: string, to: string): Promise<void> {
    await turn()
    this.#step('rename')
    const inode = this.#inode(from)
    this.names.delete(basename(from))
    this.names.set(basename(to), inode)
    this.#pending.push({ remove: basename(from), add: basename(to), inode })
  }

  async unlink(path: string): Promise<void> {
    await turn()
    this.#step('unlink')
    this.#inode(path)
    this.names.delete(basename(path))
    this.#pending.push({ remove: basename(path) })
  }

  async syncDirectory(): Promise<void> {
    await turn()
    this.#step('syncDirectory')
    this.#synced = new Map(this.names)
    this.#pending = []
  }

  /** The process was killed, the kernel lives: what was written is seen, and is as little on disk as before. */
  afterKill(): SimulatedDisk {
    this.crashed = true // for what the killed one had under way
    const next = new SimulatedDisk(Math.floor(this.#random() * 2 ** 31))
    const copies = new Map<Inode, Inode>()
    const copy = (inode: Inode): Inode => {
      const made = copies.get(inode) ?? { ...inode, pending: [...inode.pending] }
      copies.set(inode, made)
      return made
    }
    const copyAll = (names: Map<string, Inode>): Map<string, Inode> =>
      new Map([...names].map(([name, inode]) => [name, copy(inode)]))
    next.names = copyAll(this.names)
    next.#synced = copyAll(this.#synced)
    next.#pending = this.#pending.map((change) =>
      change.inode === undefined ? change : { ...change, inode: copy(change.inode) },
    )
    return next
  }

  /** Power was lost: what the next start finds. */
  afterCrash(): SimulatedDisk {
    const next = new SimulatedDisk(Math.floor(this.#random() * 2 ** 31))
    const names = new Map(this.#synced)
    for (const { remove, add, inode } of this.#pending) {
      if (this.#random() < 0.5) continue
      if (remove !== undefined) names.delete(remove)
      if (add !== undefined && inode !== undefined) names.set(add, inode)
    }
    for (const [name, inode] of names) {
      const content = this.#crashed(inode)
      next.names.set(name, { written: content, synced: content, pending: [], doubtful: [] })
    }
    next.#synced = new Map(next.names)
    return next
  }

  #file(inode: Inode): LogFile {
    return {
      read: async (into, position) => {
        await turn()
        this.#check('read')
        return inode.written.copy(into, 0, position, position + into.length)
      },
      write: async (buffers, position) => {
        await turn()
        const data = Buffer.concat(buffers)
        const apply = (bytes: Buffer): void => {
          inode.written = overwrite(inode.written, position, bytes)
          trust(inode, position, bytes.length) // written again, so dirty again
          inode.pending.push({ at: position, data: bytes })
          this.written += bytes.length
        }
        this.#step('write', () => apply(data.subarray(0, Math.floor(this.#random() * data.length))))
        apply(data)
      },
      sync: async () => {
        await turn()
        this.#step('sync', () => {
          for (const change of inode.pending) {
            if ('data' in change) inode.doubtful.push({ at: change.at, length: change.data.length })
            else trust(inode, change.truncate, Infinity)
          }
        })
        inode.synced = this.#withoutDoubtful(inode)
        inode.pending = []
      },
      truncate: async (bytes) => {
        await turn()
        this.#step('truncate')
        inode.written = Buffer.from(inode.written.subarray(0, bytes))
        inode.pending.push({ truncate: bytes })
        trust(inode, bytes, Infinity)
      },
      close: async () => undefined,
    }
  }

  /** A sync after one that failed says yes, although the pages may never have got to the disk. */
  #withoutDoubtful(inode: Inode): Buffer {
    const content = Buffer.from(inode.written)
    for (const { at, length } of inode.doubtful)
      if (this.#random() < 0.5) content.subarray(at, at + length).fill(0)
    return content
  }

  #crashed(inode: Inode): Buffer {
    let content = inode.synced
    const kept = Math.floor(this.#random() * (inode.pending.length + 1))
    for (const [index, change] of inode.pending.entries()) {
      if (index > kept || (index === kept && this.#random() < 0.3)) break
      if ('truncate' in change) {
        if (index < kept) content = content.subarray(0, change.truncate)
        continue
      }
      const whole = index < kept
      const cut = whole ? change.data.length : Math.floor(this.#random() * change.data.length)
      if (!whole && this.#random() < 0.5) {
        // The length was written, the sectors behind some point were not.
        const from = Math.max(0, Math.floor((change.at + cut) / SECTOR) * SECTOR - change.at)
        const data = Buffer.from(change.data).fill(0, from)
        if (data.length - from >= SECTOR) content = overwrite(content, change.at, data)
        continue
      }
      content = overwrite(content, change.at, change.data.subarray(0, cut))
    }
    return Buffer.from(content)
  }

  /** Counts an operation that changes something; `partly` is done of it when it is the one that crashes or fails. */
  #step(kind: Fault['kind'], partly: () => void = () => undefined): void {
    if (this.crashed) throw failure('EIO')
    if (++this.operations >= this.crashAt) {
      if (kind === 'write') partly()
      this.crashed = true
      throw failure('EIO')
    }
    this.#check(kind, partly)
  }

  #check(kind: Fault['kind'], partly: () => void = () => undefined): void {
    if (this.crashed) throw failure('EIO')
    const { fault } = this
    if (fault?.kind !== kind || fault.after-- > 0) return
    if (fault.times-- <= 0) return
    partly()
    throw failure(fault.code)
  }

  #inode(path: string): Inode {
    const inode = this.names.get(basename(path))
    if (inode === undefined) throw failure('ENOENT')
    return inode
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const failure = (code: string): Error => Object.assign(new Error(`simulated ${code}`), { code })

/** Takes [from, from + length) out of what is doubtful. */
function trust(inode: Inode, from: number, length: number): void {
  const to = from + length
  inode.doubtful = inode.doubtful.flatMap(({ at, length }) =>
    [
      { at, length: Math.min(at + length, from) - at },
      { at: Math.max(at, to), length: at + length - Math.max(at, to) },
    ].filter((piece) => piece.length > 0),
  )
}

function overwrite(content: Buffer, at: number, data: Buffer): Buffer {
  const result = Buffer.alloc(Math.max(content.length, at + data.length))
  content.copy(result)
  data.copy(result, at)
  return result
}

/** mulberry32: the same seed crashes in the same way. */
export function random(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
