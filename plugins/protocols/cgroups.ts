// What a control group uses, from the files of version 2 (Documentation/admin-guide/cgroup-v2.rst), of version 1, or of
// both side by side as systemd mounts them.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { integer, parseNumbers } from './proc.ts'
import type { ProcFiles } from './proc.ts'

/** What could be read; whole numbers as the kernel counts them. */
export interface GroupUse {
  /** Microseconds. */
  readonly userMicro: bigint | undefined
  readonly systemMicro: bigint | undefined
  readonly memory: bigint | undefined
  readonly tasks: bigint | undefined
  readonly read: bigint | undefined
  readonly written: bigint | undefined
}

export class Cgroups {
  readonly #files: ProcFiles
  readonly #root: string

  constructor(files: ProcFiles, root: string) {
    this.#files = files
    this.#root = root
  }

  /** Of a group by its path from the root, such as `/system.slice/ssh.service`. */
  use(path: string): GroupUse {
    const cpu = parseNumbers(this.#first(path, ['', 'unified'], 'cpu.stat') ?? '')
    const nano = (name: string): bigint | undefined => {
      const value = integer(this.#first(path, ['cpuacct', 'cpu,cpuacct'], name))
      return value === undefined ? undefined : value / 1000n
    }
    const [read, written] = this.#io(path)
    return {
      userMicro: cpu.get('user_usec') ?? nano('cpuacct.usage_user'),
      systemMicro: cpu.get('system_usec') ?? nano('cpuacct.usage_sys'),
      memory:
        integer(this.#first(path, [''], 'memory.current')) ??
        integer(this.#first(path, ['memory'], 'memory.usage_in_bytes')),
      tasks: integer(this.#first(path, ['', 'pids'], 'pids.current')),
      read,
      written,
    }
  }

  /** Paths of the groups of services that hold a process, without the help of systemd. */
  services(): string[] {
    const found = new Set<string>()
    for (const tree of ['', 'unified', 'systemd']) {
      const slice = join(this.#root, tree, 'system.slice')
      for (const name of list(slice).filter((one) => one.endsWith('.service'))) {
        if (this.#isPopulated(join(slice, name))) found.add(`/system.slice/${name}`)
      }
    }
    return [...found]
  }

  #isPopulated(folder: string): boolean {
    const events = this.#peek(join(folder, 'cgroup.events'))
    if (events !== undefined) return /^populated 1$/m.test(events)
    return (this.#peek(join(folder, 'cgroup.procs')) ?? '') !== ''
  }

  // Version 2: `8:0 rbytes=1 wbytes=2 …`; version 1: `8:0 Read 1`.
  #io(path: string): [bigint | undefined, bigint | undefined] {
    const two = this.#first(path, [''], 'io.stat')
    if (two !== undefined) return [sum(two, /\brbytes=(\d+)/g), sum(two, /\bwbytes=(\d+)/g)]
    const one = this.#first(path, ['blkio'], 'blkio.throttle.io_service_bytes')
    return one === undefined
      ? [undefined, undefined]
      : [sum(one, /^\S+ Read (\d+)/gm), sum(one, /^\S+ Write (\d+)/gm)]
  }

  #first(path: string, trees: readonly string[], file: string): string | undefined {
    for (const tree of trees) {
      const text = this.#peek(join(this.#root, tree, path, file))?.trim()
      if (text !== undefined) return text
    }
    return undefined
  }

  // Controllers that are not switched on have no files; groups come and go.
  #peek(path: string): string | undefined {
    try {
      return this.#files.peek(path)
    } catch {
      return undefined
    }
  }
}

const sum = (text: string, numbers: RegExp): bigint =>
  [...text.matchAll(numbers)].reduce((total, [, digits]) => total + (integer(digits) ?? 0n), 0n)

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
