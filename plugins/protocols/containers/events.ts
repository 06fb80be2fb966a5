// Events of the container engine: a stream of JSON documents, one a line, that can be asked for from a time on.
import type { LogBatches } from '../lines/batches.ts'
import type { EngineApi } from './api.ts'
import { engineEvent } from './schemas.ts'
import type { EngineEvent } from './schemas.ts'

/** What Docker and Podman call the same thing; what is missing here (exec, attach, …) is no event for us. */
const actions: Readonly<Record<string, string>> = {
  create: 'create',
  start: 'start',
  restart: 'restart',
  stop: 'stop',
  pause: 'pause',
  unpause: 'unpause',
  die: 'die',
  died: 'die',
  oom: 'oom',
  destroy: 'destroy',
  remove: 'destroy',
  rename: 'rename',
  update: 'update',
  health_status: 'health',
}
const longestLine = 256 * 1024
const info = 9
const warn = 13
const error = 17

export const nanoOf = ({ time, timeNano }: EngineEvent): number => timeNano ?? (time ?? 0) * 1e9

/** Writes an event as a log record; false where it is none of ours. */
export function writeEvent(
  batches: LogBatches,
  event: EngineEvent,
  isWanted: (name: string) => boolean,
): boolean {
  const { Type, Action, Actor } = event
  const [word = '', detail] = Action.split(': ')
  const action = actions[word.trim()]
  const attributes = Actor.Attributes ?? {}
  const name = attributes.name ?? Actor.ID.slice(0, 12)
  if (Type !== 'container' || action === undefined || !isWanted(name)) return false
  const code = Number(attributes.exitCode ?? attributes.containerExitCode ?? NaN)
  const health = action === 'health' ? (detail ?? attributes.health_status ?? '').trim() : ''
  const isBad = action === 'oom' || (action === 'die' && code > 0)
  const nano = nanoOf(event)
  const severity = isBad ? error : health === 'unhealthy' ? warn : info
  // Nanoseconds of a double are exact to some hundreds; the order within one stream stays.
  const record = batches.begin(
    severity,
    `dpu.container.${action}`,
    Math.floor(nano / 1e9),
    Math.floor(nano % 1e9),
  )
  record.body(`container ${name}: ${action}${health === '' ? '' : ` ${health}`}`)
  record.attribute('container.id', Actor.ID)
  record.attribute('container.name', name)
  if (attributes.image !== undefined) record.attribute('container.image.name', attributes.image)
  if (action === 'die' && Number.isFinite(code)) record.attribute('process.exit.code', code)
  if (health !== '') record.attribute('dpu.container.health', health)
  batches.end()
  return true
}

export interface EventOptions {
  readonly api: EngineApi
  /** Nanoseconds; events up to then are left out. */
  readonly after: number
  readonly take: (event: EngineEvent) => void
  readonly flushed: () => Promise<void>
}

/** Until the stream ends, or `signal` aborts. */
export async function followEvents(
  { api, after, take, flushed }: EventOptions,
  signal: AbortSignal,
): Promise<void> {
  const filters = encodeURIComponent(JSON.stringify({ type: ['container'] }))
  const response = await api.stream(`/events?since=${Math.floor(after / 1e9)}&filters=${filters}`, signal)
  if (response === undefined) return
  let rest = ''
  try {
    response.setEncoding('utf8')
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > longestLine) rest = ''
      for (const line of lines) {
        const event = parseEvent(line)
        if (event && nanoOf(event) > after) take(event)
      }
      await flushed()
    }
  } finally {
    response.destroy()
  }
}

function parseEvent(line: string): EngineEvent | undefined {
  try {
    return engineEvent.safeParse(JSON.parse(line)).data
  } catch {
    return undefined
  }
}
