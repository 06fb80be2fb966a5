// Counters of programs begin anew when the program does. Their points then get a start time, so that nobody takes the
// fall for a negative rate, or the whole new count for an increase.
import { Readings } from '../contract/index.ts'
import type { Attributes, Context, MetricDeclarations, Records, Scope } from '../contract/index.ts'

interface Known {
  counts: readonly (bigint | undefined)[]
  seenUnixNano: bigint
  startUnixNano: bigint | undefined
}

/** Remembers the counters of each thing, and when they last began. */
export class Resets {
  readonly #known = new Map<string, Known>()
  /** How many things were seen to begin anew. */
  count = 0

  /** When the counters of a thing began, as far as that is known: between this reading and the one before. */
  startOf(key: string, counts: readonly (bigint | undefined)[], now: bigint): bigint | undefined {
    const known = this.#known.get(key)
    const hasFallen = known?.counts.some((before, index) => {
      const count = counts[index]
      return before !== undefined && count !== undefined && count < before
    })
    if (hasFallen) this.count++
    const start = hasFallen ? known?.seenUnixNano : known?.startUnixNano
    this.#known.set(key, { counts, seenUnixNano: now, startUnixNano: start })
    return start
  }

  /** Forgets what was not seen in the reading at that time. */
  retain(now: bigint): void {
    for (const [key, { seenUnixNano }] of this.#known) if (seenUnixNano !== now) this.#known.delete(key)
  }
}

interface Point {
  name: string
  value: number | bigint
  attributes: Attributes
  start: bigint | undefined
}

/** One reading whose things have start times of their own. */
export class ReadingWithStarts {
  readonly #context: Context
  readonly #scope: Scope
  readonly #declared: MetricDeclarations
  readonly #service: string
  readonly #points: Point[] = []
  readonly timeUnixNano: bigint

  constructor(context: Context, scope: Scope, declared: MetricDeclarations, service: string) {
    this.#context = context
    this.#scope = scope
    this.#declared = declared
    this.#service = service
    this.timeUnixNano = context.clock.nowUnixNano()
  }

  /** A value that is not there is no point. */
  add(name: string, value: number | bigint | undefined, attributes: Attributes, start?: bigint): void {
    if (value !== undefined) this.#points.push({ name, value, attributes, start })
  }

  finish(): Records[] {
    const order = Object.keys(this.#declared)
    const byStart = Map.groupBy(this.#points, ({ start }) => start)
    return [...byStart].flatMap(([start, points]) => {
      const readings = new Readings({
        scope: this.#scope,
        declared: this.#declared,
        device: this.#context.device,
        resource: this.#context.resource({ 'service.name': this.#service }),
        timeUnixNano: this.timeUnixNano,
        ...(start === undefined ? {} : { startUnixNano: start }),
      })
      const sorted = points.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name))
      for (const { name, value, attributes } of sorted) readings.add(name, value, attributes)
      return readings.finish()
    })
  }
}
