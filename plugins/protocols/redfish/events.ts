// Events that a BMC tells by itself: as a stream, else pushed to us, else not at all, and the logs are read. What an event
// tells stands in a log too, as a rule: so it makes the logs be read at once, and is told only where none tells it.
import { PermanentError, messageOf } from '../../contract/errors.ts'
import type { Context, Emit } from '../../contract/define.ts'
import type { RedfishClient } from './client.ts'
import { encodeEntries, entryOf } from './entries.ts'
import type { EncodeOptions } from './entries.ts'
import { emitInGroups } from '../lines/batches.ts'
import { inside, linkOf, objectsOf } from './json.ts'
import type { Json } from './json.ts'
import type { Memory } from './memory.ts'
import type { RedfishSettings } from './settings.ts'

export interface EventOptions {
  readonly settings: RedfishSettings
  readonly context: Context
  readonly client: RedfishClient
  readonly memory: Memory
  readonly emit: Emit
  readonly root: () => Json
  readonly encoding: () => EncodeOptions
  /** Reads the logs now; resolves when all that they tell is safe. */
  readonly readLogs: () => Promise<void>
  /** Whether a log has told what an event tells. */
  readonly hasTold: (match: string) => boolean
  readonly takeReport: (body: Json) => Promise<void>
}

const mostEvents = 1000

/** Until the signal aborts, in the best way that works. */
export async function followEvents(options: EventOptions, signal: AbortSignal): Promise<void> {
  const { settings, context, client } = options
  const { mode, listen, destination, cert, key } = settings.events
  const path = linkOf(options.root().EventService)
  if (mode === 'poll' || path === undefined) return
  const got = await client.get(path, signal)
  if (got.is !== 'found' || got.body.ServiceEnabled === false) return
  const taker = new Taker(options, path)
  const opened = () => void options.readLogs().catch(() => undefined)
  const stream = linkOf(got.body.ServerSentEventUri)
  if (stream !== undefined && mode !== 'push') {
    const done = await attempt(context, 'stream', signal, async () => {
      const { followStream } = await import('./stream.ts')
      const { clock, log } = context
      const lastEventId = () => options.memory.lastEventId
      const take = taker.take.bind(taker)
      await followStream({ client, clock, log, path: stream, lastEventId, take, opened }, signal)
    })
    if (done) return
  }
  const subscriptions = linkOf(got.body.Subscriptions)
  if (subscriptions !== undefined && listen && destination !== undefined && mode !== 'stream') {
    await attempt(context, 'push', signal, async () => {
      const { takePushed } = await import('./push.ts')
      const { clock, log, collector, id } = context
      const name = `dpulse ${collector} ${id}`
      const take = (payload: Json) => taker.take(payload, undefined)
      const address = { listen, destination, cert, key }
      await takePushed({ client, clock, log, ...address, subscriptions, context: name, take, opened }, signal)
    })
  }
}

/** False where it does not work: the next way is tried, and the logs are read anyhow. */
async function attempt(
  { log }: Context,
  way: string,
  signal: AbortSignal,
  run: () => Promise<void>,
): Promise<boolean> {
  try {
    await run()
    return true
  } catch (error) {
    if (signal.aborted) return true
    if (error instanceof PermanentError && error.code === 'ADDRESS_IN_USE') throw error
    log.warn('events do not come that way', { way, reason: messageOf(error) })
    return false
  }
}

/** Takes payloads of events and of metric reports, one after the other. */
class Taker {
  readonly #options: EventOptions
  readonly #service: string
  #turn: Promise<void> = Promise.resolve()
  #waiting = 0

  constructor(options: EventOptions, service: string) {
    this.#options = options
    this.#service = service
  }

  /** Resolves when what it tells is safe. */
  take(payload: Json, id: string | undefined): Promise<void> {
    if (this.#waiting >= 64) return Promise.reject(new Error('too many events wait'))
    this.#waiting++
    const done = this.#turn.then(() => this.#take(payload, id)).finally(() => this.#waiting--)
    this.#turn = done.catch(() => undefined)
    return done
  }

  async #take(payload: Json, id: string | undefined): Promise<void> {
    const { memory, hasTold, readLogs, emit, encoding, takeReport } = this.#options
    if (Array.isArray(payload.MetricValues)) await takeReport(payload)
    const events = objectsOf(payload.Events).slice(0, mostEvents)
    if (events.length > 0) {
      await readLogs()
      const entries = events
        // A log has it under this link, and will tell it if it has not.
        .filter((one) => linkOf(one.LogEntry) === undefined && linkOf(inside(one, 'LogEntry')) === undefined)
        .map((one) => entryOf(one, this.#service))
        // What is sent again after a break was told before.
        .filter(({ match }) => !hasTold(match) && !memory.isEvent(match))
      await emitInGroups(emit, encodeEntries(entries, encoding()))
      memory.addEvents(entries.map(({ match }) => match))
    }
    if (id !== undefined) memory.lastEventId = id
    if (events.length > 0 || id !== undefined) await memory.save()
  }
}
