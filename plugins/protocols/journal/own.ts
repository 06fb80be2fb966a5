// Which entries of the journal this program wrote itself: none of them may come in again. It is known by its service,
// and by the processes that a parent started together.
import { readFileSync } from 'node:fs'
import process from 'node:process'

const mostKnown = 1000

/** The service in which this process runs; undefined in a session or a container. */
export function ownUnit(proc = '/proc'): string | undefined {
  const unit = /([^/\n]+\.service)$/m.exec(read(`${proc}/self/cgroup`))?.[1]
  // A manager of a user's services is no service of ours.
  return unit === undefined || unit.startsWith('user@') ? undefined : unit
}

/**
 * The dpulse that started this process; undefined where a shell did. Only a parent that speaks to us is one, and what
 * else was started from a shell is not ours.
 */
export const dpulseParent = (): number | undefined => (process.connected ? process.ppid : undefined)

/** Whether an entry with this pid and unit is one of ours. */
export function isOwn(
  parentPid: number | undefined,
): (pid: string | undefined, unit: string | undefined) => boolean {
  const mine = ownUnit()
  const family = new Set([process.pid, parentPid].flatMap((pid) => (pid === undefined ? [] : [`${pid}`])))
  const known = new Map<string, boolean>()
  return (pid, unit) => {
    if (mine !== undefined && unit === mine) return true
    if (pid === undefined) return false
    if (family.has(pid)) return true
    const before = known.get(pid)
    if (before !== undefined) return before
    const stat = read(`/proc/${pid}/stat`)
    const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? ''
    // Process 1 is the parent of all that have lost theirs.
    const isSibling = parent !== '1' && parent !== '0' && family.has(parent)
    if (known.size >= mostKnown) known.clear()
    known.set(pid, isSibling)
    return isSibling
  }
}

/** As the journal has it; undefined where this machine has none. */
export function machineId(path = '/etc/machine-id'): string | undefined {
  const id = read(path).trim()
  return id === '' ? undefined : id
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
