// Reading /sys: small files that hold one value each. What cannot be read is absent, whatever the driver says instead
// (ENODATA, EIO, EAGAIN, ENXIO, EOPNOTSUPP).
//
// The kernel has nearly all of it in memory, so that a read takes microseconds where a trip to a thread and back takes ten
// times as much; whoever reads many files calls `rest` in between. Sensors behind slow buses are read otherwise (hwmon.ts).
import { closeSync, openSync, readSync, readdirSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })
/** A file of /sys is one page at most. */
const page = Buffer.alloc(4096)
let reads = 0
const readsATurn = 200

/** Lets others have their turn, where much was read since the last time. */
export async function rest(): Promise<void> {
  if (reads < readsATurn) return
  reads = 0
  await nextTurn()
}

/** Names in a folder, numbers in their order; none where there is no such folder. */
export function listFolder(folder: string): string[] {
  reads++
  try {
    return readdirSync(folder).toSorted(byNumber)
  } catch {
    return []
  }
}

/** What a file says, without blanks around it; undefined where it is empty, too long or not there. */
export function readText(path: string, most = page.length): string | undefined {
  reads++
  let file: number | undefined
  try {
    file = openSync(path, 'r')
    const read = page.toString('utf8', 0, readSync(file, page, 0, page.length, null)).trim()
    return read === '' || read.length > most ? undefined : read
  } catch {
    return undefined
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

/** A whole number in decimal, exact up to 64 bits. */
export function readWhole(path: string): bigint | undefined {
  const read = readText(path, 32)
  return read !== undefined && /^-?\d{1,20}$/.test(read) ? BigInt(read) : undefined
}

/** The name of what a symbolic link points to. */
export function linkName(path: string): string | undefined {
  reads++
  try {
    return basename(readlinkSync(path)) || undefined
  } catch {
    return undefined
  }
}
