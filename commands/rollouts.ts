// `dpulse get rollouts` and `dpulse delete rollout ID`.
import { Rollouts, Stopped } from './answers.ts'
import type { Rollout } from './answers.ts'
import { ask, change, whoAmI } from './asking.ts'
import type { AskOptions } from './asking.ts'
import { ago, note, print, printJson, printable, table, terminalWidth } from './terminal.ts'
import type { Cell, Column } from './terminal.ts'

interface PrintOptions extends AskOptions {
  output: 'table' | 'json'
}

export async function getRollouts(options: PrintOptions): Promise<void> {
  const list = await ask(options, '/api/rollouts', {}, Rollouts)
  if (options.output === 'json') return printJson(list)
  if (list.length === 0) return note('no rollouts; `dpulse apply --stages 1%,10%,100%` starts one')
  return print(rolloutsTable(list, Date.now(), terminalWidth()))
}

function rolloutsTable(list: readonly Rollout[], nowMs: number, width: number | undefined): string {
  const columns: Column[] = [
    { title: 'ROLLOUT' },
    { title: 'STATE' },
    { title: 'STAGE' },
    { title: 'REACHED', align: 'right' },
    { title: 'CONFIG' },
    { title: 'BY', flexible: true, optional: true },
    { title: 'BEGUN', align: 'right', optional: true },
    { title: 'WHY', flexible: true },
  ]
  const style = { running: 'cyan', done: 'green', stopped: 'red' } as const
  const rows = list.map((one): Cell[] => [
    one.id,
    { text: one.state, style: style[one.state as keyof typeof style] ?? 'dim' },
    stageOf(one),
    `${one.reached} of ${one.devices}`,
    one.hash,
    one.by,
    `${ago(one.time, nowMs)} ago`,
    one.detail,
  ])
  return table(columns, rows, width)
}

const stageOf = ({ stages, stage }: Rollout): string => `${stages[stage] ?? 100}% of ${stages.join('%, ')}%`

/** What has changed since one looked. */
export function rolloutLine(one: Rollout): string {
  const states = Object.entries(one.states).map(([state, count]) => `${count} ${state.replace('_', ' ')}`)
  const parts = [`${stageOf(one)}: ${one.reached} of ${one.devices} reached`, states.join(', '), one.detail]
  return printable(`${one.state} ${parts.filter((part) => part !== '').join('; ')}`)
}

export async function stopRollout(id: string, options: PrintOptions): Promise<void> {
  const path = `/api/rollouts/${encodeURIComponent(id)}`
  const answer = await change(options, 'DELETE', path, { by: whoAmI() }, undefined, Stopped)
  if (options.output === 'json') return printJson(answer)
  return print(`stopped ${answer.stopped}; what is in force stays`)
}
