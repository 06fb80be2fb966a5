// What tests ask of running dpulse processes, from outside: the HTTP API, and the commands as a person types them. Both
// must tell the same.
import { expect } from 'vitest'
import { dpulse } from './command-line.ts'
import { apiUrl, eventually } from './programs.ts'

export interface Logged {
  id: string
  time: string
  observedTime: string
  device: string
  severityNumber: number
  severityText: string
  body: unknown
  attributes: Record<string, unknown>
  resource: Record<string, unknown>
  eventName: string
}

export interface Queried {
  metric: string
  unit: string
  kind: string
  device: string
  attributes: Record<string, unknown>
  points: [string, number | string][]
}

export interface Account {
  produced: number
  stored: number
  inFlight: number
  dropped: Record<string, number>
  unknown: number
  balanced: boolean
  forwarded?: number
}

export interface LedgerAnswer extends Account {
  streams: (Account & {
    collector: string
    device: string
    session: string
    class: string
    lastSeq: number
    missing: [number, number][]
  })[]
}

type Parameters = Record<string, string | readonly string[]>

export interface Asking {
  get: <T>(path: string, parameters?: Parameters) => Promise<T>
  /** The records whose body contains a text, once there are so many, soon enough, and over HTTP as by the command. */
  logged: (text: string, count?: number, parameters?: Parameters) => Promise<Logged[]>
  /** The series of a metric, once there are so many points in all. */
  queried: (metric: string, points: number, parameters?: Parameters) => Promise<Queried[]>
  /** The ledger, once nothing is on its way any more. */
  settled: (device?: string) => Promise<LedgerAnswer>
  /** What `dpulse …` printed as JSON. */
  command: <T>(...line: string[]) => Promise<T>
}

const repeatedOptions = (parameters: Parameters): string[] =>
  Object.entries(parameters).flatMap(([name, value]) =>
    (typeof value === 'string' ? [value] : value).flatMap((one) => [`--${name}`, one]),
  )

/** What is sent must be seen `withinSeconds`. */
export function askingOf(portOffset: number, withinSeconds = 2): Asking {
  const url = apiUrl(portOffset)

  async function get<T>(path: string, parameters: Parameters = {}): Promise<T> {
    const asked = new URL(url + path)
    for (const [name, value] of Object.entries(parameters)) {
      for (const one of typeof value === 'string' ? [value] : value) asked.searchParams.append(name, one)
    }
    const response = await fetch(asked)
    const text = await response.text()
    if (!response.ok) throw new Error(`${response.status} ${asked.href}: ${text}`)
    return JSON.parse(text) as T
  }

  async function command<T>(...line: string[]): Promise<T> {
    const { stdout, stderr, code } = await dpulse([...line, '-o', 'json'], { url })
    if (code !== 0) throw new Error(`dpulse ${line.join(' ')}: exit code ${code}: ${stderr}`)
    return JSON.parse(stdout) as T
  }

  return {
    get,
    command,
    async logged(text, count = 1, parameters = {}) {
      const asked = { ...parameters, text }
      const { records } = await eventually(`${count} records with ${text}`, withinSeconds, async () => {
        const page = await get<{ records: Logged[] }>('/api/logs', asked)
        return page.records.length >= count && page
      })
      expect(records).toHaveLength(count)
      expect(await command<Logged[]>('logs', text, ...repeatedOptions(parameters))).toEqual(records)
      return records
    },
    async queried(metric, points, parameters = {}) {
      const asked = { since: '1h', ...parameters }
      const series = await eventually(`${points} points of ${metric}`, withinSeconds, async () => {
        const list = await get<Queried[]>('/api/query', { ...asked, metric })
        return list.reduce((sum, one) => sum + one.points.length, 0) >= points && list
      })
      expect(series.reduce((sum, one) => sum + one.points.length, 0)).toBe(points)
      expect(await command<Queried[]>('query', metric, ...repeatedOptions(asked))).toEqual(series)
      return series
    },
    settled: (device) =>
      eventually('a ledger with nothing on its way', 60, async () => {
        const report = await get<LedgerAnswer>('/api/ledger', device === undefined ? {} : { device })
        return report.inFlight === 0 && report.streams.length > 0 && report
      }),
  }
}
