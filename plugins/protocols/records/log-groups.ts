// Log records of others on their way into Records: sorted into classes by severity and cut where a batch is full.
import { LogsEncoder } from '../../contract/encoder.ts'
import { classOfLog } from '../../contract/signal.ts'
import type { Class } from '../../contract/signal.ts'
import type { MetricGroupsOptions } from './metric-groups.ts'

/** Log records of one Resource. `begin`, the fields of the record into what it returns, and `end`. */
export class LogGroups {
  readonly #options: MetricGroupsOptions
  readonly #open = new Map<Class, LogsEncoder>()
  #class: Class = 'log'

  constructor(options: MetricGroupsOptions) {
    this.#options = options
  }

  /** Times are Unix seconds and nanoseconds: that of the record, and that of its arrival. */
  begin(
    severity: number,
    seconds: number,
    nanos: number,
    observedSeconds: number,
    observedNanos: number,
  ): LogsEncoder {
    this.#class = classOfLog(severity, false)
    let encoder = this.#open.get(this.#class)
    if (!encoder) this.#open.set(this.#class, (encoder = new LogsEncoder(this.#options.scope, 16 * 1024)))
    if (encoder.count === 0) encoder.begin(this.#options.resource)
    encoder.record(seconds, nanos, observedSeconds, observedNanos, severity)
    return encoder
  }

  end(encoder: LogsEncoder): void {
    encoder.end()
    if (encoder.full) this.#finish(this.#class, encoder)
  }

  /** Hands over what is held. */
  flush(): void {
    for (const [name, encoder] of this.#open) if (encoder.count > 0) this.#finish(name, encoder)
  }

  #finish(name: Class, encoder: LogsEncoder): void {
    this.#options.take(encoder.finish(this.#options.device, name))
    encoder.count = 0
  }
}

const severities: ReadonlyMap<string, number> = new Map(
  Object.entries({
    trace: 1,
    debug: 5,
    info: 9,
    information: 9,
    informational: 9,
    notice: 10,
    warn: 13,
    warning: 13,
    err: 17,
    error: 17,
    crit: 18,
    critical: 18,
    alert: 19,
    emerg: 21,
    emergency: 21,
    panic: 21,
    fatal: 21,
  }),
)

/** The severity number of a level as programs write it (`warn`, `ERROR`, `crit`); 0 where it is none. */
export const severityOf = (level: string): number => severities.get(level.toLowerCase()) ?? 0
