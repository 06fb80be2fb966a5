// Writes what plugins say of themselves into READMEs: `node plugins/document.ts` after a plugin or its configuration
// changed; a test fails where that was forgotten.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { classes as allClasses, classOfMetric, errorCodes } from './contract/index.ts'
import type { Definition, SourceDefinition } from './contract/index.ts'

interface Schema {
  type?: string | string[]
  title?: string
  description?: string
  default?: unknown
  const?: unknown
  enum?: unknown[]
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  items?: Schema
  anyOf?: Schema[]
  oneOf?: Schema[]
}

/** A key of a configuration, as a person reads it. */
export interface ConfigKey {
  /** With dots for keys within keys. */
  path: string
  type: string
  /** Undefined where the key may be left out and has no value then. */
  default: unknown
  /** The name of the key around it where it is required only together with that. */
  required: boolean | string
  description: string
}

/** Every key of a configuration's schema, in its order. */
export function configKeys(config: z.ZodType): ConfigKey[] {
  const schema = z.toJSONSchema(config, { io: 'input', unrepresentable: 'any' }) as Schema
  return keysOf(schema, '', schema.default, true)
}

function keysOf(schema: Schema, prefix: string, defaults: unknown, within: true | string): ConfigKey[] {
  const given = (defaults ?? {}) as Record<string, unknown>
  return Object.entries(schema.properties ?? {}).flatMap(([key, value]) => {
    const path = `${prefix}${key}`
    const fallback = given[key] ?? value.default
    const needed = (schema.required ?? []).includes(key) && fallback === undefined
    if (value.properties) {
      return keysOf(value, `${path}.`, fallback, needed || fallback !== undefined ? within : path)
    }
    const description = value.description ?? ''
    // What a list holds is told below it, one level for each.
    const items = listed(value)
    if (items?.properties) {
      const own = { path, type: 'list', default: fallback, required: needed && within, description }
      return [own, ...keysOf(items, `${path}[].`, undefined, `${path}[]`)]
    }
    return [{ path, type: typeOf(value), default: fallback, required: needed && within, description }]
  })
}

/** What a list holds, where it holds one kind of object and the list cannot be left out for a single one. */
const listed = ({ type, items }: Schema): Schema | undefined => (type === 'array' ? items : undefined)

function typeOf(schema: Schema): string {
  if (schema.title !== undefined) return schema.title
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.enum)
    return schema.enum.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join(', ')
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return [...new Set(choices.map(typeOf))].join(' or ')
  if (schema.type === 'array') return schema.items ? `list of ${typeOf(schema.items)}` : 'list'
  if (schema.properties) return `{ ${Object.keys(schema.properties).join(', ')} }`
  if (schema.type === 'object') {
    const { additionalProperties: values } = schema
    return typeof values === 'object' ? `map of ${typeOf(values)}` : 'map'
  }
  return [schema.type ?? 'text']
    .flat()
    .join(' or ')
    .replace('string', 'text')
    .replace('boolean', 'true or false')
}

/** A table as the formatter of this project leaves it: columns of equal width. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows].map((cells) =>
    cells.map((text) => text.replaceAll('|', '\\|').replaceAll('\n', ' ')),
  )
  const widths = head.map((_, column) => Math.max(3, ...all.map((cells) => (cells[column] ?? '').length)))
  const line = (cells: readonly string[], fill = ' ') =>
    `| ${widths.map((width, column) => (cells[column] ?? '').padEnd(width, fill)).join(' | ')} |`
  const [first = [], ...rest] = all
  return [line(first), line([], '-'), ...rest.map((cells) => line(cells))].join('\n')
}

/** Long lists of patterns would make the table unreadable: the schema has them all. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return `\`${text.length > 60 ? `${text.slice(0, 57)}…` : text}\``
}

const kinds = [
  ['source', 'Sources'],
  ['processor', 'Processors'],
  ['exporter', 'Exporters'],
  ['driver', 'Drivers'],
] as const

/** CPU of a source, as `npm run bench sources` measured it. */
export interface Cost {
  per: 'reading' | 'record'
  /** Records that a reading gave. */
  records?: number
  micros: number
}

/** By the name of the source. */
export type Costs = Readonly<Record<string, Cost>>

function costText(cost: Cost | undefined): string {
  if (!cost) return 'not measured'
  const { per, records, micros } = cost
  const time = micros >= 1000 ? `${(micros / 1000).toPrecision(2)} ms` : `${Number(micros.toPrecision(2))} µs`
  return per === 'record' ? `${time} a record` : `${time} a reading of ${records}`
}

