// Query parameters (DSP0266 §7.3): pages of collections, `$expand`, `$select` and `only`. What an answer costs is bounded,
// whatever was asked for.
import { isJson } from '../../plugins/protocols/redfish/json.ts'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { Refusal } from './messages.ts'
import { base } from './router.ts'
import type { Call } from './router.ts'

/** Members of a page, and resources put into one answer: nobody else is served meanwhile. */
const mostMembers = 1000
const mostExpanded = 300
export const mostLevels = 6

const known = new Set(['$expand', '$select', '$skip', '$top', '$filter', 'only'])

/** @throws Refusal for what is not offered: an unknown parameter with a dollar must not be ignored. */
export function checkQuery(query: URLSearchParams, mayFilter: boolean): void {
  for (const name of query.keys()) {
    if (!name.startsWith('$')) continue
    if (!known.has(name) || (name === '$filter' && !mayFilter)) throw new Refusal('QueryNotSupported')
  }
}

interface CollectionOf<T> {
  /** Of its members: `Sensor`. */
  readonly type: string
  readonly name: string
  readonly members: readonly T[]
  readonly show: (one: T) => Json
  readonly more?: Json
}

/** A page of a collection: members are built only where they are shown. */
export function collection<T>(
  { path, query }: Call,
  { type, name, members, show, more }: CollectionOf<T>,
): Json {
  const skip = wholeOf(query, '$skip') ?? 0
  const top = Math.min(wholeOf(query, '$top') ?? mostMembers, mostMembers)
  const page = members.slice(skip, skip + top)
  const next = skip + page.length
  const rest = next < members.length && page.length > 0 && !query.has('$top')
  return {
    '@odata.id': path,
    '@odata.type': `#${type}Collection.${type}Collection`,
    Name: name,
    Members: page.map((one) => show(one)),
    'Members@odata.count': members.length,
    ...(rest ? { 'Members@odata.nextLink': `${path}?$skip=${next}` } : {}),
    ...more,
  }
}

function wholeOf(query: URLSearchParams, name: string): number | undefined {
  const given = query.get(name)
  if (given === null) return undefined
  if (!/^\d{1,9}$/.test(given)) throw new Refusal('QueryParameterValueFormatError', [given, name])
  return Number(given)
}

/** Applies to a resource what is asked of all of them. @param read A resource of the same service. */
export function shape(body: Json, query: URLSearchParams, read: (path: string) => Json | undefined): Json {
  let shaped = body
  if (query.has('only')) {
    const given = query.get('only') ?? ''
    if (given !== '') throw new Refusal('QueryParameterValueFormatError', [given, 'only'])
    const members = body.Members
    if (!Array.isArray(members)) throw new Refusal('QueryNotSupported')
    const [only] = members as unknown[]
    const id = isJson(only) ? only['@odata.id'] : undefined
    if (members.length === 1 && typeof id === 'string') shaped = read(id) ?? body
  }
  const expand = query.get('$expand')
  if (expand !== null) shaped = new Expander(expand, read).expand(shaped)
  const select = query.get('$select')
  return select === null ? shaped : selected(shaped, select)
}

class Expander {
  readonly #read: (path: string) => Json | undefined
  readonly #inLinks: boolean
  readonly #outsideLinks: boolean
  readonly #levels: number
  #left = mostExpanded

  constructor(given: string, read: (path: string) => Json | undefined) {
    const [, which, levels = '1'] = /^([.*~])(?:\(\$levels=(\d)\))?$/.exec(given) ?? []
    if (which === undefined || Number(levels) < 1 || Number(levels) > mostLevels) {
      throw new Refusal('QueryParameterValueFormatError', [given, '$expand'])
    }
    this.#read = read
    this.#inLinks = which !== '.'
    this.#outsideLinks = which !== '~'
    this.#levels = Number(levels)
  }

  expand(body: Json): Json {
    return this.#below(body, this.#levels, false)
  }

  #below(of: Json, levels: number, isInLinks: boolean): Json {
    return Object.fromEntries(
      Object.entries(of).map(([name, value]) => [
        name,
        this.#value(value, levels, isInLinks || name === 'Links'),
      ]),
    )
  }

  #value(value: unknown, levels: number, isInLinks: boolean): unknown {
    if (Array.isArray(value)) return value.map((one: unknown) => this.#value(one, levels, isInLinks))
    if (!isJson(value)) return value
    const id = value['@odata.id']
    const isLink = typeof id === 'string' && Object.keys(value).length === 1
    if (!isLink) return this.#below(value, levels, isInLinks)
    if (!(isInLinks ? this.#inLinks : this.#outsideLinks) || id.includes('#') || this.#left <= 0) return value
    this.#left--
    const found = this.#read(id)
    if (!found) return value
    return levels > 1 ? this.#below(found, levels - 1, false) : found
  }
}

/** The chosen members, and those of OData (DSP0266 §7.3.3). */
function selected(body: Json, given: string): Json {
  const chosen = new Set(given.split(',').map((one) => one.trim().split('/')[0] ?? ''))
  if (chosen.has('')) throw new Refusal('QueryParameterValueFormatError', [given, '$select'])
  // A collection is nothing without its members: the choice is of theirs.
  if (Array.isArray(body.Members)) {
    const members = (body.Members as unknown[]).map((one) => (isJson(one) ? pick(one, chosen) : one))
    return { ...body, Members: members }
  }
  return pick(body, chosen)
}

const pick = (of: Json, chosen: ReadonlySet<string>): Json =>
  chosen.has('*')
    ? of
    : Object.fromEntries(
        Object.entries(of).filter(
          ([name]) => name.startsWith('@odata.') || chosen.has(name.split('@')[0] ?? ''),
        ),
      )

/** The path of a resource as the router knows it; undefined where it leads elsewhere. */
export function below(path: string): string | undefined {
  const at = path.replace(/\/+$/, '')
  if (at === base) return ''
  return at.startsWith(`${base}/`) ? at.slice(base.length + 1) : undefined
}
