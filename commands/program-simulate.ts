// `dpulse simulate`, as the command line knows it: a fleet of virtual devices for any aggregator, or into a file.
import { InvalidArgumentError, Option } from 'commander'
import type { Command } from 'commander'
import type { FleetSize, SimulateOptions } from '../plugins/contract/options.ts'
import { milliseconds, offset, subcommand } from './options.ts'

/** More than one process can hold, and far from what a typing error asks for. */
const mostDevices = 100_000

export function addSimulate(program: Command, run: (options: SimulateOptions) => Promise<void>): void {
  subcommand(program, 'simulate')
    .summary('A fleet of virtual devices, each with the real collector, on an aggregator.')
    .description(
      'Virtual DPUs of several vendors, in racks, sites and tenants. Each runs the real collector on simulated inputs, with its own connection, session and buffer.',
    )
    .option('--devices <n>', 'how many, of all kinds; or how many of which: bluefield-3:10,…', fleetSize, 100)
    .option('--seed <n>', 'two runs of one seed are the same', seed, 1)
    .option(
      '--speed <factor>',
      'simulated seconds in a second; into a file it is as fast as it can be',
      speed,
      1,
    )
    .addOption(
      new Option('--interval <duration>', 'between readings').argParser(duration).default(10_000, '10s'),
    )
    .addOption(
      new Option('--faults <list>', 'which faults happen; `--faults help` lists them').default('', 'none'),
    )
    .option(
      '--duration <duration>',
      'of simulated time; for ever unless given, an hour into a file',
      duration,
    )
    .option('--start <time>', 'when the run begins, as 2026-01-01T00:00:00Z (default: see below)', time)
    .option('--to <url>', 'mqtt://host:port, http://host:port (OTLP), grpc://, kafka://, or file:PATH')
    .option('--truth <file>', 'write which fault began and ended when and where, one JSON object a line')
    .option('-d, --data <dir>', 'a buffer on disk for each device, instead of one in memory')
    .option(
      '--bmc <port>',
      'a BMC that speaks Redfish for each device, from this port on; login root, 0penBmc',
      port,
    )
    .option('--port-offset <n>', 'the aggregator of this machine runs with this offset', offset, 0)
    .addHelpText('after', notes)
    .action((options: SimulateOptions) => run(options))
}

const notes = `
Times: it begins now. Where it is faster than the clock it replays the past: it ends now with --duration, and otherwise
begins an hour ago and goes on with the clock once it has caught up. Into a file it begins at 2026-01-01T00:00:00Z, and
two runs of the same options write the same bytes.

Examples:
  dpulse simulate --devices 200
  dpulse simulate --devices 100 --speed 60 --duration 1h --truth truth.jsonl
  dpulse simulate --devices bluefield-3:20 --duration 10m --to file:fleet.jsonl
`

export function fleetSize(value: string): FleetSize {
  if (/^\d{1,6}$/.test(value)) return whole(Number(value))
  const sizes = new Map<string, number>()
  for (const part of value.split(',')) {
    const [, kind, count] = /^([a-z0-9][a-z0-9-]{0,63}):(\d{1,6})$/.exec(part) ?? []
    if (kind === undefined) {
      throw new InvalidArgumentError(
        'It takes a number, or how many of which kind: bluefield-3:10,octeon-10:5.',
      )
    }
    sizes.set(kind, whole((sizes.get(kind) ?? 0) + Number(count)))
  }
  whole([...sizes.values()].reduce((sum, count) => sum + count, 0))
  return sizes
}

function whole(count: number): number {
  if (count >= 1 && count <= mostDevices) return count
  throw new InvalidArgumentError(`It takes 1 to ${mostDevices} devices.`)
}

function seed(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new InvalidArgumentError('It takes a whole number below a thousand million.')
}

function speed(value: string): number {
  const factor = /^\d{1,4}(\.\d{1,3})?$/.test(value) ? Number(value) : Number.NaN
  if (factor >= 0.1 && factor <= 3600) return factor
  throw new InvalidArgumentError('It takes a number from 0.1 to 3600.')
}

function duration(value: string): number {
  const ms = milliseconds(value)
  if (ms !== undefined && ms >= 1000) return ms
  throw new InvalidArgumentError('It takes a duration of at least a second, such as 10s, 30m or 1h.')
}

function time(value: string): number {
  const ms = /^\d{4}-\d\d-\d\dT/.test(value) ? Date.parse(value) : Number.NaN
  if (ms >= 0) return ms
  throw new InvalidArgumentError('It takes a time such as 2026-01-01T00:00:00Z.')
}

function port(value: string): number {
  if (/^\d{1,5}$/.test(value) && Number(value) >= 1 && Number(value) <= 65_535) return Number(value)
  throw new InvalidArgumentError('It takes a port from 1 to 65535.')
}
