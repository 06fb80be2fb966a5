// Takes what a request says, and nothing else: each member is known and of its type, or the request is refused by its name.
import { isJson } from '../../plugins/protocols/redfish/json.ts'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { Refusal } from './messages.ts'

type Type =
  | 'string'
  | 'string or null'
  | 'boolean'
  | 'number'
  | 'strings'
  | 'object'
  | 'objects'
  | readonly string[]
export type Shape = Readonly<Record<string, Type>>

type Taken<S extends Shape> = {
  readonly [K in keyof S]?: S[K] extends 'boolean'
    ? boolean
    : S[K] extends 'number'
      ? number
      : S[K] extends 'strings'
        ? readonly string[]
        : S[K] extends 'object'
          ? Json
          : S[K] extends 'objects'
            ? readonly Json[]
            : S[K] extends 'string or null'
              ? string | null
              : string
}

const longest = 2048
const most = 64

/** @throws Refusal for a member that is unknown or not of its type. */
export function take<const S extends Shape>(body: Json, shape: S): Taken<S> {
  const taken: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(body)) {
    // Annotations of OData are the client's own.
    if (name.includes('@')) continue
    const type = Object.hasOwn(shape, name) ? shape[name] : undefined
    if (type === undefined) throw new Refusal('PropertyUnknown', [name])
    if (!isOfType(value, type)) {
      const isChoice = typeof type !== 'string' && typeof value === 'string'
      throw new Refusal(isChoice ? 'PropertyValueNotInList' : 'PropertyValueTypeError', [shown(value), name])
    }
    taken[name] = value
  }
  return taken as Taken<S>
}

/** @throws Refusal where it was not given. */
export function required<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new Refusal('PropertyMissing', [name])
  return value
}

const shown = (value: unknown): string =>
  typeof value === 'string'
    ? value
    : value === null
      ? 'null'
      : Array.isArray(value)
        ? 'an array'
        : typeof value

function isOfType(value: unknown, type: Type): boolean {
  switch (type) {
    case 'string':
      return typeof value === 'string' && value.length <= longest
    case 'string or null':
      return value === null || isOfType(value, 'string')
    case 'boolean':
      return typeof value === 'boolean'
    case 'number':
      return typeof value === 'number' && Number.isFinite(value)
    case 'strings':
      return Array.isArray(value) && value.length <= most && value.every((one) => isOfType(one, 'string'))
    case 'object':
      return isJson(value)
    case 'objects':
      return Array.isArray(value) && value.length <= most && value.every(isJson)
    default:
      return typeof value === 'string' && type.includes(value)
  }
}
