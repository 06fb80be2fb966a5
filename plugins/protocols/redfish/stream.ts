// The stream of server-sent events of a BMC, connected for as long as it may be: again after it broke, from where it was.
import { createParser } from 'eventsource-parser'
import type { EventSourceMessage } from 'eventsource-parser'
import { PermanentError, messageOf } from '../../contract/errors.ts'
import type { Clock, Log } from '../../contract/define.ts'
import type { RedfishClient } from './client.ts'
import { isJson } from './json.ts'
import type { Json } from './json.ts'

export interface StreamOptions {
  readonly client: RedfishClient
  readonly clock: Clock
  readonly log: Log
  /** The path that the service gives. */
  readonly path: string
  readonly lastEventId: () => string | undefined
  /** Takes one payload; resolves when what it tells is safe. The next one waits. */
  readonly take: (payload: Json, id: string | undefined) => Promise<void>
  /** The stream is open: what came before is in the logs. */
  readonly opened: () => void
}

const mostPayload = 4 * 1024 * 1024
const mostWaiting = 256
/** Services send a comment or nothing at all; a connection that died silently is found by then. */
const silenceMs = 15 * 60_000
const firstPauseMs = 1000
const longestPauseMs = 120_000
/** A stream that ends so often at once is none. */
const mostRefusals = 3

/** Until the signal aborts. @throws PermanentError where the service has no working stream. */
export async function followStream(options: StreamOptions, signal: AbortSignal): Promise<void> {
  const { clock, log } = options
  let pauseMs = firstPauseMs
  let refusals = 0
  while (!signal.aborted) {
    const beganMs = clock.elapsedMs()
    try {
      await readStream(options, signal)
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof PermanentError && ++refusals >= mostRefusals) throw error
      log.debug('the stream of events broke', { reason: messageOf(error) })
    }
    if (clock.elapsedMs() - beganMs > longestPauseMs) {
      pauseMs = firstPauseMs
      refusals = 0
    }
    await clock.delay(pauseMs, signal).catch(() => undefined)
    pauseMs = Math.min(longestPauseMs, pauseMs * 2)
  }
}

async function readStream(
  { client, path, lastEventId, take, opened, log }: StreamOptions,
  signal: AbortSignal,
) {
  const last = lastEventId()
  const headers = last === undefined ? {} : { 'last-event-id': last }
  const response = await client.stream(path, headers, signal)
  const waiting: EventSourceMessage[] = []
  const parser = createParser({
    maxBufferSize: mostPayload,
    onEvent: (event) => void waiting.push(event),
    onError: (error) => log.debug('the stream of events is malformed', { reason: error.message }),
  })
  opened()
  response.setTimeout(silenceMs, () =>
    response.destroy(new Error(`nothing came for ${silenceMs / 60_000} min`)),
  )
  response.setEncoding('utf8')
  const leave = () => response.destroy()
  signal.addEventListener('abort', leave, { once: true })
  try {
    // While one is being told the rest waits in the socket: nothing here grows.
    for await (const text of response as AsyncIterable<string>) {
      parser.feed(text)
      if (waiting.length > mostWaiting) throw new Error(`more than ${mostWaiting} events at once`)
      for (const { data, id } of waiting.splice(0)) {
        const payload = parsed(data)
        if (payload) await take(payload, id)
      }
    }
  } finally {
    signal.removeEventListener('abort', leave)
    response.destroy()
  }
}

function parsed(data: string): Json | undefined {
  try {
    const payload: unknown = JSON.parse(data)
    return isJson(payload) ? payload : undefined
  } catch {
    return undefined // a comment of another service's own
  }
}
