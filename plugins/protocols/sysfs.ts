// Reading /sys: small files that hold one value each. What cannot be read is absent, whatever the driver says instead
// (ENODATA, EIO, EAGAIN, ENXIO, EOPNOTSUPP).
import { readFile, readdir, readlink } from 'node:fs/promises'
import { basename } from 'node:path'

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })
/** A file of /sys is one page at most. */
const mostText = 4096

/** Names in a folder, numbers in their order; none where there is no such folder. */
export async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).toSorted(byNumber)
  } catch {
    return []
  }
}

/** What a file says, without blanks around it; undefined where it is empty, too long or not there. */
export async function readText(path: string, most = mostText): Promise<string | undefined> {
  try {
    const read = (await readFile(path, 'utf8')).trim()
    return read === '' || read.length > most ? undefined : read
  } catch {
    return undefined
  }
}

/** A whole number in decimal, exact up to 64 bits. */
export async function readWhole(path: string): Promise<bigint | undefined> {
  const read = await readText(path, 32)
  return read !== undefined && /^-?\d{1,20}$/.test(read) ? BigInt(read) : undefined
}

/** The name of what a symbolic link points to. */
export async function linkName(path: string): Promise<string | undefined> {
  try {
    return basename(await readlink(path)) || undefined
  } catch {
    return undefined
  }
}
