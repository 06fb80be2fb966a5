// One process per log directory. Locks are files `lock.<n>` that hold pid, start time and boot of their owner; the
// highest number counts. A lock is taken by making n + 1 when the owner of n is gone or has let go, and n is removed
// only after that: so two processes that find the same dead owner cannot both win, which with a single file that is
// removed and made again they could. Processes in different pid namespaces do not see each other.
import { link, readFile, readdir, rename, unlink, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { LogError, LogLockedError, systemCode } from './errors.ts'

interface Owner {
  pid: number
  /** In clock ticks after boot: a pid may be given again, but not with the same start. */
  start: string
  boot: string
}

const ATTEMPTS = 20

export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const me: Owner = { pid: process.pid, start: (await startOf(process.pid)) ?? '', boot: await bootId() }
  const draft = join(directory, `lock-${process.pid}-${randomBytes(6).toString('hex')}`)
  await writeFile(draft, JSON.stringify(me), { mode: 0o600 })
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const mine = await take(directory, draft, me.boot)
      if (mine !== undefined) return () => release(directory, mine)
    }
    throw new LogError(`${directory} could not be locked: too many processes try to`)
  } finally {
    await discard(draft)
  }
}

/** Undefined when somebody else was faster. */
async function take(directory: string, draft: string, boot: string): Promise<string | undefined> {
  const highest = Math.max(0, ...(await numbers(directory)))
  if (highest > 0) await refuseLiving(directory, highest, boot)
  const mine = join(directory, `lock.${highest + 1}`)
  try {
    await link(draft, mine) // at once with its content
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return undefined
    throw error
  }
  // A listing made while another took over may have missed both its file and the older one: look again.
  const now = await numbers(directory)
  if (now.some((number) => number > highest + 1)) {
    await discard(mine)
    return undefined
  }
  for (const number of now) if (number <= highest) await discard(join(directory, `lock.${number}`))
  return mine
}

async function refuseLiving(directory: string, number: number, boot: string): Promise<void> {
  const owner = await ownerOf(join(directory, `lock.${number}`))
  if (owner === undefined || owner.boot !== boot) return
  if (await alive(owner)) throw new LogLockedError(directory, owner.pid)
}

/** The number stays taken, so that whoever read it as living or dead still agrees with all others on what comes next. */
async function release(directory: string, mine: string): Promise<void> {
  const draft = join(directory, `lock-${process.pid}-${randomBytes(6).toString('hex')}`)
  await writeFile(draft, '{}', { mode: 0o600 })
  await rename(draft, mine)
}

async function numbers(directory: string): Promise<number[]> {
  const found = (await readdir(directory)).map((name) => /^lock\.(\d{1,15})$/.exec(name)?.[1])
  return found.filter((digits) => digits !== undefined).map(Number)
}

/** Undefined for one that was let go, is gone, or holds nonsense (a torn write before a power loss). */
async function ownerOf(path: string): Promise<Owner | undefined> {
  try {
    const { pid, start, boot } = JSON.parse(await readFile(path, 'utf8')) as Partial<Owner>
    if (!Number.isSafeInteger(pid) || typeof start !== 'string' || typeof boot !== 'string') return undefined
    return { pid: pid as number, start, boot } // the line above has checked it
  } catch (error) {
    if (error instanceof SyntaxError || systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

async function alive(owner: Owner): Promise<boolean> {
  if (owner.start !== '') return (await startOf(owner.pid)) === owner.start
  try {
    process.kill(owner.pid, 0) // no /proc here
    return true
  } catch (error) {
    return systemCode(error) === 'EPERM'
  }
}

/** Undefined without /proc, and for a process that is gone or only waits to be reaped. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // the name before may hold anything
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

const bootId = (): Promise<string> =>
  readFile('/proc/sys/kernel/random/boot_id', 'latin1').then(
    (id) => id.trim(),
    () => '',
  )

const discard = (path: string): Promise<void> =>
  unlink(path).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error
  })
