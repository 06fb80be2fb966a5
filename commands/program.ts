// The command line itself: every command with its options, examples and errors. What runs the programs is given by
// dpulse.ts, so that asking an aggregator loads none of their code.
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import type { ProgramOptions, SimulateOptions } from '../plugins/contract/options.ts'
import { dataDirectory } from '../plugins/contract/options.ts'
import { codeOf, messageOf } from '../plugins/contract/errors.ts'
import type { Checkers } from './check.ts'
import { addChanges } from './program-change.ts'
import { addSimulate, fleetSize } from './program-simulate.ts'
import { CommandFailure } from './failure.ts'
import {
  asking,
  choosing,
  collect,
  count,
  localOption,
  needsCommand,
  offset,
  offsetOption,
  outputOption,
  subcommand,
} from './options.ts'

export interface Programs {
  version: string
  up(options: ProgramOptions): Promise<void>
  collector(options: ProgramOptions): Promise<void>
  aggregator(options: ProgramOptions): Promise<void>
  simulate(options: SimulateOptions): Promise<void>
  /** Who knows the schemas of the programs' configurations. */
  checkers: Checkers
}

/** Runs one command line; the exit code. */
export async function run(programs: Programs, argv: readonly string[]): Promise<number> {
  const program = createProgram(programs)
  try {
    if (argv.length === 0) {
      program.outputHelp({ error: true })
      return 2
    }
    await program.parseAsync(argv, { from: 'user' })
    return 0
  } catch (error) {
    // Commander has printed it already; help and version come this way with 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    const { message, exitCode } = explained(error)
    process.stderr.write(`dpulse: ${message}\n`)
    return exitCode
  }
}

// What a program threw on purpose is for the person who started it; anything else is a bug and shows where.
function explained(error: unknown): { message: string; exitCode: 1 | 2 } {
  if (error instanceof CommandFailure) return error
  const code = codeOf(error)
  if (code !== 'UNEXPECTED') return { message: messageOf(error), exitCode: code === 'CONFIG_INVALID' ? 2 : 1 }
  return { message: error instanceof Error ? (error.stack ?? error.message) : String(error), exitCode: 1 }
}

export function createProgram(programs: Programs): Command {
  const program = new Command('dpulse')
    .description('The pulse of a DPU fleet: logs, readings and events, with an account of every record.')
    .version(programs.version, '-V, --version')
    .exitOverride()
    .configureHelp({ showGlobalOptions: false })
    .showSuggestionAfterError()
    .showHelpAfterError('(`dpulse --help` lists the commands; `dpulse COMMAND --help` their options)')
    .addHelpText('after', examples)
  program.commandsGroup('Run:')
  addPrograms(program, programs)
  program.commandsGroup('Ask:')
  addQuestions(program)
  program.commandsGroup('Other:')
  addOthers(program)
  program.helpCommand('help [command]', 'Show the options of a command.')
  return program
}

const examples = `
Examples:
  dpulse up                                    collector and aggregator on this machine, console on :8600
  dpulse up --simulate 200                     the same with a fleet behind it
  dpulse logs "link down" --severity warn      the newest lines that fit, oldest first
  dpulse logs --follow --device mt2150x00001   as they come in
  dpulse query system.cpu.utilization --since 1h --step 1m --aggregate mean
  dpulse apply -f collector.yaml --selector rack=r12 --stages 1%,10%,100%
  dpulse verbosity syslog debug --device mt2150x00001 --for 1h
  dpulse ledger                                does the account of every record add up?

Environment:
  DPULSE_URL             aggregator to ask (default http://127.0.0.1:8600)
  DPULSE_COLLECTOR_URL   collector to ask with --local (default http://127.0.0.1:8601)
  DPULSE_USER, DPULSE_PASSWORD   who you are, where the aggregator asks
  DPULSE_DATA            data directory (default ~/.local/share/dpulse)
  NO_COLOR               no colours

Exit code: 0 success, 1 failure, 2 wrong usage.
`

function addPrograms(program: Command, programs: Programs): void {
  const configHelp: Record<string, string> = {
    up: 'configuration (YAML) of the collector (it has pipelines) or of the aggregator; the other uses its defaults',
    collector: 'configuration (YAML); without one it starts what this machine has something for',
    aggregator: 'configuration (YAML); without one the defaults are used',
  }
  const started = (name: string, summary: string) =>
    subcommand(program, name)
      .summary(summary)
      .description(summary)
      .option('-c, --config <file>', configHelp[name] ?? '')
      .option('-d, --data <dir>', 'where data is kept (default $DPULSE_DATA, else ~/.local/share/dpulse)')
      .option(
        '--max-disk <size>',
        'most that dpulse may occupy there, 20GiB unless given: 6 parts the store, where the oldest records of the least precious class go first; 3 parts what waits for it and 1 part the collector’s buffer, where senders that can wait do, and of the others the least precious class goes first',
        size,
      )
      .option('--port-offset <n>', 'added to every default port', offset, 0)
      .option('--broker <url>', 'embedded, or mqtt://host:port', part('broker', 'mqtt', 'mqtts'), 'embedded')
      .option('--journal <url>', 'embedded, or kafka://host:port,…', part('journal', 'kafka'), 'embedded')
      .option(
        '--store <url>',
        'embedded, or influxdb://host:port/org/bucket',
        part('store', 'influxdb'),
        'embedded',
      )
  started('up', 'Collector and aggregator on this machine, restarted when they die.')
    .option(
      '--simulate <n>',
      'also so many virtual devices, as `dpulse simulate --devices` takes them',
      fleetSize,
    )
    .action((options) => programs.up(toProgramOptions(options)))
  started('collector', 'Gather what this machine has, filter, buffer and send it.').action((options) =>
    programs.collector(toProgramOptions(options)),
  )
  started('aggregator', 'Take in what collectors send; journal, store and account for it.').action(
    (options) => programs.aggregator(toProgramOptions(options)),
  )
  addSimulate(program, (options) => programs.simulate(options))
  subcommand(program, 'check')
    .description('Validate a configuration offline and print every problem with its path and line.')
    .argument('<file>', 'configuration (YAML) of the collector or the aggregator; its keys tell which')
    .option(
      '--try',
      'also run every source once and print what it would emit, or which right is missing',
      false,
    )
    .addOption(outputOption())
    .action(async (file: string, options) =>
      (await import('./check.ts')).check(file, options, programs.checkers),
    )
}

