// Wish and fact of devices as people see them: one line each, and how many are how.
import type { DeviceChange } from './answers.ts'
import { ago, styled, table } from './terminal.ts'
import type { Cell, Column, Style } from './terminal.ts'

export const styles: Record<string, Style> = {
  own: 'dim',
  in_force: 'green',
  trial: 'cyan',
  pending: 'yellow',
  drift: 'red',
  refused: 'red',
  rolled_back: 'red',
}

/** `12 in force, 3 pending, 1 refused` */
export function summaryOf(list: readonly DeviceChange[]): string {
  const counts = new Map<string, number>()
  for (const { state } of list) counts.set(state, (counts.get(state) ?? 0) + 1)
  return [...counts]
    .map(([state, count]) => styled(styles[state] ?? 'dim', `${count} ${said(state)}`))
    .join(', ')
}

export const said = (state: string): string => state.replace('_', ' ')

export function configTable(list: readonly DeviceChange[], nowMs: number, width: number | undefined): string {
  const columns: Column[] = [
    { title: 'DEVICE' },
    { title: 'STATE' },
    { title: 'IN FORCE' },
    { title: 'WISHED' },
    { title: 'BY', flexible: true, optional: true },
    { title: 'WHEN', align: 'right', optional: true },
    { title: 'VERBOSITY', flexible: true },
    { title: 'WHY', flexible: true },
  ]
  const rows = list.map(({ device, online, state, detail, desired, reported }): Cell[] => {
    const wished = desired?.configuration
    const fact = reported?.configuration
    return [
      device,
      { text: `${said(state)}${online ? '' : ' (offline)'}`, style: styles[state] ?? 'dim' },
      fact ? (fact.origin === 'applied' ? fact.hash : `${fact.hash} (${fact.origin})`) : '',
      wished ? (wished.hash ?? 'its own') : '',
      wished?.by ?? '',
      wished ? `${ago(wished.time, nowMs)} ago` : '',
      (reported?.verbosity ?? []).map(verbosityOf).join(', '),
      detail,
    ]
  })
  return table(columns, rows, width)
}

export function verbosityOf({
  source,
  severity,
  state,
  until,
}: {
  source: string
  severity: string
  state: string
  until: string
}): string {
  const minutes = Math.max(0, Math.ceil((Date.parse(until) - Date.now()) / 60_000))
  return state === 'in_force' ? `${source} ${severity} for ${minutes} min` : `${source} ${severity} ${state}`
}
