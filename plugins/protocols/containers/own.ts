// The container in which this process runs, where it runs in one: its log is our own and must not come in again.
import { readFileSync } from 'node:fs'

const identifier = /[0-9a-f]{64}/

/** Undefined outside of containers. */
export function ownContainer(proc = '/proc'): string | undefined {
  const group = identifier.exec(read(`${proc}/self/cgroup`))
  if (group) return group[0]
  // With a control group namespace the id still shows in what the engine mounts for the container alone.
  const mounts = read(`${proc}/self/mountinfo`)
    .split('\n')
    .filter((line) => line.split(' ')[4] === '/etc/hostname')
  return identifier.exec(mounts.join('\n'))?.[0]
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
