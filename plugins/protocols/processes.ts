// Processes of this machine as /proc shows them: which ones are meant, and what each uses. Whole numbers stay exact.
import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import { RE2JS } from 're2js'
import { selects } from './proc-selection.ts'
import { integer, parseNumbers } from './proc.ts'
import type { ProcFiles } from './proc.ts'

/** How a group of processes is found; exactly one of them. */
export interface ProcessWanted {
  readonly name: string
  readonly pid_file?: string | undefined
  readonly executable?: string | undefined
  readonly command?: string | undefined
  readonly cgroup?: string | undefined
}

interface Candidate {
  readonly pid: number
  readonly comm: string
  /** Arguments joined by blanks; empty for threads of the kernel. */
  readonly command: string
  readonly program: string
}

export interface ProcessUse {
  readonly pid: number
  readonly program: string
  /** Seconds. */
  readonly user: number
  readonly system: number
  readonly startTicks: bigint
  readonly minorFaults: bigint | undefined
  readonly majorFaults: bigint | undefined
  readonly threads: bigint | undefined
  readonly resident: bigint | undefined
  readonly virtual: bigint | undefined
  readonly voluntary: bigint | undefined
  readonly involuntary: bigint | undefined
  /** Undefined without the right to know: CAP_SYS_PTRACE, or to be the same user. */
  readonly read: bigint | undefined
  readonly written: bigint | undefined
  readonly descriptors: bigint | undefined
}

/** Clock ticks a second, fixed for user space on every Linux architecture. */
export const ticksPerSecond = 100
/** Longest command line that a pattern is held against. */
const commandLength = 4096

type Test = (one: Candidate, read: (file: string) => string | undefined) => boolean

function testOf({ executable, command, cgroup }: ProcessWanted): Test {
  const matches = (pattern: string) => selects({ include: [pattern], exclude: [] })
  if (executable !== undefined) {
    const isWanted = matches(executable)
    // The kernel keeps only fifteen characters of a name.
    return ({ comm, program }) => isWanted(program) || isWanted(comm)
  }
  if (command !== undefined) {
    const pattern = RE2JS.compile(command)
    return (one) => one.command !== '' && pattern.test(one.command)
  }
  const isWanted = matches(cgroup ?? '')
  // NUMBER:CONTROLLERS:PATH; one line with version 2, one for each hierarchy with version 1.
  return (_, read) =>
    [...(read('cgroup') ?? '').matchAll(/^\d+:[^:]*:(.*)$/gm)].some(([, path = '']) => isWanted(path))
}

/** Finds the processes of each group, anew each time: they come and go. */
export class ProcessFinder {
  readonly #files: ProcFiles
  readonly #proc: string
  readonly #wanted: { wanted: ProcessWanted; test: Test }[]

  constructor(files: ProcFiles, proc: string, wanted: readonly ProcessWanted[]) {
    this.#files = files
    this.#proc = proc
    this.#wanted = wanted.map((one) => ({ wanted: one, test: testOf(one) }))
  }

  /** Pids by name of the group, each group the oldest pids first; a group without a process is empty. */
  find(): Map<string, number[]> {
    const found = new Map<string, number[]>(this.#wanted.map(({ wanted }) => [wanted.name, []]))
    const byLook = this.#wanted.filter(({ wanted }) => wanted.pid_file === undefined)
    for (const { wanted } of this.#wanted) {
      const pid = wanted.pid_file === undefined ? undefined : this.#pidIn(wanted.pid_file)
      if (pid !== undefined) found.get(wanted.name)?.push(pid)
    }
    if (byLook.length === 0) return found
    for (const pid of this.#pids()) {
      const one = this.#look(pid)
      if (one === undefined) continue
      const read = (file: string) => this.#peek(pid, file)
      for (const { wanted, test } of byLook) if (test(one, read)) found.get(wanted.name)?.push(pid)
    }
    return found
  }

  /** What a process uses; undefined when it has gone. */
  use(pid: number): ProcessUse | undefined {
    const stat = this.#peek(pid, 'stat')
    const one = this.#look(pid)
    // After the name, which may hold blanks and brackets, fields are counted from the third.
    const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
    const field = (number: number) => integer(fields?.[number - 3])
    const startTicks = field(22)
    if (one === undefined || startTicks === undefined) return undefined
    const status = this.#status(pid)
    const io = parseNumbers((this.#peek(pid, 'io') ?? '').replaceAll(':', ''))
    return {
      pid,
      program: one.program,
      user: Number(field(14) ?? 0n) / ticksPerSecond,
      system: Number(field(15) ?? 0n) / ticksPerSecond,
      startTicks,
      minorFaults: field(10),
      majorFaults: field(12),
      threads: field(20),
      resident: kib(status.get('VmRSS')),
      virtual: kib(status.get('VmSize')),
      voluntary: integer(status.get('voluntary_ctxt_switches')),
      involuntary: integer(status.get('nonvoluntary_ctxt_switches')),
      read: io.get('read_bytes'),
      written: io.get('write_bytes'),
      descriptors: this.#descriptors(pid),
    }
  }

  #pidIn(path: string): number | undefined {
    try {
      const pid = Number(this.#files.peek(path).trim().split('\n')[0])
      return Number.isSafeInteger(pid) && pid > 0 && this.#peek(pid, 'stat') !== undefined ? pid : undefined
    } catch (error) {
      // A service that is not running has none.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#files.tell(path, error)
      return undefined
    }
  }

  #pids(): number[] {
    return readdirSync(this.#proc)
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .toSorted((a, b) => a - b)
  }

  #look(pid: number): Candidate | undefined {
    const line = this.#peek(pid, 'cmdline')
    if (line === undefined) return undefined
    const command = line.replaceAll('\0', ' ').trim().slice(0, commandLength)
    const comm = this.#peek(pid, 'comm')?.trim() ?? ''
    const first = line.slice(0, commandLength).split('\0')[0] ?? ''
    return { pid, comm, command, program: first === '' ? comm : basename(first) }
  }

  #status(pid: number): Map<string, string> {
    const lines = (this.#peek(pid, 'status') ?? '').split('\n')
    return new Map(
      lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
    )
  }

  #descriptors(pid: number): bigint | undefined {
    try {
      return BigInt(readdirSync(`${this.#proc}/${pid}/fd`).length)
    } catch {
      return undefined
    }
  }

  // A process that has gone, or that belongs to someone else, has no such file.
  #peek(pid: number, file: string): string | undefined {
    try {
      return this.#files.peek(`${this.#proc}/${pid}/${file}`)
    } catch {
      return undefined
    }
  }
}

const kib = (text: string | undefined): bigint | undefined => {
  const value = integer(text?.split(' ')[0])
  return value === undefined ? undefined : value * 1024n
}
