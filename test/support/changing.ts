// A collector that tests change from the other end of the fleet: its configuration, the commands, and what both sides say.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { dpulse } from './command-line.ts'
import type { Fleet } from './fleet.ts'
import { apiUrl, eventually } from './programs.ts'

export interface Change {
  device: string
  online: boolean
  state: string
  detail: string
  desired: { configuration?: { hash: string | null } } | null
  reported: {
    configuration: { hash: string; origin: string }
    outcome: { state: string; problems: { path: string }[] } | null
    verbosity: { source: string; state: string }[]
  } | null
}

export interface Given {
  portOffset: number
  minimum?: string
  mqtt?: number
  more?: string
  id?: string
}

/** A collector that takes syslog and OTLP, with a short trial. */
export const collectorOf = ({
  portOffset,
  minimum = 'info',
  mqtt = 1883 + portOffset,
  more = '',
  id = 'dpu-7',
}: Given) => `
collector: { id: ${id}, trial: 4s, labels_file: /nonexistent/labels.yaml }
sources:
  lines: { type: syslog, tcp: ['127.0.0.1:${5514 + portOffset}'] }
  programs: { type: otlp, grpc: '127.0.0.1:${4317 + portOffset}', http: '127.0.0.1:${4318 + portOffset}' }
processors: { floor: { type: severity, minimum: ${minimum} } }
exporters: { fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:${mqtt}'], buffer: { spill: 100ms } } }
pipelines: { all: { sources: [lines, programs], processors: [floor], exporters: [fleet] } }
${more}`

export const run = (fleet: Fleet, ...line: string[]) => dpulse(line, { url: apiUrl(fleet.portOffset) })

export const applied = async (fleet: Fleet, text: string, ...more: string[]) => {
  const file = join(fleet.data, 'applied.yaml')
  writeFileSync(file, text)
  return run(fleet, 'apply', '-f', file, '--device', 'dpu-7', ...more)
}

export const changeOf = async ({ portOffset }: Fleet): Promise<Change | undefined> =>
  ((await (await fetch(`${apiUrl(portOffset)}/api/config?device=dpu-7`)).json()) as Change[])[0]

export interface Rollout {
  id: string
  state: string
  detail: string
  reached: number
  devices: number
}

/** The newest first. */
export const rolloutsOf = async ({ portOffset }: Pick<Fleet, 'portOffset'>): Promise<Rollout[]> =>
  (await (await fetch(`${apiUrl(portOffset)}/api/rollouts`)).json()) as Rollout[]

export const until = (fleet: Fleet, what: string, fits: (change: Change) => boolean, seconds = 60) =>
  eventually(what, seconds, async () => {
    const found = await changeOf(fleet)
    return found && fits(found) && found
  })

export const isKnown = (fleet: Fleet) =>
  until(fleet, 'the aggregator knows the device', ({ online, reported }) => online && reported !== null)

export const line = (severity: number, text: string) => {
  const message = `<${128 + severity}>1 ${new Date().toISOString().slice(0, 19)}.000000Z dpu-7 flowd 1 - - ${text}`
  return Buffer.from(`${message.length} ${message}`)
}

export const bodies = async ({ portOffset }: Fleet): Promise<string[]> => {
  const answer = await fetch(`${apiUrl(portOffset)}/api/logs?since=1d&where=syslog.appname=flowd`)
  return ((await answer.json()) as { records: { body: string }[] }).records.map(({ body }) => body)
}
