// Where the choice of the identity is kept: one file in the data directory, shared by all programs on it.
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { IdentityMemory } from './identity.ts'

/** `<data>/identity.json`, written whole or not at all. */
export function identityFile(data: string): IdentityMemory {
  const path = join(data, 'identity.json')
  return {
    async load() {
      try {
        return await readFile(path, 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
        throw error
      }
    },
    async save(text) {
      await mkdir(data, { recursive: true })
      const fresh = `${path}.${process.pid}`
      await writeFile(fresh, text)
      await rename(fresh, path)
    },
  }
}
