// Log search with live tail: newest first, older pages on demand, new records as they come in. Paused, they are held
// back and counted.
import type { LogPage, LogRecordRow } from '../../aggregator/query.ts'
import { ask, pathOf } from './api.ts'
import { h, setText } from './dom.ts'
import { clock, count, severityName, text, visible } from './format.ts'
import { ranges } from './view.ts'
import type { ViewContext } from './view.ts'

const pageSize = 200
const mostRows = 5000
const mostHeld = 1000

export function logsView(context: ViewContext): void {
  const { root, signal } = context
  const form = makeForm(context)
  const status = h('p', { class: 'lead', role: 'status' }, ' ')
  const list = h('div', { class: 'log', role: 'log', 'aria-live': 'off' })
  const older = h('button', { type: 'button', hidden: true }, 'Older')
  const empty = h(
    'p',
    { class: 'empty', hidden: true },
    'No records fit. Live ones appear here as they come in.',
  )
  root.append(
    h('div', { class: 'bar' }, h('h1', {}, 'Logs'), status, h('div', { class: 'grow' }), form.live),
    form.element,
    h('div', { class: 'panel' }, list, empty),
    h('div', { class: 'bar centre' }, older),
  )
  const rows = createRows(list, empty, () => !form.live.classList.contains('on'), status)
  let ending = new AbortController()
  let next: string | undefined

  const search = async () => {
    ending.abort()
    ending = new AbortController()
    const mine = AbortSignal.any([signal, ending.signal])
    const filter = form.filter()
    const early: LogRecordRow[] = []
    // The tail is opened before the search, so that nothing falls between; what comes first waits for its answer.
    let loaded = false
    tail(filter, mine, rows.missed, (record) => (loaded ? rows.add(record) : early.push(record)))
    const page = await ask<LogPage>('/api/logs', { ...filter, ...form.range(), limit: pageSize }, mine)
    if (mine.aborted) return
    rows.replace(page?.records ?? [])
    loaded = true
    for (const record of early) rows.add(record)
    next = page?.next
    older.hidden = next === undefined
  }
  older.addEventListener('click', async () => {
    const before = next
    const query = { ...form.filter(), ...form.range(), limit: pageSize, next: before }
    const page = await ask<LogPage>('/api/logs', query, AbortSignal.any([signal, ending.signal]))
    if (page === undefined || before !== next) return
    rows.append(page.records)
    next = page.next
    older.hidden = next === undefined || rows.full()
  })
  form.live.addEventListener('click', () => {
    const on = form.live.classList.toggle('on')
    setText(form.live, on ? 'Pause' : 'Go live')
    form.live.setAttribute('aria-pressed', String(on))
    if (on) rows.release()
    rows.tell()
  })
  form.onChange(() => void search())
  signal.addEventListener('abort', () => ending.abort())
  void search()
}

function tail(
  filter: Record<string, string>,
  signal: AbortSignal,
  onMissed: (records: number) => void,
  onRecord: (record: LogRecordRow) => void,
): void {
  const events = new EventSource(pathOf('/api/live', filter))
  events.addEventListener('record', ({ data }) => onRecord(JSON.parse(String(data)) as LogRecordRow))
  events.addEventListener('missed', ({ data }) => {
    const { missed } = JSON.parse(String(data)) as { missed: number }
    onMissed(missed)
  })
  // A connection that breaks is opened again by the browser, unless the server answered with an error.
  events.addEventListener('error', () => {
    if (events.readyState !== EventSource.CLOSED || signal.aborted) return
    const timer = setTimeout(() => tail(filter, signal, onMissed, onRecord), 2000)
    signal.addEventListener('abort', () => clearTimeout(timer))
  })
  signal.addEventListener('abort', () => events.close())
}

interface Rows {
  replace(records: readonly LogRecordRow[]): void
  append(records: readonly LogRecordRow[]): void
  add(record: LogRecordRow): void
  missed: (records: number) => void
  release(): void
  tell(): void
  full(): boolean
}

function createRows(list: HTMLElement, empty: HTMLElement, paused: () => boolean, status: HTMLElement): Rows {
  let ids = new Set<string>()
  let held: LogRecordRow[] = []
  let lost = 0
  let frame = 0
  const tell = () => {
    empty.hidden = list.childElementCount > 0
    const waiting = paused() && held.length > 0 ? `, ${count(held.length)} new waiting` : ''
    const gone = lost > 0 ? `, ${count(lost)} more came than fit here` : ''
    setText(status, `${count(list.childElementCount)} shown${waiting}${gone}`)
  }
  // One change of the page for each frame, however many came.
  const flush = () => {
    frame = 0
    const batch = held
    held = []
    list.prepend(...batch.reverse().map(makeRow))
    while (list.childElementCount > mostRows) list.lastElementChild?.remove()
    if (ids.size > 4 * mostRows) ids = new Set([...ids].slice(-2 * mostRows))
    tell()
  }
  const release = () => {
    if (frame === 0) frame = requestAnimationFrame(flush)
  }
  return {
    tell,
    release,
    replace(records) {
      ids = new Set(records.map(({ id }) => id))
      held = []
      lost = 0
      list.replaceChildren(...[...records].reverse().map(makeRow))
      tell()
    },
    append(records) {
      const fresh = records.filter(({ id }) => !ids.has(id))
      for (const { id } of fresh) ids.add(id)
      list.append(...fresh.reverse().map(makeRow))
      tell()
    },
    add(record) {
      if (ids.has(record.id)) return
      ids.add(record.id)
      held.push(record)
      if (held.length > mostHeld) {
        held.shift()
        lost += 1
      }
      if (paused()) tell()
      else release()
    },
    missed(records) {
      lost += records
      tell()
    },
    full: () => list.childElementCount >= mostRows,
  }
}

