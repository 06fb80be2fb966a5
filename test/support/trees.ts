// Trees of files for tests of sources that read /sys and /proc: from JSON, path to content, `-> target` for a link.
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import * as z from 'zod'

/** The root of the tree, which goes with the test. */
export async function plantTree(files: Readonly<Record<string, string>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'dpulse-tree-'))
  onTestFinished(() => rm(root, { recursive: true }))
  for (const [path, content] of Object.entries(files)) {
    const at = join(root, path)
    await mkdir(dirname(at), { recursive: true })
    if (content.startsWith('-> ')) await symlink(content.slice(3), at)
    else await writeFile(at, `${content}\n`)
  }
  return root
}

/** A tree of `test/fixtures`. */
export async function treeOf(fixture: string): Promise<Record<string, string>> {
  const text = await readFile(join(import.meta.dirname, '../fixtures', fixture), 'utf8')
  return z.record(z.string(), z.string()).parse(JSON.parse(text))
}
