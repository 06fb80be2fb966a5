// Runs `dpulse …` as a process of its own, as a person would, and gives back what it printed and how it ended.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import process from 'node:process'

export const root = resolve(import.meta.dirname, '../..')

/** The system's own Node, where it is older than the one that is pinned. */
export const oldNode = (process.env.PATH ?? '')
  .split(delimiter)
  .concat('/usr/bin', '/usr/local/bin')
  .map((folder) => join(folder, 'node'))
  .find((path) => existsSync(path) && isOld(execFileSync(path, ['--version'], { encoding: 'utf8' })))

function isOld(version: string): boolean {
  const [major = 0, minor = 0] = version.slice(1).split('.').map(Number)
  return major >= 20 && (major < 24 || (major === 24 && minor < 12))
}

export interface Ended {
  stdout: string
  stderr: string
  code: number | null
}

export interface RunOptions {
  /** Without it nothing answers. */
  url?: string
  environment?: NodeJS.ProcessEnv
  /** The program and what stands before the arguments; `node dpulse.ts` unless given. */
  command?: readonly [string, ...string[]]
  /** What it reads; nothing unless given. */
  input?: string
  /** Ends it with SIGTERM once this is on stdout. */
  until?: (stdout: string) => boolean
}

export async function dpulse(line: readonly string[], options: RunOptions): Promise<Ended> {
  const [command, ...before] = options.command ?? [process.execPath, resolve(root, 'dpulse.ts')]
  const child = spawn(command, [...before, ...line], {
    cwd: root,
    stdio: ['pipe', 'pipe', 'pipe'],
    // Port 9 of loopback: nothing answers there.
    env: {
      ...process.env,
      DPULSE_URL: options.url ?? 'http://127.0.0.1:9',
      NO_COLOR: '1',
      ...options.environment,
    },
  })
  // It may be gone before it has read.
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    if (options.until?.(stdout) === true) child.kill('SIGTERM')
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { stdout, stderr, code }
}
