// `dpulse up`: the parent of collector and aggregator, and of a simulated fleet where one is asked for. It starts them as
// processes of their own, again when they die, tells what runs where, and takes them along when it goes (they also
// watch its IPC channel).
import { readFile } from 'node:fs/promises'
import process from 'node:process'
import type { ReadyMessage } from '../plugins/contract/parent.ts'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import { programOf } from './configuration.ts'
import type { ConfiguredProgram } from './configuration.ts'
import { CommandFailure } from './failure.ts'
import { awaitFreePorts } from './ports.ts'
import { summary } from './summary.ts'
import type { Started } from './summary.ts'
import { superviseChild } from './supervise.ts'
import type { Child } from './supervise.ts'
import { note } from './terminal.ts'

const stopMs = 15_000
const slowMs = 10_000
const headStartMs = 2000
const settleMs = 3000

/** `entry` is dpulse.ts; runs until SIGTERM or SIGINT. */
export async function up(options: ProgramOptions, entry: string, version: string): Promise<void> {
  await awaitFreePorts(options)
  const { promise: ending, resolve } = Promise.withResolvers<string | CommandFailure>()
  let ended = false
  const end = (why: string | CommandFailure) => {
    ended = true
    resolve(why)
  }
  const aggregatorUp = Promise.withResolvers<void>()
  const configured = await configuredProgram(options.config)
  const tellOnce = createTeller((started) => process.stdout.write(summary(options, version, started)))
  let collector: Child | undefined
  let simulator: Child | undefined
  const start = (name: string, line = argumentsOf(name, configured, options)) =>
    superviseChild(name, entry, line, {
      onReady(again) {
        tellAggregator()
        aggregatorUp.resolve()
        if (again) note(`${name} is back`)
        tellOnce(aggregator.ready, collector?.ready)
        if (name === 'simulate' && !again) note(fleetNote(simulator?.ready))
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
    const running = collector?.running === true && collector.ready?.settled !== false
    const listeners = collector?.ready?.parts.filter(({ address }) => address !== undefined).length ?? 0
    const detail = running ? `${listeners} listeners` : 'starting'
    aggregator.tell({ type: 'peer', program: 'collector', ready: running, detail })
  }
  const aggregator = start('aggregator')
  const children = () => [simulator, collector, aggregator].filter((child) => child !== undefined)
  onSignals(end, children)
  const slow = setTimeout(() => {
    const late = children().filter(({ ready }) => ready === undefined)
    if (late.length > 0) note(`still starting: ${late.map(({ name }) => name).join(' and ')}`)
  }, slowMs)
  // A collector needs no aggregator, but its first attempt to connect need not fail either.
  const head = setTimeout(aggregatorUp.resolve, headStartMs)
  await Promise.race([aggregatorUp.promise, ending])
  clearTimeout(head)
  if (!ended) collector = start('collector')
  if (!ended && options.simulate !== undefined) simulator = start('simulate', fleetArguments(options))
  const why = await ending
  clearTimeout(slow)
  if (typeof why === 'string') note(`stopping (${why})`)
  await stopAll(children())
  if (typeof why !== 'string') throw why
}

type Teller = (aggregator: ReadyMessage | undefined, collector: ReadyMessage | undefined) => void

// Once both are ready; what still connects then (it says so) gets a moment, so that the summary shows how it ended.
function createTeller(tell: (started: Started) => void): Teller {
  let told = false
  let latest: Started | undefined
  let timer: NodeJS.Timeout | undefined
  const now = () => {
    clearTimeout(timer)
    if (!told && latest !== undefined) tell(latest)
    told = true
  }
  return (aggregator, collector) => {
    if (told || aggregator === undefined || collector === undefined) return
    latest = { aggregator, collector }
    const isSettled = [...aggregator.parts, ...collector.parts].every(({ note }) => note !== 'starting')
    if (isSettled) now()
    else timer ??= setTimeout(now, settleMs).unref()
  }
}

function onSignals(end: (why: string) => void, children: () => readonly Child[]): void {
  let firstMs = 0
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      // Ctrl-C may reach us twice, from the terminal and through npm; a second one a second later is impatience.
      if (firstMs > 0 && performance.now() - firstMs > 1000) for (const child of children()) child.kill()
      firstMs ||= performance.now()
      end(signal)
    })
  }
}

// In the order given, the collector first: what it still holds goes to an aggregator that is there.
async function stopAll(children: readonly Child[]): Promise<void> {
  let killed = false
  const deadline = setTimeout(() => {
    for (const child of children) killed = child.kill() || killed
  }, stopMs)
  const gone: Promise<void>[] = []
  for (const child of children) {
    const patience = Promise.withResolvers<void>()
    const timer = setTimeout(patience.resolve, stopMs / 2)
    gone.push(child.stop())
    await Promise.race([gone.at(-1), patience.promise])
    clearTimeout(timer)
  }
  await Promise.all(gone)
  clearTimeout(deadline)
  if (killed) throw new CommandFailure(`not all had stopped within ${stopMs / 1000} s and were killed`, 1)
}

// The other program runs with its defaults.
async function configuredProgram(file: string | undefined): Promise<ConfiguredProgram | undefined> {
  if (file === undefined) return undefined
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CommandFailure(`--config ${file} cannot be read`, 2, { cause })
  })
  return programOf(text)
}

const fleetNote = (ready: ReadyMessage | undefined): string =>
  (ready?.parts ?? []).map(({ name, address, note }) => `${name}: ${note} on ${address}`).join('; ')

function fleetArguments({ simulate, portOffset }: ProgramOptions): string[] {
  const size =
    typeof simulate === 'object'
      ? [...simulate].map(([kind, count]) => `${kind}:${count}`).join(',')
      : String(simulate)
  return ['--devices', size, '--port-offset', String(portOffset)]
}

function argumentsOf(name: string, configured: string | undefined, options: ProgramOptions): string[] {
  const { data, maxDisk, portOffset, broker, journal, store } = options
  const size = maxDisk === undefined ? undefined : `${maxDisk}B`
  const line = {
    data,
    'port-offset': String(portOffset),
    broker,
    journal,
    store,
    config: name === configured ? options.config : undefined,
    'max-disk': size,
  }
  return Object.entries(line).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))
}
