// `dpulse metrics` and `dpulse query METRIC`.
import process from 'node:process'
import { Metrics, SeriesList } from './answers.ts'
import { ask } from './asking.ts'
import type { ChoiceOptions } from './devices.ts'
import { note, pairs, print, printJson, printable, styled, table, terminalWidth } from './terminal.ts'

export async function metrics(options: ChoiceOptions): Promise<void> {
  const { device, selector } = options
  const list = await ask(options, '/api/metrics', { device, selector }, Metrics)
  if (options.output === 'json') return printJson(list)
  if (list.length === 0) return note('no metrics yet')
  const columns = [
    { title: 'METRIC', flexible: true },
    { title: 'KIND' },
    { title: 'UNIT' },
    { title: 'SERIES', align: 'right' as const },
    { title: 'ATTRIBUTES', flexible: true },
  ]
  const rows = list.map(({ name, kind, unit, series, attributes }) => [
    name,
    kind,
    unit,
    String(series),
    attributes.join(' '),
  ])
  return print(table(columns, rows, terminalWidth()))
}

export interface QueryOptions extends ChoiceOptions {
  where?: readonly string[]
  since?: string
  until?: string
  step?: string
  aggregate?: string
  by?: string
}

export async function query(metric: string, options: QueryOptions): Promise<void> {
  const { device, selector, where, since, until, step, aggregate, by } = options
  const parameters = { metric, device, selector, where, since, until, step, aggregate, by, limit: 1_000_000 }
  const list = await ask(options, '/api/query', parameters, SeriesList)
  if (options.output === 'json') printJson(list)
  if (list.every(({ points }) => points.length === 0)) return explainNothing(metric, options)
  if (options.output === 'json') return undefined
  for (const series of list) {
    const about = [series.device, pairs(series.attributes), series.unit === '' ? '' : `in ${series.unit}`]
    print(`${styled('bold', printable(series.metric))}  ${printable(about.filter(Boolean).join('  '))}`)
    // One write for each series: a year of points is many lines.
    process.stdout.write(
      series.points
        .map(([time, value]) => `  ${time.slice(0, 10)} ${time.slice(11, 23)}Z  ${value}\n`)
        .join(''),
    )
  }
  return undefined
}

// Nothing is no failure, but whoever mistyped a name should learn it.
async function explainNothing(metric: string, options: QueryOptions): Promise<void> {
  const known = await ask(options, '/api/metrics', {}, Metrics)
  if (known.some(({ name }) => name === metric)) {
    return note(`no points of ${metric} fit; try a longer --since, or fewer conditions`)
  }
  const close = known.map(({ name }) => name).filter((name) => isClose(name, metric))
  const hint =
    close.length > 0 ? `; did you mean ${close.slice(0, 3).join(', ')}?` : '; `dpulse metrics` lists them'
  return note(`there is no metric ${metric}${hint}`)
}

function isClose(name: string, asked: string): boolean {
  const short = (text: string) => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '')
  const [a, b] = [short(name), short(asked)]
  return b.length >= 3 && (a.includes(b) || b.includes(a) || distance(a, b) <= 3)
}

// Levenshtein, row by row.
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same))
    }
    row = next
  }
  return row[b.length] ?? 0
}
