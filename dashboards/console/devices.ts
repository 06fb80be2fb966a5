// The devices: state, when they were last heard of, labels, and collectors that claim the same one.
import type { DeviceInfo } from '../../aggregator/query.ts'
import { ask } from './api.ts'
import { every, h, keyed, setText, tableOf } from './dom.ts'
import { ago, count } from './format.ts'
import type { ViewContext } from './view.ts'

export function devicesView({ root, signal, parameters, remember }: ViewContext): void {
  const summary = h('p', { class: 'lead', role: 'status' }, ' ')
  const conflicts = h('div', { class: 'conflicts' })
  const body = h('tbody', {})
  const search = h('input', {
    type: 'search',
    placeholder: 'Filter by name or label',
    'aria-label': 'Filter devices',
    value: parameters.get('text') ?? '',
  })
  const empty = h(
    'p',
    { class: 'empty', hidden: true },
    'No devices yet. One appears as soon as a collector reports on it; ',
    h('code', {}, 'dpulse up'),
    ' starts one for this machine.',
  )
  const table = tableOf(
    ['Device', 'State', 'Last seen', 'Name', 'Labels', 'Collector', 'Version'],
    body,
    'devices',
  )
  root.append(
    h('div', { class: 'bar' }, h('h1', {}, 'Devices'), summary, h('div', { class: 'grow' }), search),
    conflicts,
    table,
    empty,
  )

  let devices: DeviceInfo[] = []
  const show = () => {
    const text = search.value.toLowerCase()
    const fitting = devices.filter((device) => searchable(device).includes(text))
    const online = devices.filter(({ state }) => state === 'online').length
    setText(summary, devices.length === 0 ? ' ' : `${count(online)} of ${count(devices.length)} online`)
    empty.hidden = devices.length > 0
    table.hidden = devices.length === 0
    keyed(body, fitting, ({ device }) => device, makeRow, updateRow)
    showConflicts(conflicts, devices)
  }
  search.addEventListener('input', () => {
    remember({ text: search.value })
    show()
  })
  every(5000, signal, async () => {
    devices = (await ask<DeviceInfo[]>('/api/devices', {}, signal)) ?? devices
    if (!signal.aborted) show()
  })
}

function showConflicts(parent: HTMLElement, devices: readonly DeviceInfo[]): void {
  const claims = devices.flatMap(({ device, conflicts }) => conflicts.map((one) => ({ device, ...one })))
  keyed(
    parent,
    claims,
    ({ device, collectors }) => `${device} ${collectors.join(' ')}`,
    () => h('p', { class: 'notice bad' }),
    (element, { device, collectors, detail, since }) =>
      setText(
        element,
        `Conflict since ${ago(since)}: ${collectors.join(' and ')} both claim ${device}. ${detail}`,
      ),
  )
}

function searchable({ device, name, labels, collector }: DeviceInfo): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  return [device, name, collector, ...pairs].join(' ').toLowerCase()
}

function makeRow({ device }: DeviceInfo): HTMLElement {
  const link = h('a', { href: `#/device/${encodeURIComponent(device)}` }, device)
  const cells = Array.from({ length: 6 }, () => h('td', {}))
  return h('tr', {}, h('th', { scope: 'row' }, link), ...cells)
}

function updateRow(row: HTMLElement, device: DeviceInfo): void {
  const [, state, seen, name, labels, collector, version] = row.children
  if (state instanceof HTMLElement) {
    setText(state, device.state)
    state.className = `state ${device.state}`
  }
  if (labels instanceof HTMLElement) showLabels(labels, device.labels)
  for (const [cell, text] of [
    [seen, ago(device.lastSeen)],
    [name, device.name],
    [collector, device.collector],
    [version, device.version],
  ] as const) {
    if (cell !== undefined) setText(cell, text)
  }
}

export function showLabels(parent: HTMLElement, labels: Record<string, string>): void {
  const texts = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  keyed(
    parent,
    texts,
    (text) => text,
    (text) => h('span', { class: 'chip' }, text),
    () => undefined,
  )
}