/** How many metrics of which classes it declares, and of what else it may make records. */
function emitsText({ emits, signals }: SourceDefinition): string {
  const names = Object.entries(emits)
  const classes = new Set(names.map(([name, declared]) => declared.class ?? classOfMetric(name)))
  const known = allClasses.filter((one) => classes.has(one)).join(', ')
  const metrics = names.length > 0 ? `${names.length} metrics (${known})` : 'metrics'
  return signals.map((signal) => (signal === 'metrics' ? metrics : signal)).join(', ')
}

/** What plugins do, a table for each kind that has some; of sources also what they emit and what they cost. */
export function pluginTables(plugins: readonly Definition[], costs: Costs): string {
  return kinds
    .flatMap(([kind, title]) => {
      const some = plugins.filter((one) => one.kind === kind).toSorted((a, b) => (a.name < b.name ? -1 : 1))
      if (some.length === 0) return []
      const rows = some.map((one) => {
        const said = [`\`${one.name}\``, one.summary]
        return one.kind === 'source' ? [...said, emitsText(one), costText(costs[one.name])] : said
      })
      const head = kind === 'source' ? [title, 'reads', 'emits', 'CPU'] : [title, '']
      const made = table(head, rows)
      return kind === 'source' ? [made, measured] : [made]
    })
    .join('\n\n')
}

const measured =
  'CPU of a reading, with how many records it gave, or of a record: user and system time, helpers included, over the ' +
  'captured or real inputs of the tests, as `npm run bench sources` measures it (`bench/results/sources.txt`).'

function describePlugin(plugin: Definition): string {
  const keys = configKeys(plugin.config).map(({ path, type, default: fallback, required, description }) => [
    `\`${path}\``,
    type,
    fallback === undefined
      ? required
        ? `required${required === true ? '' : ` with \`${required}\``}`
        : ''
      : shown(fallback),
    description,
  ])
  const config = keys.length > 0 ? table(['key', 'type', 'default', ''], keys) : ''
  const metrics = plugin.kind === 'source' ? Object.keys(plugin.emits) : []
  const emits = metrics.length > 0 ? `\n\nEmits ${metrics.map((name) => `\`${name}\``).join(', ')}.` : ''
  return (
    [`### ${plugin.kind} \`${plugin.name}\``, plugin.summary, config].filter(Boolean).join('\n\n') + emits
  )
}

/** Configuration of each plugin, and what the codes of errors mean. */
export function pluginReference(plugins: readonly Definition[], costs: Costs): string {
  const ordered = kinds.flatMap(([kind]) =>
    plugins.filter((one) => one.kind === kind).toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  )
  const codes = Object.entries(errorCodes).map(([code, meaning]) => [`\`${code}\``, meaning])
  return [
    pluginTables(plugins, costs),
    ...ordered.map(describePlugin),
    '### Error codes',
    table(['code', 'meaning'], codes),
  ].join('\n\n')
}

/** The text between `<!-- generated: NAME -->` and `<!-- end of NAME -->`, replaced. */
export function replaceGenerated(readme: string, name: string, text: string): string {
  const [begin, end] = [`<!-- generated: ${name} -->`, `<!-- end of ${name} -->`]
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`no ${begin} … ${end} in the README`)
  return `${readme.slice(0, from + begin.length)}\n\n${text}\n\n${readme.slice(to)}`
}

/** What the bench of sources left behind. */
export function costsIn(root: string): Costs {
  const text = readFileSync(join(root, 'bench/results/sources.json'), 'utf8')
  return (JSON.parse(text) as { sources: Costs }).sources
}

/** READMEs with generated parts, as they should be now. The top README has its table where it has the marks for it. */
export function documented(
  root: string,
  plugins: readonly Definition[],
): { path: string; is: string; should: string }[] {
  const costs = costsIn(root)
  const parts = [
    {
      path: join(root, 'plugins/README.md'),
      name: 'reference',
      text: pluginReference(plugins, costs),
      needed: true,
    },
    { path: join(root, 'README.md'), name: 'plugins', text: pluginTables(plugins, costs), needed: false },
  ]
  return parts.flatMap(({ path, name, text, needed }) => {
    const is = needed || existsSync(path) ? readFileSync(path, 'utf8') : ''
    if (!needed && !is.includes(`<!-- generated: ${name} -->`)) return []
    return [{ path, is, should: replaceGenerated(is, name, text) }]
  })
}

if (import.meta.main) {
  const { plugins } = await import('./index.ts')
  for (const { path, is, should } of documented(join(import.meta.dirname, '..'), plugins)) {
    if (is !== should) writeFileSync(path, should)
  }
}
