// `dpulse get config`, `dpulse describe config D` and `dpulse delete config`: wish and fact of devices, and how to undo.
import { Changed, DeviceChanges, DeviceChangeText } from './answers.ts'
import { ask, change, whoAmI } from './asking.ts'
import type { ChoiceOptions } from './devices.ts'
import { configTable, said, styles, summaryOf, verbosityOf } from './change-table.ts'
import { settle, theConfiguration } from './settling.ts'
import type { WaitOptions } from './settling.ts'
import { note, print, printJson, styled, printable, terminalWidth } from './terminal.ts'

export interface TargetOptions extends ChoiceOptions, WaitOptions {
  all?: boolean
}

/** What a change is for, as parameters of the API. */
export const targetOf = ({ device, selector, all }: TargetOptions) => ({
  device,
  selector,
  ...(all === true && { all: 'true' }),
})

export async function getConfig(options: ChoiceOptions): Promise<void> {
  const { device, selector } = options
  const found = await ask(options, '/api/config', { device, selector }, DeviceChanges)
  if (options.output === 'json') return printJson(found)
  if (found.length === 0) return note('no devices; a collector that reports makes one appear')
  print(`${summaryOf(found)}\n`)
  return print(configTable(found, Date.now(), terminalWidth()))
}

export async function describeConfig(device: string, options: ChoiceOptions): Promise<void> {
  const found = await ask(options, `/api/config/${encodeURIComponent(device)}`, {}, DeviceChangeText)
  if (options.output === 'json') return printJson(found)
  const { state, detail, online, desired, reported, text } = found
  const lines = [
    `${device}: ${styled(styles[state] ?? 'dim', said(state))}${online ? '' : ', offline'}${detail === '' ? '' : `: ${printable(detail)}`}`,
  ]
  if (reported) {
    const { hash, origin, since } = reported.configuration
    const where = { applied: 'applied from the aggregator', file: 'its own file', detected: 'what it found' }
    lines.push(`in force: ${hash}, ${where[origin as keyof typeof where] ?? origin}, since ${since}`)
    lines.push(`its own: ${reported.base.hash}`)
    for (const { path, message, severity } of reported.outcome?.problems ?? []) {
      lines.push(`  ${severity}: ${printable(path === '' ? message : `${path}: ${message}`)}`)
    }
    for (const one of reported.verbosity) {
      lines.push(`verbosity: ${printable(verbosityOf(one))}${one.reason ? `: ${printable(one.reason)}` : ''}`)
    }
  }
  const wished = desired?.configuration
  if (wished) lines.push(`wished: ${wished.hash ?? 'its own'} by ${printable(wished.by)} at ${wished.time}`)
  else lines.push('wished: nothing; `dpulse apply -f FILE --device` gives it a configuration')
  if (wished && wished.hash !== null) {
    lines.push('undo: `dpulse delete config --device` returns to its own, `dpulse apply -f OLDER` to that')
  }
  print(lines.join('\n'))
  if (text !== null) print(`\n${text.split('\n').map(printable).join('\n')}`)
}

export async function deleteConfig(options: TargetOptions): Promise<void> {
  const parameters = { ...targetOf(options), by: whoAmI() }
  const changed = await change(options, 'DELETE', '/api/config', parameters, undefined, Changed)
  await settle(options, changed, theConfiguration('return to their own configurations'))
}
