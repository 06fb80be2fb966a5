// The files that this process writes: its own log, what an exporter writes. None of them may be read, or each line
// that is read would make another.
import { fstatSync, readFileSync, readdirSync } from 'node:fs'

const accessMode = 3
const readOnly = 0

/** Device and inode of a file, as one text. */
export const fileKey = ({ dev, ino }: { dev: number; ino: number }): string => `${dev}:${ino}`

/** Keys of the files that this process has open for writing. */
export function ownFiles(): Set<string> {
  const keys = new Set<string>()
  for (const name of descriptors()) {
    try {
      const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, 'latin1'))?.[1]
      const stat = fstatSync(Number(name))
      if (stat.isFile() && (parseInt(flags ?? '0', 8) & accessMode) !== readOnly) keys.add(fileKey(stat))
    } catch {
      // Closed in the meantime.
    }
  }
  return keys
}

function descriptors(): string[] {
  try {
    return readdirSync('/proc/self/fd')
  } catch {
    return ['1', '2']
  }
}
