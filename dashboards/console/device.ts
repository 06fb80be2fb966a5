// One device: who it is, charts of the metrics that are chosen (a sensible set at first), and its newest values.
import type { DeviceInfo, LatestValue, MetricInfo } from '../../aggregator/query.ts'
import { ask } from './api.ts'
import { createChart } from './chart.ts'
import type { Chart } from './chart.ts'
import { showLabels } from './devices.ts'
import { every, h, keyed, setText, tableOf } from './dom.ts'
import { ago, count, quantity, text } from './format.ts'
import { ranges } from './view.ts'
import type { ViewContext } from './view.ts'

// What one wants to see first of any machine; of each line the first that the device has.
const usual = [
  ['system.cpu.utilization', 'system.cpu.time'],
  ['system.memory.utilization', 'system.memory.usage'],
  ['system.cpu.load_average.1m', 'system.linux.pressure'],
  ['hw.temperature', 'hw.power', 'hw.fan.speed'],
  ['system.network.io'],
  ['system.disk.io', 'system.filesystem.utilization'],
]
const mostCharts = 24

export function deviceView(context: ViewContext): void {
  const { root, name, parameters, signal, remember } = context
  const head = makeHead(name)
  const grid = createGrid(name, signal)
  const range = h(
    'div',
    { class: 'segments', role: 'group', 'aria-label': 'Range' },
    ...ranges.map((value) => h('button', { type: 'button', value }, value)),
  )
  const picker = makePicker(signal)
  const values = makeValues()
  root.append(
    head.element,
    h('div', { class: 'bar' }, h('h2', {}, 'Charts'), h('div', { class: 'grow' }), picker.element, range),
    grid.element,
    values.element,
  )
  let since = ranges.find((value) => value === parameters.get('range')) ?? '1h'
  let metrics: MetricInfo[] = []
  const chosen = () => {
    const asked = parameters.get('metrics')
    const names = asked === null ? usualOf(metrics) : asked.split(',')
    return names.filter((one) => metrics.some(({ name }) => name === one)).slice(0, mostCharts)
  }
  const draw = async () => {
    for (const button of range.children)
      button.setAttribute('aria-pressed', String(button.getAttribute('value') === since))
    const names = chosen()
    picker.show(metrics, names)
    await grid.show(metrics, names, since)
  }
  const refresh = every(10_000, signal, async () => {
    metrics = (await ask<MetricInfo[]>('/api/metrics', { device: name }, signal)) ?? metrics
    if (!signal.aborted) await draw()
  })
  range.addEventListener('click', ({ target }) => {
    const value = target instanceof HTMLButtonElement ? ranges.find((one) => one === target.value) : undefined
    if (value === undefined) return
    since = value
    remember({ range: value })
    refresh()
  })
  picker.onToggle((metric, on) => {
    const names = new Set(chosen())
    if (on) names.add(metric)
    else names.delete(metric)
    remember({ metrics: [...names].join(',') || ',' })
    refresh()
  })
  every(5000, signal, async () => {
    const [devices, latest] = await Promise.all([
      ask<DeviceInfo[]>('/api/devices', { device: name }, signal),
      ask<LatestValue[]>('/api/latest', { device: name }, signal),
    ])
    if (signal.aborted) return
    head.show(devices)
    if (latest !== undefined) values.show(latest)
  })
}

// The charts in the order of the choice; those that stay are kept, with what they show.
function createGrid(device: string, signal: AbortSignal) {
  const element = h('div', { class: 'charts' })
  const charts = new Map<string, Chart>()
  return {
    element,
    async show(metrics: readonly MetricInfo[], names: readonly string[], since: string) {
      for (const [key, chart] of charts) {
        if (names.includes(key)) continue
        chart.remove()
        charts.delete(key)
      }
      for (const [index, key] of names.entries()) {
        const metric = metrics.find(({ name }) => name === key)
        if (metric === undefined) continue
        const chart = charts.get(key) ?? createChart(metric, device, signal)
        charts.set(key, chart)
        const there = element.children[index]
        if (there !== chart.element) element.insertBefore(chart.element, there ?? null)
      }
      await Promise.all([...charts.values()].map((chart) => chart.load(since)))
    },
  }
}

function usualOf(metrics: readonly MetricInfo[]): string[] {
  const has = (name: string) => metrics.some((metric) => metric.name === name)
  const found = usual.flatMap((line) => line.filter(has).slice(0, 1))
  return found.length > 0 ? found : metrics.slice(0, 6).map(({ name }) => name)
}

