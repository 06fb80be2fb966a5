// Asks a running aggregator (or, with --local, the collector of this machine) over HTTP, and turns what can go wrong
// into sentences that say what to do.
import { hostname, userInfo } from 'node:os'
import process from 'node:process'
import type { z } from 'zod'
import { CommandFailure } from './failure.ts'
import type { Problem } from './check.ts'

export interface AskOptions {
  portOffset: number
  /** Ask the collector on this machine. */
  local?: boolean
}

/** What the aggregator found wrong with a configuration. */
export class RefusedConfiguration extends CommandFailure {
  readonly problems: readonly Problem[]

  constructor(problems: readonly unknown[]) {
    super('the configuration has problems', 1)
    this.problems = problems as Problem[] // the same shape; the aggregator of this version made it
  }
}

export type Parameters = Record<string, string | number | readonly string[] | undefined>

/** Where questions go, for messages and requests; ends without a slash. */
export function baseUrl(options: AskOptions): string {
  const variable = options.local === true ? 'DPULSE_COLLECTOR_URL' : 'DPULSE_URL'
  const port = (options.local === true ? 8601 : 8600) + options.portOffset
  const text = process.env[variable] || `http://127.0.0.1:${port}`
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new CommandFailure(
      `${variable} is ${JSON.stringify(text)}; it takes a URL such as http://127.0.0.1:8600`,
      2,
    )
  }
  return text.replace(/\/+$/, '')
}

/** One JSON answer, checked against what the command needs of it. */
export async function ask<T extends z.ZodType>(
  options: AskOptions,
  path: string,
  parameters: Parameters,
  schema: T,
): Promise<z.output<T>> {
  const response = await send(options, 'GET', path, parameters, AbortSignal.timeout(120_000))
  return understood(options, path, schema, await bodyOf(options, response))
}

/** Asks for a change: `body` goes as JSON. @throws CommandFailure, RefusedConfiguration */
export async function change<T extends z.ZodType>(
  options: AskOptions,
  method: 'POST' | 'DELETE',
  path: string,
  parameters: Parameters,
  body: unknown,
  schema: T,
): Promise<z.output<T>> {
  const response = await request(options, method, path, parameters, AbortSignal.timeout(120_000), body)
  if (!response.ok) throw await refusal(options, path, response)
  return understood(options, path, schema, await bodyOf(options, response))
}

/** Who is at the keyboard, for those who read later who wished for what. */
export function whoAmI(): string {
  try {
    return `${userInfo().username}@${hostname()}`
  } catch {
    return hostname() // a user without a name
  }
}

/** An answer that only has to be there; `undefined` on 404. */
export async function remove(options: AskOptions, path: string): Promise<boolean> {
  const response = await request(options, 'DELETE', path, {}, AbortSignal.timeout(120_000))
  if (response.status === 404) return false
  if (!response.ok) throw await refusal(options, path, response)
  return true
}

/** An answer whatever its status, for /api/health. */
export async function askAnyStatus<T extends z.ZodType>(
  options: AskOptions,
  path: string,
  schema: T,
): Promise<z.output<T>> {
  const response = await request(options, 'GET', path, {}, AbortSignal.timeout(30_000))
  return understood(options, path, schema, await bodyOf(options, response))
}

/** A response whose body is read as it comes. */
export async function openStream(
  options: AskOptions,
  path: string,
  parameters: Parameters,
  signal: AbortSignal,
): Promise<ReadableStream<Uint8Array>> {
  const response = await send(options, 'GET', path, parameters, signal)
  if (response.body === null) throw new CommandFailure(`${baseUrl(options)}${path} answered nothing`, 1)
  return response.body
}

async function send(
  options: AskOptions,
  method: string,
  path: string,
  parameters: Parameters,
  signal: AbortSignal,
): Promise<Response> {
  for (let attempt = 1; ; attempt += 1) {
    const response = await request(options, method, path, parameters, signal)
    if (response.ok) return response
    if (response.status !== 503 || attempt === 5) throw await refusal(options, path, response)
    await response.body?.cancel()
    // The server is busy with other queries and has said when to come back.
    const seconds = Math.min(10, Number(response.headers.get('retry-after') ?? 1) || 1)
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  }
}

async function request(
  options: AskOptions,
  method: string,
  path: string,
  parameters: Parameters,
  signal: AbortSignal,
  body?: unknown,
): Promise<Response> {
  const base = baseUrl(options)
  const url = new URL(base + path)
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined) continue
    for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, String(one))
  }
  try {
    return await fetch(url, {
      method,
      signal,
      headers: {
        ...login(),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  } catch (cause) {
    throw new CommandFailure(unreachable(options, base, cause), 1, { cause })
  }
}

function login(): Record<string, string> {
  const { DPULSE_USER: user, DPULSE_PASSWORD: password } = process.env
  if (!user || password === undefined) return {}
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }
}

function unreachable(options: AskOptions, base: string, cause: unknown): string {
  if (cause instanceof Error && cause.name === 'TimeoutError') return `${base} did not answer in time`
  const inner = cause instanceof Error ? cause.cause : undefined
  const { code } = (inner ?? {}) as NodeJS.ErrnoException
  if (options.local === true) {
    return `no collector answers at ${base} (${code ?? 'no connection'}); start one with \`dpulse up\` or \`dpulse collector\`, or set DPULSE_COLLECTOR_URL`
  }
  return `no aggregator answers at ${base} (${code ?? 'no connection'}); start one with \`dpulse up\`, or set DPULSE_URL`
}

async function bodyOf(options: AskOptions, response: Response): Promise<unknown> {
  try {
    return await response.json()
  } catch (cause) {
    throw new CommandFailure(`what answers at ${baseUrl(options)} is no dpulse: it sent no JSON`, 1, {
      cause,
    })
  }
}

function understood<T extends z.ZodType>(
  options: AskOptions,
  path: string,
  schema: T,
  body: unknown,
): z.output<T> {
  const result = schema.safeParse(body)
  // The body itself, so that programs get what was answered, in its order; no schema here transforms.
  if (result.success) return body as z.output<T>
  const [issue] = result.error.issues
  const where = issue?.path.join('.') ?? ''
  throw new CommandFailure(
    `${baseUrl(options)}${path} answered something else than this version of dpulse knows (${where}: ${issue?.message ?? ''})`,
    1,
  )
}

// 400 names the parameter as the option is named.
async function refusal(options: AskOptions, path: string, response: Response): Promise<CommandFailure> {
  const text = await response.text()
  let error: { message?: unknown; parameter?: unknown; code?: unknown; problems?: unknown } = {}
  try {
    ;({ error = {} } = JSON.parse(text) as { error?: typeof error })
  } catch {
    // Not ours: the status has to do.
  }
  const message = typeof error.message === 'string' ? error.message : `status ${response.status}`
  if (response.status === 422 && Array.isArray(error.problems))
    return new RefusedConfiguration(error.problems)
  if (response.status === 400 && typeof error.parameter === 'string')
    return new CommandFailure(`--${message}`, 2)
  if (response.status === 404 && error.code !== 'NOT_FOUND' && error.code !== undefined)
    return new CommandFailure(message, 1)
  if (response.status === 404) {
    const what = options.local === true ? 'collector' : 'aggregator'
    return new CommandFailure(`the ${what} at ${baseUrl(options)} has no ${path}`, 1)
  }
  return new CommandFailure(`${baseUrl(options)}${path}: ${message}`, 1)
}
