// The ledger: does the account of every record add up? The verdict first, then where each record is, then each stream.
import type { LedgerReport, StreamAccount } from '../../aggregator/query.ts'
import { ask } from './api.ts'
import { every, h, keyed, setText, tableOf } from './dom.ts'
import { count } from './format.ts'
import type { ViewContext } from './view.ts'

const mostStreams = 500

const parts = [
  ['stored', 'Stored', 'in the store, or removed from it by retention'],
  ['inFlight', 'In flight', 'in a buffer, on the way or in the journal'],
  ['dropped', 'Dropped', 'on purpose or for want of space, by reason'],
  ['unknown', 'Unknown', 'announced, never acknowledged, and in no buffer any more'],
] as const

export function ledgerView({ root, signal, parameters, remember }: ViewContext): void {
  const overview = makeOverview()
  const body = h('tbody', {})
  const search = h('input', {
    type: 'search',
    placeholder: 'Filter by device, collector or class',
    'aria-label': 'Filter streams',
    value: parameters.get('text') ?? '',
  })
  const rest = h('p', { class: 'hint' }, ' ')
  const heads = [
    'Device',
    'Class',
    'Session',
    'Produced',
    'Stored',
    'In flight',
    'Dropped',
    'Unknown',
    'Last',
    'Missing',
  ]
  root.append(
    h('div', { class: 'bar' }, h('h1', {}, 'Ledger')),
    overview.element,
    h('div', { class: 'bar' }, h('h2', {}, 'Streams'), rest, h('div', { class: 'grow' }), search),
    tableOf(heads, body, 'numbers'),
  )

  let report: LedgerReport | undefined
  const show = () => {
    if (report === undefined) return
    overview.show(report)
    const text = search.value.toLowerCase()
    const fitting = report.streams.filter((stream) =>
      `${stream.device} ${stream.collector} ${stream.class} ${stream.session}`.toLowerCase().includes(text),
    )
    const shown = [...fitting].sort(byConcern).slice(0, mostStreams)
    setText(
      rest,
      shown.length < fitting.length ? `${count(shown.length)} of ${count(fitting.length)}, worst first` : ' ',
    )
    keyed(
      body,
      shown,
      (stream) => `${stream.collector} ${stream.session} ${stream.device} ${stream.class}`,
      makeRow,
      updateRow,
    )
  }
  search.addEventListener('input', () => {
    remember({ text: search.value })
    show()
  })
  every(2000, signal, async () => {
    report = (await ask<LedgerReport>('/api/ledger', {}, signal)) ?? report
    if (!signal.aborted) show()
  })
}

function makeOverview() {
  const verdict = h('p', { class: 'verdict', role: 'status' }, 'Reading the books…')
  const sum = h('p', { class: 'sum' }, ' ')
  const shares = parts.map(([key]) => h('span', { class: key }))
  const meter = h('div', { class: 'meter', 'aria-hidden': 'true' }, ...shares)
  const tiles = h('div', { class: 'tiles' }, ...['produced', ...parts.map(([key]) => key)].map(makeTile))
  const reasons = h('div', { class: 'reasons' })
  return {
    element: h('section', { class: 'panel padded' }, verdict, sum, meter, tiles, reasons),
    show(report: LedgerReport) {
      showVerdict(report, verdict, sum)
      showParts(report, meter, tiles)
      showReasons(reasons, report.dropped)
    },
  }
}

function droppedOf({ dropped }: { dropped: Record<string, number> }): number {
  return Object.values(dropped).reduce((total, records) => total + records, 0)
}

// What needs a person comes first; the rest keeps a steady order, so that rows do not jump.
function byConcern(a: StreamAccount, b: StreamAccount): number {
  const concern = ({ balanced, unknown, missing }: StreamAccount) =>
    (balanced ? 0 : 4) + (missing.length > 0 ? 2 : 0) + (unknown > 0 ? 1 : 0)
  if (concern(a) !== concern(b)) return concern(b) - concern(a)
  const name = (stream: StreamAccount) => `${stream.device} ${stream.class} ${stream.session}`
  return name(a) < name(b) ? -1 : 1
}

