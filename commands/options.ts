// Options that several commands share, and how a command is made so that its errors and its help look like the others'.
import { InvalidArgumentError, Option } from 'commander'
import type { Command } from 'commander'

// A subcommand does not inherit how errors are shown unless it is told to.
export function subcommand(parent: Command, name: string): Command {
  return parent.command(name).copyInheritedSettings(parent).allowExcessArguments(false)
}

// What stands where a subcommand should is named; nothing there shows the help.
export function needsCommand(group: Command): void {
  group.allowExcessArguments(true).action(() => {
    const [given] = group.args
    if (given === undefined) return group.help({ error: true })
    const known = group.commands.map((one) => one.name()).join(', ')
    return group.error(`error: '${group.name()}' knows no '${given}'; there is ${known}`)
  })
}

export function asking(command: Command): Command {
  return command.addOption(outputOption()).addOption(offsetOption())
}

export function choosing(command: Command): Command {
  return asking(command)
    .option('--device <name>', 'only this device (repeatable)', collect)
    .option('--selector <label=value,…>', 'only devices with these labels (repeatable)', collect)
}

export function outputOption(): Option {
  return new Option('-o, --output <form>', 'how to print').choices(['table', 'json']).default('table')
}

export function offsetOption(): Option {
  return new Option('--port-offset <n>', 'the aggregator runs with this offset').argParser(offset).default(0)
}

export function localOption(): Option {
  return new Option('--local', 'ask the collector on this machine instead of the aggregator')
}

export function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value]
}

export function count(value: string): number {
  if (!/^\d{1,12}$/.test(value) || Number(value) < 1)
    throw new InvalidArgumentError('It takes a whole number from 1.')
  return Number(value)
}

const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `250ms`, `30s`, `2m`, `1h`, `7d` or 0; undefined where it is none. */
export function milliseconds(text: string): number | undefined {
  if (text === '0') return 0
  const parts = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text)
  return parts ? Number(parts[1]) * (units[parts[2] ?? ''] ?? 0) : undefined
}

export function offset(value: string): number {
  // The highest default port is 24224.
  if (!/^\d{1,5}$/.test(value) || Number(value) > 41_311) {
    throw new InvalidArgumentError('It takes a whole number from 0 to 41311.')
  }
  return Number(value)
}
