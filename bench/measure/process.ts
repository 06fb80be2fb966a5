// What a process costs, read from /proc: CPU time of all its threads, memory, and the same of all that it started.
import { readFileSync, readdirSync } from 'node:fs'

/** Seconds of CPU (user and system, all threads) so far. The kernel counts in ticks of 10 ms. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  // The command stands in brackets and may hold spaces: fields are counted behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** It and all that it started, and they, as long as they run. */
export function familyOf(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    // Whoever is gone meanwhile has none.
    const list = unlessGone(() => readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1')) ?? ''
    return list.split(' ').filter(Boolean).map(Number)
  })
  return [pid, ...children.flatMap((child) => unlessGone(() => familyOf(child)) ?? [])]
}

/** Seconds of CPU of all that a process started, of those that ended as well. */
export function helperCpuSeconds(pid: number): number {
  const seconds = familyOf(pid).map((one) => {
    const stat = unlessGone(() => readFileSync(`/proc/${one}/stat`, 'latin1')) ?? ''
    const fields = stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number)
    const ended = (fields[13] ?? 0) + (fields[14] ?? 0)
    return (ended + (one === pid ? 0 : (fields[11] ?? 0) + (fields[12] ?? 0))) / 100
  })
  return seconds.reduce((sum, one) => sum + one, 0)
}

/** Proportional set size of a process and of all that it started: pages that several share count once. */
export function familyBytes(pid: number): number {
  const sizes = familyOf(pid).map((one) => {
    const rollup = unlessGone(() => readFileSync(`/proc/${one}/smaps_rollup`, 'latin1')) ?? ''
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024
  })
  return sizes.reduce((sum, one) => sum + one, 0)
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}

/** Largest resident set so far, bytes. */
export function peakBytes(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
  return Number(line?.[1] ?? 0) * 1024
}

/** The lines of one table; the first row is the head. */
export function alignedTable(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  return rows.map((row) => {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
    )
    return cells.join('  ').trimEnd()
  })
}

export function printTable(rows: readonly (readonly string[])[]): void {
  process.stdout.write(`${alignedTable(rows).join('\n')}\n`)
}
