// A peer whose behaviour a test decides, an outlet before it, and a log that can be killed: what the tests of sealer,
// buffer and sender stand on. The peer and the clock are the only things that are not real.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ulid } from 'ulid'
import { Outlet } from '../../collector/outlet.ts'
import type { OutletOptions } from '../../collector/outlet.ts'
import { streamKey } from '../../plugins/contract/index.ts'
import type { Batch, Exporter, Receipt } from '../../plugins/contract/index.ts'
import { nodeFileSystem, openLog } from '../../plugins/protocols/log/index.ts'
import type { Log, LogFileSystem } from '../../plugins/protocols/log/index.ts'
import { FakeClock } from '../support/clock.ts'

/** Holds what it is given until the test decides. */
export class Peer implements Exporter {
  readonly pending: { batch: Batch; answer: PromiseWithResolvers<Receipt> }[] = []
  /** Acknowledged, each (stream, seq) once, as the aggregator does it. */
  readonly accepted = new Map<string, Batch>()
  readonly order: Batch[] = []
  /** Answers at once when set. */
  behaviour: ((batch: Batch) => Receipt | Error | 'hold') | undefined

  export(batch: Batch, signal: AbortSignal): Promise<Receipt> {
    this.order.push(batch)
    const decision = this.behaviour?.(batch) ?? 'hold'
    if (decision instanceof Error) return Promise.reject(decision)
    if (decision !== 'hold') return Promise.resolve(this.#take(batch, decision))
    const answer = Promise.withResolvers<Receipt>()
    const entry = { batch, answer }
    this.pending.push(entry)
    signal.addEventListener('abort', () => {
      const at = this.pending.indexOf(entry)
      if (at >= 0) this.pending.splice(at, 1)
      answer.reject(signal.reason as Error)
    })
    return answer.promise
  }

  /** Answers those that wait; takes the batch whatever becomes of the answer. */
  answer(decide: (batch: Batch) => Receipt | Error): void {
    for (const { batch, answer } of this.pending.splice(0)) {
      const decision = decide(batch)
      if (decision instanceof Error) answer.reject(decision)
      else answer.resolve(this.#take(batch, decision))
    }
  }

  #take(batch: Batch, receipt: Receipt): Receipt {
    const key = `${streamKey(batch.header)}#${batch.header.seq}`
    if (!this.accepted.has(key)) this.accepted.set(key, batch)
    return receipt
  }

  get batches(): Batch[] {
    return [...this.accepted.values()]
  }
}

export const accept = (): Receipt => ({ rejected: 0 })

/** The file system of a process that can be killed: from then on nothing reaches the disk, and nothing comes back. */
export function mortalFileSystem(): { fs: LogFileSystem; kill: () => void } {
  let isDead = false
  const never = new Promise<never>(() => undefined)
  const live = <A extends unknown[], R>(call: (...given: A) => Promise<R>) => {
    return async (...given: A): Promise<R> => {
      if (isDead) return never
      const result = await call(...given)
      return isDead ? never : result
    }
  }
  const fs: LogFileSystem = {
    makeDirectory: live((path: string) => nodeFileSystem.makeDirectory(path)),
    list: live((path: string) => nodeFileSystem.list(path)),
    size: live((path: string) => nodeFileSystem.size(path)),
    rename: live((from: string, to: string) => nodeFileSystem.rename(from, to)),
    unlink: live((path: string) => nodeFileSystem.unlink(path)),
    syncDirectory: live((path: string) => nodeFileSystem.syncDirectory(path)),
    lock: async () => async () => undefined,
    open: live(async (path: string, mode: 'create' | 'update') => {
      const file = await nodeFileSystem.open(path, mode)
      return {
        read: live(file.read.bind(file)),
        write: live(file.write.bind(file)),
        sync: live(async () => undefined),
        truncate: live(file.truncate.bind(file)),
        close: file.close.bind(file),
      }
    }),
  }
  return { fs, kill: () => (isDead = true) }
}

const silent = {
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
}

export interface Bench extends AsyncDisposable {
  outlet: Outlet
  log: Log | undefined
  peer: Peer
  clock: FakeClock
  /** As SIGKILL: memory is gone. The next outlet has a new session. */
  crash(): Promise<void>
  /** A clean stop, then a new start. */
  restart(deadlineMs?: number): Promise<void>
}

export interface BenchOptions extends Partial<
  Pick<OutletOptions, 'limits' | 'maxStreams' | 'timeoutMs' | 'window'>
> {
  withoutLog?: boolean
  maxBytes?: number
}

export async function bench(options: BenchOptions = {}): Promise<Bench> {
  const directory = await mkdtemp(join(tmpdir(), 'dpulse-outlet-'))
  const clock = new FakeClock()
  const peer = new Peer()
  let mortal = mortalFileSystem()
  const open = async () => {
    mortal = mortalFileSystem()
    const limit = options.maxBytes === undefined ? {} : { maxBytes: options.maxBytes }
    const log = options.withoutLog
      ? undefined
      : await openLog(directory, {
          fs: mortal.fs,
          segmentBytes: 64 * 1024,
          now: () => clock.nowUnixNano(),
          ...limit,
        })
    const outlet = new Outlet({
      id: 'fleet',
      collector: 'dpu-1',
      device: 'dpu-1',
      session: ulid(),
      exporter: peer,
      log,
      clock,
      limits: options.limits ?? { memory: 32 << 20, disk: 256 << 20, ageMs: 7 * 86_400_000, spillMs: 1000 },
      timeoutMs: options.timeoutMs ?? 30_000,
      window: options.window ?? 32,
      maxStreams: options.maxStreams ?? 1000,
      logger: silent,
      random: () => 0.5,
      onOutcome: () => undefined,
      onStatusChange: () => undefined,
    })
    await outlet.open()
    outlet.ready(true)
    return { log, outlet }
  }
  const first = await open()
  const made: Bench = {
    ...first,
    peer,
    clock,
    async crash() {
      mortal.kill()
      made.outlet.ready(false)
      peer.pending.length = 0
      Object.assign(made, await open())
    },
    async restart(deadlineMs = 10_000) {
      await made.outlet.close(deadlineMs)
      await made.log?.close()
      Object.assign(made, await open())
    },
    async [Symbol.asyncDispose]() {
      made.outlet.ready(false)
      await made.outlet.close(0)
      await made.log?.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
  return made
}
