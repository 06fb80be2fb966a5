// From the root to every resource that may hold a reading or a state: chassis, systems and managers with what hangs below
// them, by the links that the service gives, never by guessed paths. What is missing or broken is told once and left out.
import { RetryableError, messageOf } from '../../contract/errors.ts'
import type { RedfishClient } from './client.ts'
import { documentOf, inside, linkOf, objectsOf, typeOf } from './json.ts'
import type { Json } from './json.ts'
import { expandQuery, quirksOf } from './quirks.ts'
import type { Quirks } from './quirks.ts'

export interface Resource {
  /** Its `@odata.id`. */
  readonly path: string
  /** Of `@odata.type`, without version. */
  readonly type: string
  readonly body: Json
  /** The collection from which it came, where it came from one. */
  readonly collection: string | undefined
}

/** What to ask for again: a document, or a collection with its members. */
export interface Unit {
  readonly path: string
  readonly isCollection: boolean
}

interface Follow {
  readonly documents?: readonly string[]
  readonly collections?: readonly string[]
  /** Members that are arrays of links, and those under `Links`. */
  readonly lists?: readonly string[]
}

const rootFollow: Follow = { collections: ['Chassis', 'Systems', 'Managers'] }

/** Which members of a resource lead on. What was seen is not seen again: chassis and systems name each other. */
const follow: Readonly<Record<string, Follow>> = {
  Chassis: {
    documents: ['Thermal', 'Power', 'ThermalSubsystem', 'PowerSubsystem', 'EnvironmentMetrics'],
    collections: ['Sensors', 'NetworkAdapters', 'Drives', 'LogServices'],
    // Not every service lists in its collection what a chassis contains.
    lists: ['Contains', 'ComputerSystems'],
  },
  ThermalSubsystem: { documents: ['ThermalMetrics'], collections: ['Fans'] },
  PowerSubsystem: { collections: ['PowerSupplies', 'Batteries'] },
  PowerSupply: { documents: ['Metrics'] },
  ComputerSystem: { collections: ['Processors', 'Memory', 'Storage', 'LogServices'], lists: ['Chassis'] },
  Manager: { collections: ['LogServices'] },
  Storage: { lists: ['Drives'] },
  NetworkAdapter: { documents: ['EnvironmentMetrics'], collections: ['Ports'] },
  Processor: { documents: ['EnvironmentMetrics'] },
  Memory: { documents: ['EnvironmentMetrics'] },
  Drive: { documents: ['EnvironmentMetrics'] },
  UpdateService: { collections: ['FirmwareInventory'] },
}

const mostPages = 200
/** So many failures in one walk say that the service is gone, not a resource. */
const mostFailures = 5

export interface WalkOptions {
  readonly client: RedfishClient
  /** Most resources of a walk. */
  readonly most: number
  /** Told once for each thing that is wrong. */
  readonly tell: (what: string, reason: string) => void
}

export class Walker {
  readonly #options: WalkOptions
  #root: Json = {}
  #quirks: Quirks = quirksOf({})
  #query: string | undefined
  #refusedQueries = 0
  #failures = 0
  #left = 0

  constructor(options: WalkOptions) {
    this.#options = options
  }

  get root(): Json {
    return this.#root
  }
  get quirks(): Quirks {
    return this.#quirks
  }

  /** Reads the root: what the service is and can. @throws where it does not answer. */
  async begin(signal: AbortSignal): Promise<void> {
    const { client } = this.#options
    const got = await client.get('/redfish/v1/', signal)
    if (got.is !== 'found') throw new RetryableError('PEER_UNREACHABLE', 'there is no Redfish service')
    this.#root = got.body
    this.#quirks = quirksOf(got.body)
    this.#query = this.#quirks.expand ? expandQuery(got.body) : undefined
    this.#refusedQueries = 0
    client.sessionsAt(got.body)
  }

