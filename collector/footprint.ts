// What the collector uses of the machine, with all that it started: CPU time and proportional memory, from /proc.
import { readFileSync, readdirSync } from 'node:fs'

/** Ticks a second of the kernel's CPU times: 100 on every Linux that Node runs on. */
const ticks = 100

/** This process and all below it. */
export function groupOf(pid: number): number[] {
  const found = [pid]
  for (let at = 0; at < found.length && found.length < 1000; at++) {
    for (const thread of list(`/proc/${found[at]}/task`)) {
      const children = read(`/proc/${found[at]}/task/${thread}/children`).trim()
      if (children !== '') found.push(...children.split(' ').map(Number))
    }
  }
  return found
}

/** Proportional set size, bytes: pages that several share count for each by its part. 0 for one that has gone. */
export function pssBytes(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) * 1024
}

/** Seconds of CPU of all threads so far. The kernel counts in ticks of 10 ms. */
export function cpuSeconds(pid: number): number {
  const stat = read(`/proc/${pid}/stat`)
  // The command stands in brackets and may hold spaces: fields are counted behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticks || 0
}

/** The same of children that have ended. */
export function endedCpuSeconds(pid: number): number {
  const stat = read(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[13] ?? 0) + Number(fields[14] ?? 0)) / ticks || 0
}

// Processes come and go: what cannot be read counts nothing.
function read(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
