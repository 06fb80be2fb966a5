// What a program prints, as records: run again and again, or once and for all, read line by line as it goes on. The
// program is started without a shell, with an environment of its own, and ends with everything that it started.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import * as z from 'zod'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { PermanentError, RetryableError } from '../contract/errors.ts'
import { Secret, duration, secret, size } from '../contract/settings.ts'
import { FormatDecoder, formats, jsonKeys } from '../protocols/records/formats.ts'

const config = z.strictObject({
  command: z
    .array(z.string().max(4096))
    .min(1)
    .max(200)
    .describe('Program and arguments; no shell is in between.'),
  mode: z
    .enum(['interval', 'stream'])
    .default('interval')
    .describe(
      '`interval` runs it again and again; `stream` keeps it running and reads its lines as they come.',
    ),
  format: z
    .enum(formats)
    .exclude(['otlp'])
    .default('line_protocol')
    .describe('What it prints; `json` is one document or one a line, OTLP/JSON included.'),
  name: z
    .string()
    .max(200)
    .default('')
    .describe(
      'Begins the names of metrics that JSON makes, and is the service.name; else the id of the source.',
    ),
  interval: duration
    .refine((ms) => ms >= 100, 'expected 100ms or more')
    .prefault('1m')
    .describe('Time between runs; in stream mode, before it is started again after it ended.'),
  timeout: duration.prefault('30s').describe('A run that takes longer is ended; not in stream mode.'),
  environment: z
    .record(z.string().regex(/^[A-Za-z_]\w*$/), z.union([z.string(), secret]))
    .default({})
    .describe('Variables for it, beside PATH, HOME, LANG and TZ; values may be secrets.'),
  directory: z.string().startsWith('/').default('/').describe('Where it runs.'),
  max_output: size
    .prefault('4MiB')
    .refine((bytes) => bytes >= 1024 && bytes <= 64 * 1024 ** 2, 'expected 1KiB to 64MiB')
    .describe('Most that a run may print; in stream mode, the longest line.'),
  ...jsonKeys,
})
type Config = z.output<typeof config>

/** What of stderr is told when it fails. */
const mostSaid = 2000
/** Between asking it to end and ending it. */
const graceMs = 1000
const inherited = ['PATH', 'HOME', 'LANG', 'TZ'] as const
const newline = 0x0a

export default defineSource({
  name: 'exec',
  summary: 'What a program prints: line protocol, JSON or text.',
  config,
  signals: ['metrics', 'logs', 'traces'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  detect: async () => ({ leftOut: 'only a configuration says which programs to run' }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const service = config.name || context.id
  const decoder = new FormatDecoder(
    {
      scope: 'exec',
      format: config.format,
      service,
      messageKeys: config.message_keys,
      counters: config.counters,
      signal: 'logs',
    },
    context,
  )
  const take = async (output: Buffer): Promise<void> => {
    const { records, refused, reason, class: name } = decoder.take(output, service)
    if (refused > 0) {
      context.dropped(name, 'invalid', refused)
      context.log.warn('output was refused', { command: config.command[0], count: refused, reason })
    }
    await Promise.all(records.map((one) => emit(one)))
  }
  context.ready(config.command.join(' '))
  await context.clock.every(config.interval, signal, async () => {
    const reason = await new Run(config, signal).read(take)
    if (reason !== undefined && !signal.aborted)
      context.log.warn('the program failed', { command: config.command.join(' ').slice(0, 200), reason })
  })
}

/** One run of the program. */
class Run {
  readonly #config: Config
  readonly #signal: AbortSignal
  #said = ''
  #reason: string | undefined

  constructor(config: Config, signal: AbortSignal) {
    this.#config = config
    this.#signal = signal
  }

  /** Gives its output to `take`; why it failed, where it did. */
  async read(take: (output: Buffer) => Promise<void>): Promise<string | undefined> {
    const { command, directory, environment, mode, timeout } = this.#config
    const [program = '', ...rest] = command
    const child = spawn(program, rest, {
      cwd: directory,
      env: environmentOf(environment),
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own, so that what it started ends with it.
      detached: true,
    })
    const ended = Promise.withResolvers<string | undefined>()
    child.on('error', (error) => ended.resolve(`it cannot be started: ${error.message}`))
    child.on('close', (code, by) => ended.resolve(code === 0 ? undefined : `it ended with ${by ?? code}`))
    child.stderr.on(
      'data',
      (chunk: Buffer) => (this.#said = (this.#said + chunk.toString()).slice(-mostSaid)),
    )
    const stop = (): void => void end(child)
    this.#signal.addEventListener('abort', stop, { once: true })
    if (this.#signal.aborted) stop()
    const late =
      mode === 'interval'
        ? setTimeout(() => this.#fail(child, `no end within ${timeout} ms`), timeout)
        : undefined
    try {
      await this.#output(child, take)
      const reason = this.#reason ?? (await ended.promise)
      return reason === undefined
        ? undefined
        : `${reason}${this.#said === '' ? '' : `: ${this.#said.trim()}`}`
    } finally {
      clearTimeout(late)
      this.#signal.removeEventListener('abort', stop)
      await end(child)
    }
  }

  /** All of it at its end, or in stream mode whole lines as they come; not read on before they are safe. */
  async #output(child: ChildProcess, take: (output: Buffer) => Promise<void>): Promise<void> {
    const { mode, max_output: most } = this.#config
    let held: Buffer[] = []
    let size = 0
    try {
      for await (const chunk of (child.stdout ?? []) as AsyncIterable<Buffer>) {
        const last = mode === 'stream' ? chunk.lastIndexOf(newline) + 1 : 0
        if (last > 0) {
          await take(Buffer.concat([...held, chunk.subarray(0, last)]))
          held = []
          size = 0
        }
        held.push(chunk.subarray(last))
        size += chunk.length - last
        if (size <= most) continue
        this.#fail(child, `${mode === 'stream' ? 'a line' : 'an output'} of more than ${most} bytes`)
        held = []
        size = 0
      }
    } catch (error) {
      if (error instanceof RetryableError || error instanceof PermanentError || !isClosed(error)) throw error
    }
    if (size > 0 && this.#reason === undefined && !this.#signal.aborted) await take(Buffer.concat(held))
  }

  #fail(child: ChildProcess, reason: string): void {
    this.#reason ??= reason
    void end(child)
  }
}

const isClosed = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE'

function environmentOf(given: Config['environment']): NodeJS.ProcessEnv {
  const kept = inherited.flatMap((name) =>
    process.env[name] === undefined ? [] : [[name, process.env[name]]],
  )
  const own = Object.entries(given).map(([name, value]) => [
    name,
    value instanceof Secret ? value.reveal() : value,
  ])
  return Object.fromEntries([...kept, ...own]) as NodeJS.ProcessEnv
}

/** Asks the program and all that it started to end, then ends them. */
async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined) return
  const isRunning = child.exitCode === null && child.signalCode === null
  const ended = isRunning ? once(child, 'exit') : undefined
  signalGroup(child.pid, 'SIGTERM')
  if (ended) {
    const timer = setTimeout(() => signalGroup(child.pid ?? 0, 'SIGKILL'), graceMs)
    await ended
    clearTimeout(timer)
  }
  // What it left behind would keep its output open.
  child.stdout?.destroy()
  child.stderr?.destroy()
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // Nobody of it is left.
  }
}
