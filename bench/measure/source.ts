// One source in a process of its own, for `bench sources`: its clock moves when the parent says so, its records are
// acknowledged at once, and it tells the CPU that it used, its helpers included.
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { plugins } from '../../plugins/index.ts'
import { FakeClock } from '../../test/support/clock.ts'
import { testContext } from '../../test/support/context.ts'
import { helperCpuSeconds } from './process.ts'

/** What the parent asks for: that much time to pass, and then the answer. */
export interface Passing {
  ms: number
}
/** Totals since the start. */
export interface Standing {
  address: string
  records: number
  /** CPU, user and system, seconds. The kernel counts that of helpers in ticks of 10 ms. */
  cpu: number
}

/** To be quiet for so long is to be at rest. */
const quietMs = 300
/** An answer of a slow peer, at most. */
const longestMs = 30_000

const [name, config = '{}'] = process.argv.slice(2)
const definition = plugins.find((one) => one.kind === 'source' && one.name === name)
if (definition?.kind !== 'source') throw new Error(`there is no source named ${name}`)
const parsed: unknown = definition.config.parse(JSON.parse(config))
// Soon after the captures, so that nothing in them is old.
const clock = new FakeClock(1_795_300_000_000_000_000n)
const context = testContext({ clock })
const stop = new AbortController()
let records = 0
let emits = 0
const source = definition.create(parsed as never, context)
const run = source.run(async (one) => {
  records += one.count
  emits++
}, stop.signal)
run.catch((error: unknown) => {
  if (!stop.signal.aborted) throw error
})

/** Nothing more comes of it: not of its timers, and not of its peers. */
async function quiet(): Promise<number> {
  for (;;) {
    const before = [emits, clock.waiting]
    await sleep(quietMs)
    if (before[0] === emits && before[1] === clock.waiting) return clock.waiting
  }
}

await Promise.race([context.whenReady, run])
const atRest = await quiet()

process.on('message', ({ ms }: Passing) => {
  void (async () => {
    if (ms > 0) await clock.advance(ms)
    const until = performance.now() + longestMs
    // A reading has ended when all wait for the next one.
    while (clock.waiting < atRest && performance.now() < until) await sleep(2)
    const own = process.cpuUsage()
    const standing: Standing = {
      address: context.addresses.at(-1) ?? '',
      records,
      cpu: (own.user + own.system) / 1e6 + helperCpuSeconds(process.pid),
    }
    process.send?.(standing)
  })()
})
process.on('disconnect', () => {
  for (const { level, message, fields } of context.logged) {
    if (level === 'error' || level === 'warn')
      process.stderr.write(`${name}: ${message} ${JSON.stringify(fields)}\n`)
  }
  stop.abort()
  void run.catch(() => undefined).finally(() => process.exit(0))
})
process.send?.({ address: context.addresses.at(-1) ?? '', records, cpu: 0 } satisfies Standing)
