// The console's questions to the HTTP API of the server that it came from, and whether that server answers.
import { setText } from './dom.ts'

export type Parameters = Record<string, string | number | readonly string[] | undefined>

export function pathOf(path: string, parameters: Parameters): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined || value === '') continue
    for (const one of Array.isArray(value) ? value : [value]) search.append(name, String(one))
  }
  const text = search.toString()
  return text === '' ? path : `${path}?${text}`
}

/** The answer, or undefined when there is none; what is wrong then stands at the foot of the page until it works. */
export async function ask<T>(
  path: string,
  parameters: Parameters,
  signal: AbortSignal,
): Promise<T | undefined> {
  try {
    const response = await fetch(pathOf(path, parameters), {
      signal: AbortSignal.any([signal, AbortSignal.timeout(90_000)]),
    })
    const body: unknown = await response.json()
    if (!response.ok && path !== '/api/health')
      throw new Error(messageOf(body) ?? `status ${response.status}`)
    trouble(path, undefined)
    return body as T // the same version serves this page and its answers
  } catch (error) {
    if (signal.aborted) return undefined
    const offline = error instanceof TypeError
    const message = error instanceof Error ? error.message : String(error)
    trouble(path, offline ? 'The aggregator does not answer. Trying again…' : message)
    return undefined
  }
}

const troubles = new Map<string, string>()

function trouble(path: string, message: string | undefined): void {
  if (message === undefined) troubles.delete(path)
  else troubles.set(path, message)
  show()
}

/** A view that goes takes its troubles with it. */
export function forgetTroubles(): void {
  troubles.clear()
  show()
}

function show(): void {
  const box = document.querySelector<HTMLElement>('#trouble')
  if (box === null) return
  const messages = [...new Set(troubles.values())]
  box.hidden = messages.length === 0
  setText(box, messages.join(' '))
}

function messageOf(body: unknown): string | undefined {
  const { error } = (body ?? {}) as { error?: { message?: unknown } }
  return typeof error?.message === 'string' ? error.message : undefined
}
