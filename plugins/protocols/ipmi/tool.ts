// ipmitool as a helper that stays: its shell holds one session with the BMC, and is asked one question after the other.
//
//   → sdr elist full⏎            ← ipmitool> sdr elist full⏎ (an echo)  DPU_Temp,44,degrees C,…⏎  "ipmitool> "
//
// The password goes by its environment, never by its arguments, which every user of the machine can read.
import { spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { PermanentError, RetryableError } from '../../contract/errors.ts'
import type { Secret } from '../../contract/settings.ts'

export interface ToolOptions {
  readonly program: string
  /** Absent for the BMC of this machine, through its device. */
  readonly host: string | undefined
  readonly port: number
  readonly interface: 'lanplus' | 'lan' | 'open'
  readonly username: string | undefined
  readonly password: Secret | undefined
  readonly privilege: string
  readonly cipherSuite: number | undefined
  readonly timeoutMs: number
}

const prompt = 'ipmitool> '
const mostOutput = 8 * 1024 * 1024
const mostErrors = 4096
/** What it says when the password is wrong, the user unknown or the privilege too low. */
const refusal = /RAKP \d|unauthorized|invalid (user|role|password)|privilege|insufficient/i
const noDevice = /Could not open device at/i

export class Ipmitool {
  readonly #options: ToolOptions
  #child: ChildProcessWithoutNullStreams | undefined
  #output = ''
  #errors = ''
  #waiting: PromiseWithResolvers<string> | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #ended = false

  constructor(options: ToolOptions) {
    this.#options = options
  }

  /**
   * The lines that a command prints; none where the BMC does not know it.
   * @throws RetryableError where the BMC does not answer in time; PermanentError where it refuses us or ipmitool is missing.
   */
  ask(command: string, signal: AbortSignal): Promise<string[]> {
    const answer = this.#turn.then(() => this.#ask(command, signal))
    this.#turn = answer.catch(() => undefined)
    return answer
  }

  /** What it has said on its other channel since the last question: why something failed. */
  get complaints(): string {
    return this.#errors.trim()
  }

  /** Ends the helper; it closes its session first where it still can. */
  async close(): Promise<void> {
    this.#ended = true
    const child = this.#child
    if (!child) return
    child.stdin.end('exit\n')
    const timer = setTimeout(() => child.kill('SIGKILL'), 1000)
    await new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) resolve(undefined)
      else child.once('close', resolve)
    })
    clearTimeout(timer)
  }

  async #ask(command: string, signal: AbortSignal): Promise<string[]> {
    if (this.#ended || signal.aborted) throw new RetryableError('STOPPING', 'the program is stopping')
    const child = this.#child ?? (await this.#start(signal))
    this.#errors = ''
    const answer = this.#prompted(child, command, signal)
    child.stdin.write(`${command}\n`)
    const text = await answer
    // The first line is the echo of the command.
    return text
      .split('\n')
      .slice(1)
      .map((line) => line.trimEnd())
      .filter((line) => line !== '')
  }

  async #start(signal: AbortSignal): Promise<ChildProcessWithoutNullStreams> {
    const { program, password } = this.#options
    const environment = {
      PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      TZ: 'UTC',
      TERM: 'dumb',
      // A home of its own would be searched for, and written to with its table of makers.
      HOME: '/nonexistent',
      ...(password === undefined ? {} : { IPMITOOL_PASSWORD: password.reveal() }),
    }
    const child = spawn(program, argumentsOf(this.#options), {
      env: environment,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child = child
    this.#output = ''
    this.#errors = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => this.#heard(text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-mostErrors)
    })
    child.stdin.on('error', () => undefined) // it ended; `close` tells
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const missing = cause.code === 'ENOENT'
      const told = missing ? `${program} is not installed (Debian: ipmitool)` : `${program} cannot be started`
      this.#gone(child, new PermanentError('LIBRARY_MISSING', told, { cause }))
    })
    child.once('close', () => this.#gone(child, this.#reason()))
    await this.#prompted(child, 'the session', signal)
    return child
  }

  /** What stands before the next prompt. */
  async #prompted(child: ChildProcessWithoutNullStreams, what: string, signal: AbortSignal): Promise<string> {
    const waiting = Promise.withResolvers<string>()
    this.#waiting = waiting
    const { timeoutMs, host = 'this machine' } = this.#options
    const giveUp = (error: Error) => {
      this.#gone(child, error)
      child.kill('SIGKILL')
    }
    const timer = setTimeout(
      () =>
        giveUp(
          new RetryableError(
            'PEER_TIMEOUT',
            `no answer of the BMC of ${host} to ${what} within ${timeoutMs / 1000} s`,
          ),
        ),
      timeoutMs,
    )
    const stop = () => giveUp(new RetryableError('STOPPING', 'the program is stopping'))
    signal.addEventListener('abort', stop, { once: true })
    try {
      this.#heard('')
      return await waiting.promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    }
  }

  #heard(text: string): void {
    this.#output += text
    if (this.#output.length > mostOutput) {
      const child = this.#child
      if (!child) return
      this.#gone(
        child,
        new PermanentError('INPUT_TOO_LARGE', `ipmitool said more than ${mostOutput} characters`),
      )
      child.kill('SIGKILL')
      return
    }
    if (!this.#waiting || !this.#output.endsWith(prompt)) return
    const answer = this.#output.slice(0, -prompt.length)
    this.#output = ''
    this.#waiting.resolve(answer)
    this.#waiting = undefined
  }

  #gone(child: ChildProcessWithoutNullStreams, why: Error): void {
    if (this.#child === child) this.#child = undefined
    this.#waiting?.reject(why)
    this.#waiting = undefined
  }

  #reason(): Error {
    const { host = 'this machine', username } = this.#options
    const told =
      this.#errors
        .trim()
        .split('\n')
        .findLast((line) => /error|unable|could not|rakp|invalid/i.test(line)) ?? ''
    const because = told === '' ? '' : `: ${told.slice(0, 200)}`
    if (refusal.test(this.#errors)) {
      return new PermanentError('PEER_REFUSED', `the BMC of ${host} refuses the user ${username}${because}`)
    }
    if (noDevice.test(this.#errors)) {
      return new PermanentError(
        'PERMISSION_DENIED',
        `the BMC of this machine cannot be opened: ipmitool needs /dev/ipmi0, and the right to it${because}`,
      )
    }
    return new RetryableError('PEER_UNREACHABLE', `no session with the BMC of ${host}${because}`)
  }
}

/** CSV with all columns (`-c -v`), the password from the environment (`-E`). */
function argumentsOf({ host, port, username, privilege, cipherSuite, ...options }: ToolOptions): string[] {
  const given = ['-c', '-v', '-I', options.interface]
  if (host !== undefined) {
    given.push('-H', host, '-p', String(port), '-L', privilege, '-E', '-N', '2', '-R', '3')
    if (username !== undefined) given.push('-U', username)
    if (cipherSuite !== undefined) given.push('-C', String(cipherSuite))
  }
  return [...given, 'shell']
}
