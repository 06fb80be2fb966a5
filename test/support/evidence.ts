// What a running aggregator can tell of one device in one span of time, asked over HTTP as an operator asks it.
import type { Asking, Logged, Queried } from './asking.ts'

/** Unix time, in milliseconds. */
export interface Span {
  readonly sinceMs: number
  readonly untilMs: number
}

export type Where = Readonly<Record<string, string>>
export type Point = readonly [ms: number, value: number]

export class Evidence {
  readonly device: string
  readonly span: Span
  readonly #get: Asking['get']

  constructor(get: Asking['get'], device: string, span: Span) {
    this.device = device
    this.span = span
    this.#get = get
  }

  get lengthMs(): number {
    return this.span.untilMs - this.span.sinceMs
  }

  /** Without what is so near to either end. */
  inner(edgeMs: number): Evidence {
    const { sinceMs, untilMs } = this.span
    return new Evidence(this.#get, this.device, { sinceMs: sinceMs + edgeMs, untilMs: untilMs - edgeMs })
  }

  /** The points of each series of a metric. */
  async series(metric: string, where: Where = {}): Promise<Point[][]> {
    const list = await this.#get<Queried[]>('/api/query', { metric, ...this.#asked(where) })
    return list.map(({ points }) => points.map(([time, value]) => [Date.parse(time), Number(value)] as const))
  }

  async values(metric: string, where: Where = {}): Promise<number[]> {
    return (await this.series(metric, where)).flatMap((points) => points.map(([, value]) => value))
  }

  /** The times at which the counters of a metric had grown, by how much; a reset is no growth. */
  async growth(metric: string, where: Where = {}): Promise<Point[]> {
    const all = await this.series(metric, where)
    const steps = all.flatMap((points) =>
      points.slice(1).map(([ms, value], index): Point => [ms, value - (points[index]?.[1] ?? value)]),
    )
    return steps.filter(([, more]) => more > 0).toSorted(([one], [other]) => one - other)
  }

  async grown(metric: string, where: Where = {}): Promise<number> {
    return (await this.growth(metric, where)).reduce((sum, [, more]) => sum + more, 0)
  }

  /** In how many of the times between two readings a counter grew, of all. */
  async shareGrowing(metric: string, where: Where = {}): Promise<number> {
    const between = (await this.series(metric, where)).reduce((sum, { length }) => sum + length - 1, 0)
    return between > 0 ? (await this.growth(metric, where)).length / between : 0
  }

  /** The longest time without a reading, up to the end of the span; all of it where there is none. */
  async longestGapMs(metric: string, where: Where = {}): Promise<number> {
    const times = (await this.series(metric, where)).flat().map(([ms]) => ms)
    if (times.length === 0) return this.lengthMs
    const all = [...times.toSorted((one, other) => one - other), this.span.untilMs]
    return Math.max(...all.slice(1).map((ms, index) => ms - (all[index] ?? ms)))
  }

  /** At most 10,000 of the newest. */
  async logs(where: Where = {}, text = ''): Promise<Logged[]> {
    const asked = { ...this.#asked(where), limit: '10000', ...(text !== '' && { text }) }
    return (await this.#get<{ records: Logged[] }>('/api/logs', asked)).records
  }

  async events(name: string, where: Where = {}): Promise<number> {
    return (await this.logs(where)).filter(({ eventName }) => eventName === name).length
  }

  #asked(where: Where) {
    return {
      device: this.device,
      since: new Date(this.span.sinceMs).toISOString(),
      until: new Date(this.span.untilMs).toISOString(),
      where: Object.entries(where).map(([key, value]) => `${key}=${value}`),
    }
  }
}
