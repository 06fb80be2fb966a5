// `dpulse ledger`: the account of every record, the verdict first. It fails when the account does not add up.
import { Ledger } from './answers.ts'
import { ask } from './asking.ts'
import type { ChoiceOptions } from './devices.ts'
import { CommandFailure } from './failure.ts'
import { counted, note, print, printJson, styled, table, terminalWidth } from './terminal.ts'
import type { Cell, Column } from './terminal.ts'

export async function ledger(options: ChoiceOptions): Promise<void> {
  const { device, selector } = options
  const report = await ask(options, '/api/ledger', { device, selector }, Ledger)
  if (options.output === 'json') printJson(report)
  else if (report.streams.length > 0) print(ledgerText(report, terminalWidth()))
  else {
    const isAll = device === undefined && selector === undefined
    note(`the ledger is empty: nothing was produced yet${isAll ? '' : ' by what was asked for'}`)
  }
  if (!report.balanced) throw new CommandFailure(imbalance(report), 1)
}

/** Of so many streams the sentence names one. */
function imbalance({ streams }: Ledger): string {
  const [first, ...others] = streams.filter(({ balanced }) => balanced === false)
  if (!first) return 'the ledger does not balance'
  const { collector, device, session, class: name } = first
  const which = `${name} of ${device} by ${collector}, session ${session}`
  const more = others.length === 0 ? '' : `, and ${counted(others.length)} more of ${counted(streams.length)}`
  return `the ledger does not balance: ${which}${more}`
}

export function ledgerText(report: Ledger, width: number | undefined): string {
  const columns: Column[] = [
    { title: 'COLLECTOR', flexible: true, optional: true },
    { title: 'DEVICE', flexible: true },
    { title: 'SESSION', optional: true },
    { title: 'CLASS' },
    { title: 'PRODUCED', align: 'right' },
    { title: 'STORED', align: 'right' },
    { title: 'IN FLIGHT', align: 'right' },
    { title: 'DROPPED', align: 'right' },
    { title: 'UNKNOWN', align: 'right' },
    { title: 'SEQ', align: 'right', optional: true },
    { title: 'MISSING', flexible: true },
  ]
  const rows = report.streams.map((stream): Cell[] => [
    stream.collector,
    stream.device,
    // The start of a ULID is its time, which sessions of one day share.
    stream.session.length > 12 ? `…${stream.session.slice(-8)}` : stream.session,
    stream.balanced === false ? { text: `${stream.class} !`, style: 'red' } : stream.class,
    counted(stream.produced),
    counted(stream.stored),
    counted(stream.inFlight),
    alarming(dropsOf(stream.dropped), 'yellow'),
    alarming(stream.unknown, 'red'),
    counted(stream.lastSeq),
    { text: rangesOf(stream.missing), style: 'red' },
  ])
  return `${verdict(report)}\n\n${table(columns, rows, width)}`
}

export function verdict(report: Ledger): string {
  const { produced, stored, inFlight, unknown } = report
  const dropped = dropsOf(report.dropped)
  const sum = `${counted(stored)} stored + ${counted(dropped)} dropped + ${counted(inFlight)} in flight + ${counted(unknown)} unknown`
  const head = report.balanced
    ? styled('green', 'balanced')
    : styled('red', 'NOT BALANCED: something that was acknowledged is not there')
  const sign = produced === stored + dropped + inFlight + unknown ? '=' : '≠'
  const lines = [`${head}: ${counted(produced)} produced ${sign} ${sum}`]
  const reasons = Object.entries(report.dropped).sort(([, a], [, b]) => b - a)
  if (reasons.length > 0)
    lines.push(`dropped: ${reasons.map(([name, count]) => `${name} ${counted(count)}`).join(', ')}`)
  return lines.join('\n')
}

export function dropsOf(dropped: Record<string, number>): number {
  return Object.values(dropped).reduce((sum, count) => sum + count, 0)
}

function rangesOf(missing: readonly (readonly [number, number])[]): string {
  return missing.map(([from, to]) => (from === to ? String(from) : `${from}–${to}`)).join(' ')
}

function alarming(count: number, style: 'yellow' | 'red'): Cell {
  return count === 0 ? '0' : { text: counted(count), style }
}
