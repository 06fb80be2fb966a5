// One metric of one device over time, drawn by uPlot, which is served beside this page.
import type UPlot from 'uplot'
import type { MetricInfo, SeriesResult } from '../../aggregator/query.ts'
import { ask } from './api.ts'
import { h, setText } from './dom.ts'
import { quantity, text, unitOfRate } from './format.ts'
import { rangeSeconds } from './view.ts'

// A path of the server, not of the file system: TypeScript has nothing to resolve.
const vendor: string = '/vendor/uplot.js'
const { default: Plot } = (await import(vendor)) as { default: typeof UPlot }

const mostSeries = 10
const height = 180
const steps = [1, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200]

// A line for each CPU and mode is too much, and idle hides the rest.
const joined: Record<string, { by: string; without: { key: string; value: string } }> = {
  'system.cpu.utilization': { by: 'cpu.mode', without: { key: 'cpu.mode', value: 'idle' } },
  'system.cpu.time': { by: 'cpu.mode', without: { key: 'cpu.mode', value: 'idle' } },
}

export interface Chart {
  element: HTMLElement
  load(since: string): Promise<void>
  remove(): void
}

export function createChart(metric: MetricInfo, device: string, signal: AbortSignal): Chart {
  const counter = metric.kind === 'counter'
  const note = h('small', {}, counter ? 'per second' : '')
  const place = h('div', { class: 'plot' })
  const legend = h('ul', { class: 'legend' })
  const element = h(
    'figure',
    { class: 'panel chart', 'data-metric': metric.name },
    h('figcaption', {}, h('b', {}, metric.name), note),
    place,
    legend,
  )
  // All charts show the same stretch of time, whether or not it is full.
  let seconds = 3600
  const stretch = (): [number, number] => [Date.now() / 1000 - seconds, Date.now() / 1000]
  const drawing = createDrawing(place, legend, counter ? unitOfRate(metric.unit) : metric.unit, stretch)
  window.addEventListener('themechange', () => drawing.restyle(), { signal })
  signal.addEventListener('abort', () => drawing.end())
  return {
    element,
    async load(since) {
      seconds = rangeSeconds[since] ?? 3600
      const list = await ask<SeriesResult[]>('/api/query', queryOf(metric, device, since), signal)
      if (list === undefined || signal.aborted) return
      const hide = joined[metric.name]?.without
      const filled = list.filter(
        ({ points, attributes }) =>
          points.length > 0 && (hide === undefined || attributes[hide.key] !== hide.value),
      )
      const shown = strongest(filled)
      const hidden = filled.length - shown.length
      const notes = [counter ? 'per second' : '', hidden > 0 ? `${hidden} more series` : '']
      setText(note, notes.filter(Boolean).join(', '))
      place.classList.toggle('nothing', filled.length === 0)
      place.dataset.nothing = counter ? 'no two readings to make a rate of yet' : 'no points in this range'
      drawing.show(shown)
    },
    remove() {
      drawing.end()
      element.remove()
    },
  }
}

// A counter's step holds several readings, so that a late one makes no spike.
function queryOf({ name, kind }: MetricInfo, device: string, since: string) {
  const counter = kind === 'counter'
  const least = counter ? 30 : 1
  const step = steps.find((one) => one >= least && (rangeSeconds[since] ?? 3600) / one <= 240) ?? 7200
  const aggregate = counter ? 'rate' : 'mean'
  return { metric: name, device, since, step: `${step}s`, aggregate, by: joined[name]?.by, limit: 200_000 }
}

// The plot and its legend. The plot is made anew only when the lines are others, or their colours.
function createDrawing(
  place: HTMLElement,
  legend: HTMLElement,
  unit: string,
  stretch: () => [number, number],
) {
  let plot: UPlot | undefined
  let shown: readonly SeriesResult[] = []
  let names: string[] = []
  let colours: string[] = []
  let cursor: number | undefined
  const label = () => showLegend(legend, { shown, names, colours, unit, cursor, plot })
  const width = () => Math.max(200, place.clientWidth)
  const onCursor = (index: number | undefined) => {
    cursor = index
    label()
  }
  const show = (list: readonly SeriesResult[]) => {
    const before = names.join('\n')
    shown = list
    names = labelsOf(list)
    if (plot !== undefined && names.join('\n') === before) plot.setData(align(list))
    else {
      plot?.destroy()
      cursor = undefined
      colours = paletteOf(place)
      plot = new Plot(optionsOf(width(), unit, names, colours, stretch, onCursor), align(list), place)
    }
    label()
  }
  const resized = new ResizeObserver(() => plot?.setSize({ width: width(), height }))
  resized.observe(place)
  return {
    show,
    restyle() {
      names = ['']
      if (plot !== undefined) show(shown)
    },
    end() {
      resized.disconnect()
      plot?.destroy()
    },
  }
}

// Too many lines say nothing: those with the highest values stay, in a steady order.
function strongest(list: readonly SeriesResult[]): SeriesResult[] {
  const peak = ({ points }: SeriesResult) =>
    points.reduce((most, [, value]) => Math.max(most, Math.abs(Number(value))), 0)
  const kept = new Set([...list].sort((a, b) => peak(b) - peak(a)).slice(0, mostSeries))
  return list.filter((series) => kept.has(series))
}

