// A running collector of one source whose senders have quotas, for tests of what becomes of their records.
import { expect, onTestFinished, vi } from 'vitest'
import { systemClock } from '../../collector/clock.ts'
import { parseConfig } from '../../collector/config.ts'
import { Logger } from '../../collector/logger.ts'
import type { SenderCounts } from '../../collector/quota.ts'
import { Runtime } from '../../collector/runtime.ts'
import type { Batch, Definition } from '../../plugins/contract/index.ts'
import { identity, memory } from './fixtures.ts'

export interface WithQuotas {
  readonly runtime: Runtime
  /** Of the first address that it listens on. */
  readonly port: number
  /** What has been delivered, by exporter. */
  readonly delivered: Map<string, Batch[]>
  /** Of each sender, by its name. */
  readonly counts: () => Map<string, SenderCounts>
}

/** `senders` and `source` are YAML in one line. */
export async function startWithQuotas(
  definition: Definition,
  senders: string,
  source: string,
): Promise<WithQuotas> {
  const logger = new Logger({ write: () => undefined })
  const runtime = new Runtime({ identity, log: undefined, clock: systemClock, logger, disk: 1 << 28 })
  onTestFinished(() => runtime.stop())
  const text = `
limits: { senders: ${senders} }
sources: { lines: { type: ${definition.name}, ${source} } }
exporters: { x: { type: memory } }
pipelines: { all: { sources: [lines], exporters: [x] } }
`
  const delivered = new Map<string, Batch[]>()
  const { config, problems } = await parseConfig(text, '/nowhere/c.yaml', [definition, memory(delivered)])
  if (!config) throw new Error(JSON.stringify(problems))
  await runtime.apply(config)
  await vi.waitFor(() => expect(runtime.isReady).toBe(true), { interval: 5, timeout: 30_000 })
  const address = runtime.parts().find(({ name }) => name === 'lines')?.address ?? ''
  const port = Number(/:\/\/.*?:(\d+)/.exec(address)?.[1])
  const counts = () => new Map(runtime.budget.quotas.counts().map((one) => [one.sender, one]))
  return { runtime, port, delivered, counts }
}
