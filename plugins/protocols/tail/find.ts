// Which files a list of patterns names: regular ones, the first by name, without what rotation made of others.
import { glob, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { isCompressed, isRotationOf } from './rotated.ts'

export interface Found {
  readonly paths: string[]
  /** How many more there are than are wanted. */
  readonly left: number
}

/** A search looks at no more; a pattern that names more is a mistake. */
const mostLookedAt = 20_000
/** Paths are kept in the checkpoint. */
export const longestPath = 512

const magic = /[*?[\]{}!]/

export async function findFiles(options: {
  include: readonly string[]
  exclude: readonly string[]
  most: number
  signal: AbortSignal
}): Promise<Found> {
  const all = new Set<string>()
  for (const pattern of options.include) {
    if (!magic.test(pattern)) {
      all.add(pattern)
      continue
    }
    for await (const path of glob(pattern, { exclude: [...options.exclude] })) {
      if (options.signal.aborted || all.size >= mostLookedAt) break
      all.add(path)
    }
  }
  const byFolder = Map.groupBy(all, (path) => dirname(path))
  const paths: string[] = []
  for (const path of [...all].toSorted()) {
    if (path.length > longestPath || isCompressed(path)) continue
    const name = basename(path)
    const folder = byFolder.get(dirname(path)) ?? []
    // In a folder of thousands of files looking for each one's origin would take longer than reading them.
    if (
      folder.length <= 1000 &&
      folder.some((other) => other !== path && isRotationOf(name, basename(other)))
    )
      continue
    if (await isFile(path)) paths.push(path)
  }
  return { paths: paths.slice(0, options.most), left: Math.max(0, paths.length - options.most) }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
