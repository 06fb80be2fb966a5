// Programs of the machine that a source asks for what no file says: bounded in time and in what they may print.
import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import { PermanentError, RetryableError } from '../contract/index.ts'

export interface AskOptions {
  readonly timeoutMs: number
  readonly mostBytes: number
  readonly signal: AbortSignal
}

/** What a program prints. @throws PermanentError where it is missing, RetryableError where it fails. */
export function ask(program: string, parameters: readonly string[], options: AskOptions): Promise<string> {
  const { timeoutMs, mostBytes, signal } = options
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const settings = {
    timeout: timeoutMs,
    killSignal: 'SIGKILL' as const,
    maxBuffer: mostBytes,
    signal,
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', SYSTEMD_COLORS: '0', SYSTEMD_PAGER: '' },
  }
  execFile(program, [...parameters], settings, (cause, stdout, stderr) => {
    if (cause === null) return resolve(stdout)
    if (signal.aborted) return reject(signal.reason as Error)
    if (cause.code === 'ENOENT') {
      return reject(
        new PermanentError('LIBRARY_MISSING', `the program ${program} is not installed`, { cause }),
      )
    }
    // The message of `cause` repeats the command and all that it printed.
    const printed = stderr
      .trim()
      .replaceAll(/\s*\n\s*/g, ' ')
      .slice(0, 300)
    const reason =
      cause.killed === true ? `no answer within ${timeoutMs} ms` : printed || `exit code ${cause.code}`
    reject(new RetryableError('PEER_REFUSED', `${program}: ${reason}`))
  })
  return promise
}

/** Whether a program is on the path. */
export function isInstalled(program: string): boolean {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(delimiter)
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