function showVerdict(report: LedgerReport, verdict: HTMLElement, sum: HTMLElement): void {
  const { produced, stored, inFlight, unknown } = report
  const dropped = droppedOf(report)
  verdict.className = report.balanced ? (unknown > 0 ? 'verdict odd' : 'verdict good') : 'verdict bad'
  if (produced === 0) setText(verdict, 'Nothing was produced yet.')
  else if (!report.balanced) setText(verdict, 'Not balanced: something that was acknowledged is not there.')
  else if (unknown > 0) setText(verdict, `Balanced, with ${count(unknown)} records whose end is unknown.`)
  else setText(verdict, 'Balanced: every record is accounted for.')
  const sign = produced === stored + dropped + inFlight + unknown ? '=' : '≠'
  setText(
    sum,
    `${count(produced)} produced ${sign} ${count(stored)} stored + ${count(dropped)} dropped + ${count(inFlight)} in flight + ${count(unknown)} unknown`,
  )
}

function makeTile(key: string): HTMLElement {
  const [, title, hint] = parts.find(([name]) => name === key) ?? ['', 'Produced', 'handed over by sources']
  return h(
    'div',
    { class: `tile ${key}`, title: hint },
    h('b', {}, '–'),
    h('span', {}, title),
    h('small', {}, hint),
  )
}

function showParts(report: LedgerReport, meter: HTMLElement, tiles: HTMLElement): void {
  const values: Record<string, number> = {
    ...report,
    dropped: droppedOf(report),
    streams: 0,
    balanced: 0,
    forwarded: 0,
  }
  for (const [index, [key]] of parts.entries()) {
    const span = meter.children[index]
    if (span instanceof HTMLElement) span.style.flexGrow = String(values[key] ?? 0)
  }
  for (const [index, key] of ['produced', ...parts.map(([key]) => key)].entries()) {
    const number = tiles.children[index]?.firstElementChild
    if (number) setText(number, count(values[key] ?? 0))
  }
}

function showReasons(parent: HTMLElement, dropped: Record<string, number>): void {
  const entries = Object.entries(dropped).sort(([a], [b]) => (a < b ? -1 : 1))
  keyed(
    parent,
    entries,
    ([reason]) => reason,
    () => h('span', { class: 'chip' }),
    (element, [reason, records]) => setText(element, `${reason} ${count(records)}`),
  )
}

function makeRow(stream: StreamAccount): HTMLElement {
  const link = h('a', { href: `#/device/${encodeURIComponent(stream.device)}` }, stream.device)
  const session = h(
    'td',
    { class: 'code', title: `${stream.collector}, session ${stream.session}` },
    stream.session.slice(-6),
  )
  const cells = Array.from({ length: 7 }, () => h('td', {}))
  return h('tr', {}, h('th', { scope: 'row' }, link), h('td', {}, stream.class), session, ...cells)
}

function updateRow(row: HTMLElement, stream: StreamAccount): void {
  row.className = stream.balanced ? '' : 'bad'
  const dropped = Object.entries(stream.dropped).map(([reason, records]) => `${reason} ${count(records)}`)
  const missing = stream.missing.map(([from, to]) => (from === to ? String(from) : `${from}–${to}`))
  const texts = [
    count(stream.produced),
    count(stream.stored),
    count(stream.inFlight),
    dropped.join(', ') || '0',
    count(stream.unknown),
    count(stream.lastSeq),
    missing.length > 6
      ? `${missing.slice(0, 6).join(', ')} and ${missing.length - 6} more`
      : missing.join(', '),
  ]
  for (const [index, text] of texts.entries()) {
    const cell = row.children[index + 3]
    if (cell === undefined) continue
    setText(cell, text)
    const alarming = (index === 4 && stream.unknown > 0) || (index === 6 && missing.length > 0)
    cell.className = alarming ? 'alarm' : ''
  }
}