  /** Every resource, in the order of their paths. */
  async everything(signal: AbortSignal): Promise<Resource[]> {
    this.#failures = 0
    this.#left = this.#options.most
    const seen = new Set<string>()
    const found = await this.#follow(this.#root, rootFollow, seen, signal)
    const update = linkOf(this.#root.UpdateService)
    if (update !== undefined) found.push(...(await this.#document(update, seen, signal)))
    return found.toSorted(byPath)
  }

  /** The metric reports that a telemetry service has. */
  async reports(service: string, signal: AbortSignal): Promise<Json[]> {
    const [telemetry] = await this.these([service], signal)
    const collection = linkOf(telemetry?.body.MetricReports)
    if (collection === undefined) return []
    return (await this.again([{ path: collection, isCollection: true }], signal)).map(({ body }) => body)
  }

  /** Further resources, that others name. */
  async these(paths: readonly string[], signal: AbortSignal): Promise<Resource[]> {
    return this.again(
      paths.map((path) => ({ path, isCollection: false })),
      signal,
    )
  }

  /** The same resources again, and no further. */
  async again(units: readonly Unit[], signal: AbortSignal): Promise<Resource[]> {
    this.#failures = 0
    this.#left = this.#options.most
    const found = await Promise.all(
      units.map(async ({ path, isCollection }) => {
        if (isCollection) return this.#members(path, signal)
        const body = await this.#get(path, signal)
        return body ? [{ path, type: typeOf(body), body, collection: undefined }] : []
      }),
    )
    return found.flat().toSorted(byPath)
  }

  async #document(path: string, seen: Set<string>, signal: AbortSignal): Promise<Resource[]> {
    const at = documentOf(path)
    if (seen.has(at)) return []
    seen.add(at)
    const body = await this.#get(at, signal)
    if (!body) return []
    return [
      { path: at, type: typeOf(body), body, collection: undefined },
      ...(await this.#follow(body, follow[typeOf(body)] ?? {}, seen, signal)),
    ]
  }

  async #collection(path: string, seen: Set<string>, signal: AbortSignal): Promise<Resource[]> {
    const at = documentOf(path)
    if (seen.has(at)) return []
    seen.add(at)
    const members = (await this.#members(at, signal)).filter((one) => !seen.has(one.path))
    // All of them before what hangs below the first, which may name the second.
    for (const { path: member } of members) seen.add(member)
    const below = await Promise.all(
      members.map(({ body, type }) => this.#follow(body, follow[type] ?? {}, seen, signal)),
    )
    return [...members, ...below.flat()]
  }

  async #follow(
    body: Json,
    { documents, collections, lists }: Follow,
    seen: Set<string>,
    signal: AbortSignal,
  ) {
    const linked = (names: readonly string[] = []) =>
      names.map((name) => linkOf(body[name])).filter((path) => path !== undefined)
    const listed = (lists ?? []).flatMap((name) =>
      [...objectsOf(body[name]), ...objectsOf(inside(body, 'Links')[name])]
        .map((one) => linkOf(one))
        .filter((path) => path !== undefined),
    )
    const below = await Promise.all([
      ...[...linked(documents), ...listed].map((path) => this.#document(path, seen, signal)),
      ...linked(collections).map((path) => this.#collection(path, seen, signal)),
    ])
    return below.flat()
  }

  /** The members of a collection, complete, over all of its pages. */
  async #members(path: string, signal: AbortSignal): Promise<Resource[]> {
    const found: Resource[] = []
    const seen = new Set<string>()
    let next: string | undefined = path
    for (let page = 0; next !== undefined && page < mostPages; page++) {
      const body: Json | undefined =
        page === 0 ? await this.#first(path, signal) : await this.#get(next, signal)
      // `Members: null` and an error in the place of members are real answers.
      const members: Json[] = objectsOf(body?.Members).filter((one) => {
        const id = linkOf(one)
        return id !== undefined && !seen.has(id) && seen.add(id) && this.#mayTake(path)
      })
      found.push(...(await this.#complete(path, members, signal)))
      // A link to a page that brings nothing new (or to itself) ends it.
      next = body && members.length > 0 ? nextLink(body) : undefined
    }
    return found
  }

  /** The first page, expanded where that is offered and works. */
  async #first(path: string, signal: AbortSignal): Promise<Json | undefined> {
    if (this.#query === undefined) return this.#get(path, signal)
    try {
      const got = await this.#options.client.get(`${path}?${this.#query}`, signal)
      return got.is === 'found' ? got.body : undefined
    } catch (error) {
      // A dead peer is no matter of the query.
      if (error instanceof RetryableError && error.code !== 'PEER_UNREACHABLE') throw error
      if (++this.#refusedQueries >= 2) {
        this.#options.tell('$expand', `it is offered but refused: ${messageOf(error)}`)
        this.#query = undefined
      }
      return this.#get(path, signal)
    }
  }

  /** Members that are links only are asked for one by one: `$expand` was not offered, or ignored. */
  async #complete(collection: string, members: readonly Json[], signal: AbortSignal): Promise<Resource[]> {
    const found = await Promise.all(
      members.map(async (member): Promise<Resource[]> => {
        const path = linkOf(member)
        if (path === undefined) return []
        const isLink = Object.keys(member).every((key) => key.startsWith('@odata.'))
        const body = isLink ? await this.#get(documentOf(path), signal) : member
        return body ? [{ path, type: typeOf(body), body, collection }] : []
      }),
    )
    return found.flat()
  }

  #mayTake(path: string): boolean {
    if (this.#left-- > 0) return true
    this.#options.tell(
      'resources',
      `there are more than ${this.#options.most}; the rest (${path}) is left out`,
    )
    return false
  }

  /** Undefined where it is absent or broken; rejects where the service as a whole fails. */
  async #get(path: string, signal: AbortSignal): Promise<Json | undefined> {
    try {
      const got = await this.#options.client.get(path, signal)
      return got.is === 'found' ? got.body : undefined
    } catch (error) {
      if (error instanceof RetryableError && (signal.aborted || ++this.#failures >= mostFailures)) throw error
      this.#options.tell(path, messageOf(error))
      return undefined
    }
  }
}

const byPath = (a: Resource, b: Resource): number =>
  a.path.localeCompare(b.path, 'en', { numeric: true }) || (a.path < b.path ? -1 : 1)

/** `Members@odata.nextLink` (DSP0266) or `@odata.nextLink` (older models). */
export const nextLink = (body: Json): string | undefined =>
  linkOf(body['Members@odata.nextLink'] ?? body['@odata.nextLink'])

/** The top resource to which a path belongs: `/redfish/v1/Chassis/Card1/Sensors/x` → `/redfish/v1/Chassis/Card1`. */
export const ownerOf = (path: string): string => path.split('#')[0]?.split('/').slice(0, 5).join('/') ?? path

/** Paths of the links in an array under `Links`. */
export const linksOf = (body: Json, name: string): string[] =>
  objectsOf(inside(body, 'Links')[name])
    .map((one) => linkOf(one))
    .filter((path) => path !== undefined)
