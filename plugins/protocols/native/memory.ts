// Gives memory that was freed back to the system: glibc keeps it for later, and what a flood took would count for ever.
import type { LibraryHandle } from 'koffi'

/** `malloc_trim`; undefined where libc has none (musl gives memory back by itself) or cannot be called. */
export async function loadTrim(): Promise<(() => void) | undefined> {
  try {
    const { default: koffi } = await import('koffi')
    const library: LibraryHandle = koffi.load(null)
    const trim = library.func('int malloc_trim(size_t)') as (keep: number) => number
    return () => void trim(0)
  } catch {
    return undefined
  }
}
