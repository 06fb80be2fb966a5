// Configurations: what is wished of each device and what is in force there, those that need somebody first, and rollouts.
import type { DeviceChange, Rollout } from '../../plugins/protocols/fleet-changes.ts'
import { ask } from './api.ts'
import { every, h, keyed, setText, tableOf } from './dom.ts'
import { ago, count } from './format.ts'
import type { ViewContext } from './view.ts'

/** Those that need somebody first. */
const order = ['refused', 'rolled_back', 'drift', 'pending', 'trial', 'in_force', 'own'] as const
type State = (typeof order)[number]
const names: Record<State, string> = {
  refused: 'refused',
  rolled_back: 'rolled back',
  drift: 'drift',
  pending: 'pending',
  trial: 'on trial',
  in_force: 'in force',
  own: 'its own',
}
const mostRows = 500
const mostRollouts = 5

export function changesView({ root, signal, parameters, remember }: ViewContext): void {
  const summary = h('p', { class: 'lead', role: 'status' }, ' ')
  const body = h('tbody', {})
  const rest = h('p', { class: 'hint' }, ' ')
  const search = h('input', {
    type: 'search',
    placeholder: 'Filter by device, state, hash or who',
    'aria-label': 'Filter configurations',
    value: parameters.get('text') ?? '',
  })
  const rollouts = h('div', { class: 'rollouts' })
  root.append(
    h('div', { class: 'bar' }, h('h1', {}, 'Configuration'), summary, h('div', { class: 'grow' }), search),
    rollouts,
    tableOf(['Device', 'State', 'In force', 'Wished', 'By', 'When', 'Verbosity', 'Why'], body, 'changes'),
    rest,
  )
  let list: DeviceChange[] = []
  const show = () => {
    const text = search.value.toLowerCase()
    const fitting = list.filter((one) => searchable(one).includes(text)).toSorted(byConcern)
    const shown = fitting.slice(0, mostRows)
    setText(summary, summaryOf(list))
    setText(rest, shown.length < fitting.length ? `${count(shown.length)} of ${count(fitting.length)}` : ' ')
    keyed(body, shown, ({ device }) => device, makeRow, updateRow)
  }
  search.addEventListener('input', () => {
    remember({ text: search.value })
    show()
  })
  every(3000, signal, async () => {
    const [devices, running] = await Promise.all([
      ask<DeviceChange[]>('/api/config', {}, signal),
      ask<Rollout[]>('/api/rollouts', {}, signal),
    ])
    if (signal.aborted) return
    list = devices ?? list
    show()
    showRollouts(rollouts, running ?? [])
  })
}

function summaryOf(list: readonly DeviceChange[]): string {
  const parts = order.flatMap((state) => {
    const of = list.filter((one) => one.state === state).length
    return of === 0 ? [] : [`${count(of)} ${names[state]}`]
  })
  return parts.length === 0 ? 'No devices yet' : parts.join(', ')
}

const byConcern = (one: DeviceChange, other: DeviceChange): number =>
  order.indexOf(one.state) - order.indexOf(other.state) || (one.device < other.device ? -1 : 1)

function searchable({ device, state, detail, desired, reported }: DeviceChange): string {
  const { hash, by } = desired?.configuration ?? {}
  const parts = [device, names[state], detail, hash, by, reported?.configuration.hash]
  return parts
    .filter((part) => part !== undefined)
    .join(' ')
    .toLowerCase()
}

function makeRow({ device }: DeviceChange): HTMLElement {
  const link = h('a', { href: `#/device/${encodeURIComponent(device)}` }, device)
  const cells = Array.from({ length: 7 }, () => h('td', {}))
  return h('tr', {}, h('th', { scope: 'row' }, link), ...cells)
}

function updateRow(row: HTMLElement, { state, online, detail, desired, reported }: DeviceChange): void {
  const [, status, force, wish, by, when, verbosity, why] = row.children
  const wished = desired?.configuration
  const fact = reported?.configuration
  const isBad = state === 'refused' || state === 'rolled_back' || state === 'drift'
  row.className = isBad ? 'bad' : ''
  if (status instanceof HTMLElement) {
    status.className = `state ${online ? 'online' : 'offline'}`
  }
  const told = (reported?.verbosity ?? []).map((one) =>
    one.state === 'in_force'
      ? `${one.source} ${one.severity}`
      : `${one.source} ${one.severity}: ${one.state}`,
  )
  const inForce =
    fact === undefined ? '' : fact.origin === 'applied' ? fact.hash : `${fact.hash} (${fact.origin})`
  for (const [cell, text] of [
    [status, `${names[state]}${online ? '' : ', offline'}`],
    [force, inForce],
    [wish, wished === undefined ? '' : (wished.hash ?? 'its own')],
    [by, wished?.by ?? ''],
    [when, wished === undefined ? '' : ago(wished.time)],
    [verbosity, told.join(', ')],
    [why, detail],
  ] as const) {
    if (cell !== undefined) setText(cell, text)
  }
}

function showRollouts(parent: HTMLElement, list: readonly Rollout[]): void {
  keyed(
    parent,
    list.slice(0, mostRollouts),
    ({ id }) => id,
    () => h('p', { class: 'notice' }),
    (element, { state, stages, stage, reached, devices, detail, hash, by, time }) => {
      element.className = state === 'stopped' ? 'notice bad' : 'notice'
      const at = `${stages[stage] ?? 100} % of ${stages.join(' %, ')} %`
      const why = detail === '' ? '' : `: ${detail}`
      const who = `${hash} by ${by}, begun ${ago(time)}`
      setText(
        element,
        `Rollout ${state}, ${at}, ${count(reached)} of ${count(devices)} reached${why} (${who})`,
      )
    },
  )
}
