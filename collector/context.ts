// Who the collector is, and the Context that the runtime gives to each component.
import { encodeResource, livesOn, unlimited } from '../plugins/contract/index.ts'
import type {
  Admission,
  Attributes,
  Changes,
  Checkpoint,
  Class,
  Clock,
  CollectorStatus,
  Context,
  DropReason,
  Log as Logger,
} from '../plugins/contract/index.ts'

export interface CollectorIdentity {
  collector: string
  device: string
  /** ULID of this run. */
  instance: string
  version: string
  /** RFC 3339. */
  since: string
  hostname: string
  arch: string
  /** As attributes they stand under `dpu.`. Replaced as a whole when they change: Resources made after that have the new ones. */
  labels: Readonly<Record<string, string>>
  /** Where the device's name comes from. */
  identity: string
  portOffset: number
}

export interface ComponentParts {
  id: string
  clock: Clock
  logger: Logger
  checkpoint: Checkpoint
  admission?: Admission
  ready: (address: string | undefined) => void
  dropped: (name: Class, reason: DropReason, count: number) => void
  status?: () => Pick<CollectorStatus, 'devices' | 'session' | 'ended' | 'held'>
  listeners?: Set<() => void>
  changes?: Changes | undefined
}

/** The attributes of every Resource of this machine. */
export const resourceAttributes = (identity: CollectorIdentity): Attributes => ({
  'host.id': identity.device,
  'host.name': identity.hostname,
  'host.arch': identity.arch,
  'host.type': 'dpu',
  'service.instance.id': identity.instance,
  ...Object.fromEntries(Object.entries(identity.labels).map(([key, value]) => [`dpu.${key}`, value])),
})

/** Sources ask again and again for the same few Resources. */
const mostCached = 64

export function contextOf(identity: CollectorIdentity, parts: ComponentParts): Context {
  let { labels } = identity
  let base = resourceAttributes(identity)
  const cache = new Map<string, Uint8Array>()
  const listeners = parts.listeners ?? new Set()
  function resource(attributes: Attributes = {}): Uint8Array {
    if (labels !== identity.labels) {
      labels = identity.labels
      base = resourceAttributes(identity)
      cache.clear()
    }
    const key = cacheKey(attributes)
    const known = key === undefined ? undefined : cache.get(key)
    if (known) return known
    const encoded = encodeResource({ ...base, ...attributes })
    const made = labels
    livesOn(encoded, () => (made === identity.labels ? encoded : resource(attributes)))
    if (key !== undefined) {
      if (cache.size >= mostCached) cache.clear()
      cache.set(key, encoded)
    }
    return encoded
  }
  return {
    id: parts.id,
    log: parts.logger,
    clock: parts.clock,
    checkpoint: parts.checkpoint,
    device: identity.device,
    collector: identity.collector,
    admission: parts.admission ?? unlimited,
    portOffset: identity.portOffset,
    ...(parts.changes && { changes: parts.changes }),
    resource,
    ready: (address) => parts.ready(address),
    dropped: (name, reason, count) => parts.dropped(name, reason, count),
    status() {
      const { collector, instance, version, since, hostname, arch } = identity
      const own = parts.status?.() ?? { devices: [identity.device], session: '', ended: [], held: [] }
      const shown = { collector, instance, version, since, hostname, arch, labels: { ...identity.labels } }
      return { ...shown, identity: identity.identity, ...own }
    },
    onStatusChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}

/** Undefined where the attributes are more than flat text and numbers. */
function cacheKey(attributes: Attributes): string | undefined {
  let key = ''
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'object') return undefined
    key += `${name}\0${typeof value}\0${String(value)}\0`
  }
  return key
}
