// A whole Context for a plugin under test: what the plugin says to it (ready, dropped, log, checkpoint) is kept to be
// looked at. Imports only the contract, so that plugins outside the tree can use it.
import { encodeResource, unlimited } from '../../plugins/contract/index.ts'
import type {
  Attributes,
  Class,
  Clock,
  CollectorStatus,
  Context,
  DropReason,
  Log,
} from '../../plugins/contract/index.ts'
import { FakeClock } from './clock.ts'

export interface Logged {
  level: keyof Log
  message: string
  fields: Readonly<Record<string, unknown>>
}
export interface DroppedCount {
  class: Class
  reason: DropReason
  count: number
}

export interface TestContext<C extends Clock = FakeClock> extends Context {
  readonly clock: C
  /** Every address given to `ready`, in order; '' where none was given. */
  readonly addresses: string[]
  /** Resolves at the first `ready`, with its address. */
  readonly whenReady: Promise<string>
  readonly drops: DroppedCount[]
  readonly logged: Logged[]
  /** What the checkpoint holds: JSON, as it would be on disk. */
  saved: string | undefined
  /** Tells those who asked for it that the status changed. */
  statusChanged(): void
}

/** Overrides replace members one by one; the clock stands still unless another one is given. */
export function testContext(overrides?: Partial<Context> & { clock?: FakeClock }): TestContext
export function testContext<C extends Clock>(overrides: Partial<Context> & { clock: C }): TestContext<C>
export function testContext(overrides: Partial<Context> = {}): TestContext<Clock> {
  const device = overrides.device ?? 'dpu-under-test'
  const ready = Promise.withResolvers<string>()
  const listeners = new Set<() => void>()
  const logged: Logged[] = []
  const write =
    (level: keyof Log) =>
    (message: string, fields: Logged['fields'] = {}): void =>
      void logged.push({ level, message, fields })
  const context: TestContext<Clock> = {
    id: 'under_test',
    log: { error: write('error'), warn: write('warn'), info: write('info'), debug: write('debug') },
    clock: new FakeClock(),
    checkpoint: {
      load: async () => (context.saved === undefined ? undefined : (JSON.parse(context.saved) as unknown)),
      save: async (cursor) => void (context.saved = JSON.stringify(cursor)),
    },
    device,
    collector: device,
    resource: (attributes: Attributes = {}) => encodeResource({ ...resourceOf(device), ...attributes }),
    admission: unlimited,
    portOffset: 0,
    ready: (address = '') => {
      context.addresses.push(address)
      ready.resolve(address)
    },
    dropped: (name, reason, count) => void context.drops.push({ class: name, reason, count }),
    status: () => statusOf(device),
    onStatusChange: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    addresses: [],
    whenReady: ready.promise,
    drops: [],
    logged,
    saved: undefined,
    statusChanged: () => listeners.forEach((listener) => listener()),
    ...overrides,
  }
  return context
}

/** The Resource that `testContext().resource()` encodes, before what the plugin adds. */
export const resourceOf = (device: string): Attributes => ({
  'host.id': device,
  'host.name': 'test-host',
  'host.arch': 'arm64',
  'host.type': 'dpu',
  'service.instance.id': '01K00000000000000000000000',
})

const statusOf = (device: string): CollectorStatus => ({
  collector: device,
  instance: '01K00000000000000000000000',
  version: '0.0.0',
  since: '2026-11-01T00:00:00.000000000Z',
  hostname: 'test-host',
  arch: 'arm64',
  labels: {},
  identity: 'test',
  devices: [device],
  session: '01K00000000000000000000001',
  ended: [],
  held: [],
})
