// `dpulse up`: the parent of collector and aggregator. It starts both as processes of their own, starts them again
// when they die, tells what runs where, and takes them along when it goes (they also watch its IPC channel).
import process from 'node:process'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import { CommandFailure } from './failure.ts'
import { awaitFreePorts } from './ports.ts'
import { summary } from './summary.ts'
import { superviseChild } from './supervise.ts'
import type { Child } from './supervise.ts'
import { note } from './terminal.ts'

const stopMs = 15_000
const slowMs = 10_000

/** `entry` is dpulse.ts; runs until SIGTERM or SIGINT. */
export async function up(options: ProgramOptions, entry: string, version: string): Promise<void> {
  await awaitFreePorts(options)
  const { promise: ending, resolve: end } = Promise.withResolvers<string | CommandFailure>()
  const line = argumentsOf(options)
  let told = false
  const start = (name: string) =>
    superviseChild(name, entry, line, {
      onReady(again) {
        tellAggregator()
        if (again) note(`${name} is back`)
        if (told || aggregator.ready === undefined || collector.ready === undefined) return
        told = true
        process.stdout.write(
          summary(options, version, { aggregator: aggregator.ready, collector: collector.ready }),
        )
      },
      onDied(how, delayMs) {
        tellAggregator()
        note(`${name} died (${how}); starting it again in ${(delayMs / 1000).toFixed(1)} s`)
      },
      onRefused: (code) =>
        end(new CommandFailure(`the ${name} did not start; its message is above`, code === 2 ? 2 : 1)),
      onTrouble: (error) => note(`${name}: ${error.message}`),
    })
  // /api/health speaks for both, so the aggregator hears how the collector is.
  const tellAggregator = () => {
    const { running, ready, name } = collector
    const listeners = ready?.parts.filter(({ address }) => address !== undefined).length ?? 0
    const detail = running ? `${listeners} listeners` : 'starting'
    aggregator.tell({ type: 'peer', program: name, ready: running, detail })
  }
  const aggregator = start('aggregator')
  const collector = start('collector')
  const slow = setTimeout(() => {
    const late = [aggregator, collector].filter(({ ready }) => ready === undefined).map(({ name }) => name)
    if (late.length > 0) note(`still starting: ${late.join(' and ')}`)
  }, slowMs)
  onSignals(end, [aggregator, collector])
  const why = await ending
  clearTimeout(slow)
  if (typeof why === 'string') note(`stopping (${why})`)
  await stopBoth(aggregator, collector)
  if (typeof why !== 'string') throw why
}

function onSignals(end: (why: string) => void, children: readonly Child[]): void {
  let firstMs = 0
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      // Ctrl-C may reach us twice, from the terminal and through npm; a second one a second later is impatience.
      if (firstMs > 0 && performance.now() - firstMs > 1000) for (const child of children) child.kill()
      firstMs ||= performance.now()
      end(signal)
    })
  }
}

// The collector first: what it still holds goes to an aggregator that is there.
async function stopBoth(aggregator: Child, collector: Child): Promise<void> {
  let killed = false
  const deadline = setTimeout(() => {
    for (const child of [collector, aggregator]) killed = child.kill() || killed
  }, stopMs)
  const patience = Promise.withResolvers<void>()
  const half = setTimeout(patience.resolve, stopMs / 2)
  const gone = collector.stop()
  await Promise.race([gone, patience.promise])
  await Promise.all([gone, aggregator.stop()])
  clearTimeout(deadline)
  clearTimeout(half)
  if (killed) throw new CommandFailure(`not all had stopped within ${stopMs / 1000} s and were killed`, 1)
}

function argumentsOf(options: ProgramOptions): string[] {
  const { config, data, maxDisk, portOffset, broker, journal, store } = options
  const size = maxDisk === undefined ? undefined : `${maxDisk}B`
  const line = { data, 'port-offset': String(portOffset), broker, journal, store, config, 'max-disk': size }
  return Object.entries(line).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))
}