function makeHead(name: string) {
  const state = h('span', { class: 'state' }, ' ')
  const facts = h('dl', { class: 'inline' })
  const labels = h('div', { class: 'labels' })
  const conflicts = h('div', {})
  const element = h(
    'div',
    {},
    h(
      'div',
      { class: 'bar' },
      h('h1', {}, name),
      state,
      labels,
      h('div', { class: 'grow' }),
      h('a', { class: 'button', href: `#/logs?device=${encodeURIComponent(name)}` }, 'Logs of this device'),
    ),
    conflicts,
    facts,
  )
  return {
    element,
    show(devices: DeviceInfo[] | undefined) {
      const device = devices?.[0]
      if (device === undefined) {
        if (devices !== undefined) setText(state, 'not known')
        return
      }
      setText(state, `${device.state}, seen ${ago(device.lastSeen)}`)
      state.className = `state ${device.state}`
      showLabels(labels, device.labels)
      const known: [string, string][] = [
        ['Name', device.name],
        ['Collector', `${device.collector} ${device.version}`],
        ...device.identity.map(({ kind, value }): [string, string] =>
          value === '' ? ['Identity', kind] : [kind, value],
        ),
      ]
      if (facts.childElementCount === 0) {
        facts.append(...known.map(([key, value]) => h('div', {}, h('dt', {}, key), h('dd', {}, value))))
      }
      keyed(
        conflicts,
        device.conflicts,
        ({ collectors }) => collectors.join(' '),
        () => h('p', { class: 'notice bad' }),
        (one, { collectors, detail }) =>
          setText(one, `Conflict: ${collectors.join(' and ')} both claim this device. ${detail}`),
      )
    },
  }
}

function makePicker(signal: AbortSignal) {
  const search = h('input', { type: 'search', placeholder: 'Find a metric', 'aria-label': 'Find a metric' })
  const list = h('div', { class: 'options' })
  const title = h('summary', { class: 'button' }, 'Choose metrics')
  const element = h('details', { class: 'picker' }, title, h('div', { class: 'menu' }, search, list))
  const filter = () => {
    for (const option of list.children) {
      if (option instanceof HTMLElement)
        option.hidden = !option.textContent.toLowerCase().includes(search.value.toLowerCase())
    }
  }
  search.addEventListener('input', filter)
  element.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return
    element.open = false
    title.focus()
  })
  document.addEventListener(
    'click',
    ({ target }) => {
      if (target instanceof Node && !element.contains(target)) element.open = false
    },
    { signal },
  )
  return {
    element,
    show(metrics: readonly MetricInfo[], chosen: readonly string[]) {
      setText(title, `Choose metrics (${chosen.length} of ${metrics.length})`)
      keyed(
        list,
        metrics,
        ({ name }) => name,
        makeOption,
        (option, { name }) => {
          const box = option.querySelector('input')
          if (box !== null) box.checked = chosen.includes(name)
        },
      )
      filter()
    },
    onToggle(toggled: (metric: string, on: boolean) => void) {
      list.addEventListener('change', ({ target }) => {
        if (target instanceof HTMLInputElement) toggled(target.value, target.checked)
      })
    },
  }
}

function makeOption({ name, kind, series }: MetricInfo): HTMLElement {
  return h(
    'label',
    {},
    h('input', { type: 'checkbox', value: name }),
    h('span', {}, name),
    h('small', {}, `${kind}, ${count(series)} series`),
  )
}

function makeValues() {
  const search = h('input', { type: 'search', placeholder: 'Filter values', 'aria-label': 'Filter values' })
  const body = h('tbody', {})
  const element = h(
    'section',
    {},
    h('div', { class: 'bar' }, h('h2', {}, 'Newest values'), h('div', { class: 'grow' }), search),
    tableOf(['Metric', 'Attributes', 'Value', 'Time'], body, 'values'),
  )
  let latest: LatestValue[] = []
  const attributesOf = ({ attributes }: LatestValue) =>
    Object.entries(attributes)
      .map(([key, value]) => `${key}=${text(value)}`)
      .join(' ')
  const show = () => {
    const wanted = search.value.toLowerCase()
    const rows = latest
      .map((value) => ({ ...value, about: attributesOf(value) }))
      .filter(({ metric, about }) => `${metric} ${about}`.toLowerCase().includes(wanted))
      .sort((a, b) => (`${a.metric} ${a.about}` < `${b.metric} ${b.about}` ? -1 : 1))
      .slice(0, 1000)
    keyed(
      body,
      rows,
      ({ metric, about }) => `${metric} ${about}`,
      ({ metric, about }) =>
        h('tr', {}, h('th', { scope: 'row' }, metric), h('td', {}, about), h('td', {}), h('td', {})),
      (row, { value, unit, time }) => {
        if (row.children[2] !== undefined) setText(row.children[2], quantity(value, unit))
        if (row.children[3] !== undefined) setText(row.children[3], ago(time))
      },
    )
  }
  search.addEventListener('input', show)
  return {
    element,
    show(values: LatestValue[]) {
      latest = values
      show()
    },
  }
}
