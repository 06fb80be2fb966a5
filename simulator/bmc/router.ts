// From a path to what answers there. Patterns are paths below /redfish/v1, with `{}` for an id; one tree for each flavour,
// built when first asked for. Resources are functions of the device's state: nothing is kept between two requests.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { Privilege, User } from './access.ts'
import type { Bmc } from './bmc.ts'
import type { Flavour } from './flavours.ts'

/** A request, as what answers it sees it. */
export interface Call {
  readonly bmc: Bmc
  readonly flavour: Flavour
  /** Without trailing slash. */
  readonly path: string
  /** What stands for each `{}`. */
  readonly ids: readonly string[]
  readonly query: URLSearchParams
  readonly body: Json
  /** Undefined where a resource needs no login. */
  readonly user: User | undefined
  readonly request: IncomingMessage
}

export interface Reply {
  readonly status: number
  readonly body?: Json
  readonly headers?: Readonly<Record<string, string>>
}

export interface Resource {
  /** Undefined where there is none with those ids. */
  readonly get?: (call: Call) => Json | undefined
  /** A GET whose status tells something too. */
  readonly watch?: (call: Call) => Reply | undefined
  readonly patch?: (call: Call) => Reply
  readonly post?: (call: Call) => Reply
  readonly delete?: (call: Call) => Reply
  /** Reads the body of a POST itself. */
  readonly take?: (call: Call) => Promise<Reply>
  /** Answers a GET itself, for as long as it likes. */
  readonly stream?: (call: Call, response: ServerResponse) => void
  /** Other than JSON. */
  readonly text?: () => { readonly type: string; readonly body: string }
  /** Readable by anyone. */
  readonly isOpen?: boolean
  /** Anyone may POST. */
  readonly isOpenToPost?: boolean
  /** To change it; ConfigureComponents where none is named. */
  readonly privilege?: Privilege
}

export type Routes = Readonly<Record<string, Resource>>

interface Node {
  readonly children: Map<string, Node>
  any: Node | undefined
  resource: Resource | undefined
}

const emptyNode = (): Node => ({ children: new Map(), any: undefined, resource: undefined })

export interface Match {
  readonly resource: Resource
  readonly ids: readonly string[]
}

export class Router {
  readonly #root = emptyNode()

  constructor(routes: Routes) {
    for (const [pattern, resource] of Object.entries(routes)) this.#add(pattern, resource)
  }

  #add(pattern: string, resource: Resource): void {
    let at = this.#root
    for (const part of pattern.split('/').filter((one) => one !== '')) {
      if (part === '{}') {
        at = at.any ??= emptyNode()
        continue
      }
      const next = at.children.get(part) ?? emptyNode()
      at.children.set(part, next)
      at = next
    }
    if (at.resource) throw new Error(`two resources at ${pattern}`)
    at.resource = resource
  }

  /** @param path The parts of a path below /redfish/v1. */
  match(path: readonly string[]): Match | undefined {
    const ids: string[] = []
    let at: Node | undefined = this.#root
    for (const part of path) {
      const named: Node | undefined = at.children.get(part)
      if (!named && at.any) ids.push(part)
      at = named ?? at.any
      if (!at) return undefined
    }
    return at.resource && { resource: at.resource, ids }
  }
}

/** What may be done there, for the header `Allow`. */
export const allowed = (resource: Resource): string =>
  [
    ...(resource.get || resource.watch || resource.stream || resource.text ? ['GET', 'HEAD'] : []),
    ...(resource.patch ? ['PATCH'] : []),
    ...(resource.post || resource.take ? ['POST'] : []),
    ...(resource.delete ? ['DELETE'] : []),
  ].join(', ')

export const base = '/redfish/v1'
export const link = (path: string): Json => ({ '@odata.id': `${base}/${path}` })
export const noContent: Reply = { status: 204 }

/** Of a part of a path; undefined where it is written wrongly. */
export function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