function makeRow(record: LogRecordRow): HTMLElement {
  const name = severityName(record.severityNumber)
  const program = text(record.attributes['syslog.appname'] ?? record.resource['service.name'] ?? '')
  const summary = h(
    'summary',
    {},
    h('time', { datetime: record.time, title: record.time }, clock(record.time)),
    h('span', { class: `severity ${name}` }, name),
    h('span', { class: 'device', title: record.device }, record.device),
    h('span', { class: 'program', title: program }, program),
    h('span', { class: 'body' }, visible(record.body) || record.eventName),
  )
  const row = h('details', { class: `record ${name}` }, summary)
  // Its details are built when someone looks.
  row.addEventListener('toggle', () => {
    if (row.open && row.childElementCount === 1) row.append(makeDetails(record))
  })
  return row
}

function makeDetails(record: LogRecordRow): HTMLElement {
  const { time, observedTime, severityNumber, severityText, eventName } = record
  const facts: [string, string][] = [
    ['time', time],
    ['observed', observedTime],
    ['severity', `${severityNumber} ${severityText}`],
  ]
  if (eventName !== '') facts.push(['event', eventName])
  const section = (title: string, entries: [string, string][]) =>
    entries.length > 0 &&
    h(
      'div',
      {},
      h('h3', {}, title),
      h('dl', {}, ...entries.flatMap(([key, value]) => [h('dt', {}, key), h('dd', {}, value)])),
    )
  const listed = (attributes: Record<string, unknown>) =>
    Object.entries(attributes).map(([key, value]): [string, string] => [key, visible(value)])
  return h(
    'div',
    { class: 'facts' },
    h('pre', {}, visible(record.body)),
    section('Record', facts),
    section('Attributes', listed(record.attributes)),
    section('Resource', listed(record.resource)),
  )
}

function makeForm(context: ViewContext) {
  const { remember, signal } = context
  const { text: search, severity, device, since, known } = makeFields(context)
  const live = h('button', { type: 'button', class: 'live on', 'aria-pressed': 'true' }, 'Pause')
  const element = h('form', { class: 'filters', role: 'search' }, search, severity, device, known, since)
  return {
    element,
    live,
    filter: () => {
      const chosen = { text: search.value, severity: severity.value, device: device.value }
      return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== ''))
    },
    range: () => ({ since: since.value || undefined }),
    onChange(changed: () => void) {
      let timer: ReturnType<typeof setTimeout> | undefined
      const later = (ms: number) => {
        clearTimeout(timer)
        timer = setTimeout(() => {
          if (!device.validity.valid) return
          remember(
            Object.fromEntries([search, severity, device, since].map(({ name, value }) => [name, value])),
          )
          changed()
        }, ms)
      }
      element.addEventListener('input', (event) => later(event.target instanceof HTMLSelectElement ? 0 : 300))
      element.addEventListener('submit', (event) => {
        event.preventDefault()
        later(0)
      })
      signal.addEventListener('abort', () => clearTimeout(timer))
    },
  }
}

function makeFields({ parameters, signal }: ViewContext) {
  const search = h('input', {
    type: 'search',
    name: 'text',
    placeholder: 'Search the text  ( / )',
    'aria-label': 'Text',
    maxlength: 1000,
    value: parameters.get('text') ?? '',
  })
  const select = (name: string, label: string, options: [string, string][]) => {
    const element = h(
      'select',
      { name, 'aria-label': label },
      ...options.map(([value, title]) => h('option', { value }, title)),
    )
    element.value = parameters.get(name) ?? options[0]?.[0] ?? ''
    return element
  }
  const severity = select('severity', 'Lowest severity', [
    ['', 'Any severity'],
    ...['debug', 'info', 'warn', 'error', 'fatal'].map((name): [string, string] => [
      name,
      `${name} and worse`,
    ]),
  ])
  const since = select('since', 'Range', [
    ['', 'Any time'],
    ...ranges.map((range): [string, string] => [range, `Last ${range}`]),
  ])
  const device = h('input', {
    name: 'device',
    placeholder: 'Device',
    'aria-label': 'Device',
    value: parameters.get('device') ?? '',
    list: 'known-devices',
    pattern: '[a-z0-9\\-]{1,64}',
  })
  const known = h('datalist', { id: 'known-devices' })
  void ask<{ device: string }[]>('/api/devices', {}, signal).then((devices) =>
    known.replaceChildren(
      ...(devices ?? []).slice(0, 500).map(({ device }) => h('option', { value: device })),
    ),
  )
  return { text: search, severity, device, since, known }
}
