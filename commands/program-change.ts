// The commands that change devices, as the command line knows them: apply, verbosity, label, and what lists and undoes it.
import type { Command } from 'commander'
import { asking, choosing, outputOption, offsetOption, subcommand } from './options.ts'

const severities = ['trace', 'debug', 'info', 'warn', 'error', 'fatal']

/** `get` and `remove` are the groups of that name. */
export function addChanges(program: Command, get: Command, remove: Command): void {
  choosing(
    subcommand(get, 'config').description('What is wished of each device, and what is in force there.'),
  ).action(async (options) => (await import('./config.ts')).getConfig(options))
  asking(subcommand(get, 'rollouts').description('Rollouts in stages, the newest first.')).action(
    async (options) => (await import('./rollouts.ts')).getRollouts(options),
  )
  const describe = subcommand(program, 'describe').description('All about one thing: config.')
  asking(
    subcommand(describe, 'config')
      .description('Wish and fact of one device, with the text that is wished.')
      .argument('<device>'),
  ).action(async (device: string, options) => (await import('./config.ts')).describeConfig(device, options))
  addApply(program)
  addVerbosity(program)
  addLabel(program)
  addRemovals(remove)
}

const waiting = (command: Command): Command =>
  command.option(
    '--wait <duration>',
    'how long to wait for the devices that are online; 0 does not wait',
    '2m',
  )

const whole = (command: Command): Command => command.option('--all', 'the whole fleet')

function addApply(program: Command): void {
  waiting(
    whole(
      choosing(
        subcommand(program, 'apply').description(
          'Give devices a configuration: each checks it, tries it, and goes back where it loses the aggregator.',
        ),
      ),
    ),
  )
    .option('-f, --file <file>', 'configuration (YAML) of a collector')
    .option('--stages <percent,…>', 'in stages that stop at refusals, roll-backs and losses: 1%,10%,100%')
    .option('--soak <duration>', 'how long a stage is watched once it is in force (default 30s)')
    .option('--status', 'show rollouts and devices instead', false)
    .addHelpText(
      'after',
      `
Undo: \`dpulse delete config\` goes back to the devices' own configurations, \`apply\` of an older file to that.
`,
    )
    .action(async (options) => (await import('./apply.ts')).apply(options))
}

function addVerbosity(program: Command): void {
  waiting(
    whole(
      choosing(
        subcommand(program, 'verbosity').description(
          'The lowest severity of log lines that leaves a source, for a while. The device ends it by itself.',
        ),
      ),
    ),
  )
    .argument('<source>', 'id of a source in the configuration in force, such as syslog')
    .addArgument(program.createArgument('<severity>').choices(severities))
    .requiredOption('--for <duration>', 'how long: 15m, 1h, 1d; at most 31d')
    .addHelpText(
      'after',
      `
It is the first rule of the source: lines below it are dropped (counted as filter), and for the others rules that drop
by severity give way. End it early with \`dpulse delete verbosity SOURCE --device D\`.
`,
    )
    .action(async (source: string, severity: string, options) =>
      (await import('./verbosity.ts')).setVerbosity(source, severity, options),
    )
}

function addLabel(program: Command): void {
  waiting(asking(subcommand(program, 'label').description('Set labels of a device, or take them away.')))
    .argument('[device]')
    .argument('[labels...]', 'dpu.rack=r12 sets, dpu.rack- takes away; dpu. may be left out')
    .option(
      '--from <file>',
      'CSV: a column `device`, and one for each label; an empty cell changes nothing, - takes away',
    )
    .action(async (device: string | undefined, labels: string[], options) =>
      (await import('./label.ts')).label(device, labels, options),
    )
}

function addRemovals(remove: Command): void {
  waiting(
    whole(
      choosing(
        subcommand(remove, 'config').description(
          "Back to the devices' own configurations: their file, or what they find.",
        ),
      ),
    ),
  ).action(async (options) => (await import('./config.ts')).deleteConfig(options))
  waiting(whole(choosing(subcommand(remove, 'verbosity').description('End it before its time.'))))
    .argument('[source]', 'of this source; of all where left out')
    .action(async (source: string | undefined, options) =>
      (await import('./verbosity.ts')).endVerbosity(source, options),
    )
  subcommand(remove, 'rollout')
    .description('Stop a rollout where it is; what is in force stays.')
    .argument('<id>', '`dpulse get rollouts` lists them')
    .addOption(outputOption())
    .addOption(offsetOption())
    .action(async (id: string, options) => (await import('./rollouts.ts')).stopRollout(id, options))
}
