// The redfish source in a test: run against a service, with a clock that moves when told and a checkpoint that may outlive
// a run, as it does when a collector is killed.
import { expect, onTestFinished, vi } from 'vitest'
import type * as z from 'zod'
import { RetryableError } from '../../plugins/contract/index.ts'
import type { Records } from '../../plugins/contract/index.ts'
import redfish from '../../plugins/sources/redfish.ts'
import { FakeClock } from './clock.ts'
import { testContext } from './context.ts'
import { collectLogs, collectPoints } from './records.ts'
import type { PlainLog, PlainPoint } from './records.ts'
import { redfishService } from './redfish.ts'
import type { RedfishService, ServiceOptions } from './redfish.ts'

type Config = z.input<typeof redfish.config>
const now = 1_795_260_000_000_000_000n

export const user = { name: 'root', password: 'correct horse' }
process.env.DPULSE_TEST_BMC = user.password
export const login = { username: user.name, password: { env: 'DPULSE_TEST_BMC' } }

/** A service that ends with the test; without options that of a BlueField-3. */
export async function serve(
  options: ServiceOptions = { capture: 'bluefield3-bf23.10' },
): Promise<RedfishService> {
  const service = await redfishService(options)
  onTestFinished(() => service.close())
  return service
}

export const metricsOf = (all: readonly Records[]) => all.filter(({ signal }) => signal === 'metrics')
export const logsOf = (all: readonly Records[]): PlainLog[] =>
  all.filter(({ signal }) => signal === 'logs').flatMap((one) => collectLogs(one))

export interface WatchOptions {
  config?: Partial<Config>
  /** What an earlier run left behind. */
  saved?: string | undefined
  /** Called for each emit; what it throws refuses the records. */
  onEmit?: (records: Records) => Promise<void> | void
}

/** Runs the source; readings come as its fake clock passes. */
export function watch(service: Pick<RedfishService, 'url'>, options: WatchOptions = {}) {
  const clock = new FakeClock(now)
  const context = testContext({ clock })
  context.saved = options.saved
  const stop = new AbortController()
  const received: Records[] = []
  const parsed = redfish.config.parse({ endpoint: service.url, ...options.config })
  // As the runtime's: what is not acknowledged when it stops is refused.
  const stopped = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(new RetryableError('STOPPING', 'the end of the test')))
  })
  stopped.catch(() => undefined)
  const emit = async (records: Records) => {
    await Promise.race([options.onEmit?.(records), stopped])
    received.push(records)
  }
  const run = redfish.create(parsed, context).run(emit, stop.signal)
  run.catch(() => undefined)
  const end = async () => {
    stop.abort()
    await run.catch(() => undefined)
  }
  onTestFinished(end)
  /** Until it rests: readings and logs wait for their next time, and so may what else it does. */
  const rest = async (parts = 2): Promise<void> => {
    const resting = () => expect(clock.waiting).toBeGreaterThanOrEqual(parts)
    await Promise.race([vi.waitFor(resting, { timeout: 30_000 }), run])
  }
  /** The points of one reading: the source rests when it has handed them over. */
  const reading = async (): Promise<PlainPoint[]> => {
    await rest()
    return collectPoints(metricsOf(received.splice(0)))
  }
  const next = async (): Promise<PlainPoint[]> => {
    await clock.advance(parsed.interval)
    return reading()
  }
  return { context, clock, received, run, end, rest, reading, next }
}