// Only the attributes in which they differ.
function labelsOf(list: readonly SeriesResult[]): string[] {
  const keys = [...new Set(list.flatMap(({ attributes }) => Object.keys(attributes)))]
  const differing = keys.filter(
    (key) => new Set(list.map(({ attributes }) => text(attributes[key]))).size > 1,
  )
  return list.map(({ attributes, metric }) => {
    const wanted = differing.length > 0 ? differing : keys
    return wanted.map((key) => text(attributes[key] ?? '–')).join(' ') || metric
  })
}

// uPlot wants one axis of times for all series; where one has no point there it has null.
function align(list: readonly SeriesResult[]): UPlot.AlignedData {
  const columns = list.map(
    ({ points }) => new Map(points.map(([time, value]) => [Date.parse(time) / 1000, Number(value)])),
  )
  const times = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort((a, b) => a - b)
  return [times, ...columns.map((column) => times.map((time) => column.get(time) ?? null))]
}

function paletteOf(element: HTMLElement): string[] {
  return Array.from({ length: mostSeries }, (_, index) => colourOf(element, `--series-${index + 1}`))
}

// A canvas wants the colour itself, which depends on light or dark: the style of an element knows it.
function colourOf(parent: HTMLElement, name: string): string {
  const probe = h('i', { hidden: true })
  probe.style.color = `var(${name})`
  parent.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}

function optionsOf(
  width: number,
  unit: string,
  names: readonly string[],
  colours: readonly string[],
  stretch: () => [number, number],
  onCursor: (index: number | undefined) => void,
): UPlot.Options {
  const ink = colourOf(document.body, '--muted')
  const grid = { stroke: colourOf(document.body, '--line'), width: 1 }
  const font = '11px system-ui, sans-serif'
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx ?? undefined)] },
    scales: { x: { range: () => stretch() }, y: { range: (_, low, high) => rangeOf(low, high, unit) } },
    padding: [8, 20, 0, 0],
    axes: [
      {
        stroke: ink,
        grid,
        ticks: { show: false },
        font,
        space: 80,
        size: 28,
        values: (_, splits) => timesOf(splits),
      },
      {
        stroke: ink,
        grid,
        ticks: { show: false },
        font,
        size: 68,
        space: 32,
        // Bytes are counted in powers of two, so their lines stand at round ones.
        ...(unit.startsWith('By') && { incrs: Array.from({ length: 50 }, (_, power) => 2 ** power) }),
        values: (_, splits) => splits.map((value) => quantity(value, unit)),
      },
    ],
    series: [
      {},
      ...names.map((label, index) => ({
        label,
        stroke: colours[index] ?? '#888',
        width: 1.5,
        // Drawn only where they stand apart: a lone point has no line.
        points: { size: 4 },
      })),
    ],
  }
}

// 24 hours; days where the lines are days apart.
function timesOf(splits: readonly number[]): string[] {
  const apart = (splits[1] ?? 0) - (splits[0] ?? 0)
  const two = (value: number) => String(value).padStart(2, '0')
  return splits.map((seconds) => {
    const date = new Date(seconds * 1000)
    const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`
    const time = `${two(date.getHours())}:${two(date.getMinutes())}`
    if (apart >= 43_200) return day
    return apart < 60 ? `${time}:${two(date.getSeconds())}` : time
  })
}

// Shares and amounts stand on zero; a temperature is looked at closely.
function rangeOf(low: number | null, high: number | null, unit: string): [number, number] {
  if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return [0, 1]
  if (unit === 'Cel' || unit === 's') {
    const margin = Math.max((high - low) * 0.15, 1)
    return [low - margin, high + margin]
  }
  const top = high > 0 ? high * 1.08 : 1
  return [low < 0 ? low * 1.08 : 0, unit === '1' && high <= 1 ? Math.max(Math.min(1, top), 0.05) : top]
}

interface LegendState {
  shown: readonly SeriesResult[]
  names: readonly string[]
  colours: readonly string[]
  unit: string
  /** Where the cursor stands; without it the newest values count. */
  cursor: number | undefined
  plot: UPlot | undefined
}

function showLegend(legend: HTMLElement, { shown, names, colours, unit, cursor, plot }: LegendState): void {
  const look = [...names, ...colours].join('\n')
  if (legend.dataset.look !== look) {
    legend.dataset.look = look
    legend.replaceChildren(
      ...names.map((name, at) => {
        const mark = h('i', {})
        mark.style.background = colours[at] ?? ''
        return h('li', {}, mark, h('span', {}, name), h('b', {}))
      }),
    )
  }
  for (const [at, series] of shown.entries()) {
    const value =
      cursor === undefined ? series.points.at(-1)?.[1] : (plot?.data[at + 1]?.[cursor] ?? undefined)
    const cell = legend.children[at]?.lastElementChild
    if (cell) setText(cell, value === undefined ? '–' : quantity(value, unit))
  }
}