function addQuestions(program: Command): void {
  const get = subcommand(program, 'get').description('List things: devices, config, rollouts.')
  needsCommand(get)
  choosing(subcommand(get, 'devices').description('Devices, and which collectors report on them.')).action(
    async (options) => (await import('./devices.ts')).getDevices(options),
  )
  const remove = subcommand(program, 'delete').description(
    'Forget or undo things: device, config, verbosity, rollout.',
  )
  needsCommand(remove)
  subcommand(remove, 'device')
    .description(
      'Forget a device; one that reports again comes back. Its stored records stay until they expire.',
    )
    .argument('<device>')
    .option('-y, --yes', 'do not ask')
    .addOption(offsetOption())
    .action(async (device: string, options) => (await import('./devices.ts')).deleteDevice(device, options))
  addChanges(program, get, remove)
  addLogs(program)
  choosing(subcommand(program, 'metrics').description('Which metrics there are.')).action(async (options) =>
    (await import('./metrics.ts')).metrics(options),
  )
  addQuery(program)
  choosing(
    subcommand(program, 'ledger').description(
      'The account: produced = stored + dropped + in flight + unknown. Exit code 1 where it does not add up.',
    ),
  )
    .addOption(localOption())
    .action(async (options) => (await import('./ledger.ts')).ledger(options))
  asking(
    subcommand(program, 'top').description('Devices, flow by class, drops and what is in flight, refreshed.'),
  )
    .addOption(localOption())
    .action(async (options) => (await import('./top.ts')).top(options))
}

function addLogs(program: Command): void {
  choosing(subcommand(program, 'logs').description('Search log records: the newest that fit, oldest first.'))
    .argument('[text]', 'case-insensitive part of the body')
    .option(
      '--severity <name>',
      'lowest severity: trace, debug, info, notice, warn, error, critical, fatal, or 1 to 24',
    )
    .option('--since <time>', 'from here on: 15m, 1h, 7d, 2026-11-21T09:55:00Z, or now')
    .option('--until <time>', 'up to here')
    .option('--where <key=value>', 'attribute of the record or its resource (repeatable)', collect)
    .option('--limit <n>', 'most records; 1000 unless given', count)
    .option('-f, --follow', 'go on with records as they come in')
    .addOption(localOption())
    .action(async (text: string | undefined, options) => (await import('./logs.ts')).logs(text, options))
}

function addQuery(program: Command): void {
  choosing(subcommand(program, 'query').description('The points of one metric.'))
    .argument('<metric>', '`dpulse metrics` lists them')
    .option('--where <key=value>', 'attribute of the series (repeatable)', collect)
    .option('--since <time>', 'from here on: 15m, 1h, 7d, 2026-11-21T09:55:00Z (default 1h)')
    .option('--until <time>', 'up to here (default now)')
    .option('--step <duration>', 'width of one point; without it the stored points')
    .addOption(
      new Option('--aggregate <how>', 'how the points of a step become one').choices([
        'mean',
        'min',
        'max',
        'sum',
        'last',
        'increase',
        'rate',
      ]),
    )
    .option('--by <key,…>', 'join series, keeping these attributes apart')
    .action(async (metric: string, options) => (await import('./metrics.ts')).query(metric, options))
}

function addOthers(program: Command): void {
  subcommand(program, 'password')
    .description('Print the hash of the password that is typed, for `mqtt.login` of the aggregator.')
    .action(async () => (await import('./password.ts')).printPasswordHash(process.stdin))
  subcommand(program, 'completion')
    .description('Print a completion script, for example: source <(dpulse completion bash)')
    .addArgument(program.createArgument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action(async (shell: string) => {
      const { completion } = await import('./completion.ts')
      process.stdout.write(completion(program, shell))
    })
}

interface StartedOptions extends Omit<ProgramOptions, 'data'> {
  data?: string
}

function toProgramOptions({ data, ...options }: StartedOptions): ProgramOptions {
  return { ...options, data: dataDirectory(data, process.env) }
}

const sizeUnits: Record<string, number> = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }

function size(value: string): number {
  const parts = /^(\d{1,9}(?:\.\d{1,3})?)\s*(B|KiB|MiB|GiB|TiB)$/.exec(value)
  const bytes = Math.floor(Number(parts?.[1]) * (sizeUnits[parts?.[2] ?? ''] ?? Number.NaN))
  if (!(bytes > 0)) throw new InvalidArgumentError('It takes a size with its unit, such as 512MiB or 10GiB.')
  return bytes
}

function part(name: string, ...schemes: string[]): (value: string) => string {
  return (value) => {
    if (value === 'embedded') return value
    if (schemes.some((scheme) => value.startsWith(`${scheme}://`) && value.length > scheme.length + 3))
      return value
    throw new InvalidArgumentError(
      `A ${name} is embedded or ${schemes.map((scheme) => `${scheme}://host:port`).join(' or ')}.`,
    )
  }
}
