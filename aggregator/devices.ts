// The devices that were ever heard of: from births and wills of collectors and from the batches that come in. Kept in
// the journal's registry table. Two live runs of a collector under one id are a conflict, and shown.
import type { Header } from '../plugins/contract/batch.ts'
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Status } from '../plugins/protocols/topics.ts'
import type { JournalTable } from './journal/journal.ts'
import type { Conflict, DeviceInfo, Devices } from './query.ts'
import { formatTime } from './time.ts'

interface Instance {
  status: Status
  /** When it last said anything, by the aggregator's clock. */
  activeUnixNano: bigint
  bornUnixNano: bigint
  /** Known from before this aggregator started, and not heard since. */
  replayed: boolean
}

/** What the registry table keeps of a device. */
interface Entry {
  device: string
  name: string
  labels: Record<string, string>
  collector: string
  version: string
  identity: { kind: string; value: string }[]
  lastSeenUnixNano: bigint
}

/** A device about which nobody with a birth speaks is online this long after its last record. */
const silentAfterNano = 120_000_000_000n
/** Two runs conflict when each was active this shortly after the other. */
const conflictWindowNano = 60_000_000_000n
/** How long a birth that was only replayed counts. */
const replayedNano = 45_000_000_000n
/** How often an entry is written only because it was seen again. */
const saveEveryNano = 30_000_000_000n
/** Distinct devices; more are refused until some are deleted. */
const deviceLimit = 200_000

export interface DeviceRegistry extends Devices {
  /** A birth or a will; `replayed` when it was only kept from before this aggregator started. */
  onStatus(status: Status, replayed: boolean): void
  /** What a collector reports of its labels, sooner than its next birth. */
  onLabels(device: string, labels: Readonly<Record<string, string>>): void
  /** A batch was taken in. */
  onBatch(header: Header): void
  /** Writes what is only in memory. */
  flush(): Promise<void>
}

export function openDevices(table: JournalTable, clock: Clock, log: Log): DeviceRegistry {
  const entries = new Map<string, Entry>()
  const savedUnixNano = new Map<string, bigint>()
  /** Runs of each collector, newest birth last. */
  const instances = new Map<string, Map<string, Instance>>()
  const writing = new Set<Promise<void>>()
  let refused = 0

  for (const [key, value] of table.entries()) {
    if (!key.startsWith('device/')) continue
    const entry = decode(value)
    entries.set(entry.device, entry)
  }
  // Where several aggregators share the journal, each hears of some records only.
  table.watch?.((key, value) => {
    if (!key.startsWith('device/')) return
    const device = key.slice('device/'.length)
    if (!value) {
      entries.delete(device)
      return
    }
    const entry = decode(value)
    const known = entries.get(device)
    if (!known || known.lastSeenUnixNano < entry.lastSeenUnixNano) entries.set(device, entry)
  })

  function save(entry: Entry): void {
    savedUnixNano.set(entry.device, entry.lastSeenUnixNano)
    const { lastSeenUnixNano, ...rest } = entry
    const value = Buffer.from(JSON.stringify({ ...rest, lastSeen: String(lastSeenUnixNano) }))
    const write = table
      .set(`device/${entry.device}`, value)
      .catch((error: unknown) =>
        log.error('registry not written', { device: entry.device, error: messageOf(error) }),
      )
      .finally(() => writing.delete(write))
    writing.add(write)
  }

  function touch(device: string, collector: string): Entry | undefined {
    const now = clock.nowUnixNano()
    let entry = entries.get(device)
    if (!entry) {
      if (entries.size >= deviceLimit) {
        if (refused++ % 1000 === 0) log.error('too many devices', { limit: deviceLimit, device })
        return undefined
      }
      entry = { device, name: '', labels: {}, collector, version: '', identity: [], lastSeenUnixNano: now }
      entries.set(device, entry)
    }
    entry.lastSeenUnixNano = now
    // A collector on the device itself knows it better than one that looks on from outside.
    if (collector === device || entry.collector !== device) entry.collector = collector
    return entry
  }

  function onStatus(status: Status, replayed: boolean): void {
    let runs = instances.get(status.collector)
    if (!runs && !entries.has(status.collector) && entries.size >= deviceLimit) return
    if (!runs) instances.set(status.collector, (runs = new Map()))
    const now = clock.nowUnixNano()
    const known = runs.get(status.instance)
    if (status.state === 'offline') {
      // The will of a run that never spoke here says nothing about those that did.
      if (known) runs.set(status.instance, { ...known, status: { ...known.status, state: 'offline' } })
      return
    }
    runs.set(status.instance, {
      status,
      activeUnixNano: now,
      bornUnixNano: known?.bornUnixNano ?? now,
      replayed,
    })
    endPredecessors(runs, status)
    prune(runs, now)
    for (const device of new Set([status.collector, ...status.devices])) {
      const entry = touch(device, status.collector)
      if (!entry) continue
      if (device === status.collector) {
        entry.name = status.hostname
        entry.version = status.version
        entry.labels = status.labels
        entry.identity = status.identity ? [{ kind: status.identity, value: status.collector }] : []
      }
      save(entry)
    }
    const conflict = conflictOf(status.collector)
    if (conflict) log.warn('two live collectors claim one device', { device: status.collector, ...conflict })
  }

  function onBatch(header: Header): void {
    const entry = touch(header.device, header.collector)
    if (!entry) return
    for (const run of instances.get(header.collector)?.values() ?? []) {
      if (run.status.session !== header.session) continue
      run.activeUnixNano = entry.lastSeenUnixNano
      run.replayed = false
    }
    const saved = savedUnixNano.get(header.device) ?? 0n
    if (entry.lastSeenUnixNano - saved > saveEveryNano) save(entry)
  }

  function conflictOf(collector: string): Conflict | undefined {
    const now = clock.nowUnixNano()
    const live = [...(instances.get(collector)?.values() ?? [])]
      .filter(
        ({ status, activeUnixNano }) =>
          status.state === 'online' && now - activeUnixNano < conflictWindowNano,
      )
      .sort((a, b) => (a.bornUnixNano < b.bornUnixNano ? -1 : 1))
    // A run that was killed without a will is silent after the birth of its successor.
    const last = live.at(-1)
    const rivals = live.filter((run) => run === last || (last && run.activeUnixNano > last.bornUnixNano))
    if (!last || rivals.length < 2) return undefined
    return {
      collectors: rivals.map(({ status }) => `${status.hostname || 'unnamed host'} (run ${status.instance})`),
      since: formatTime(last.bornUnixNano),
      detail: `${rivals.length} live collectors speak as ${collector}; give each its own id, or stop the wrong one`,
    }
  }

  function isOnline(entry: Entry, now: bigint): boolean {
    const runs = instances.get(entry.collector)
    if (!runs || runs.size === 0) return now - entry.lastSeenUnixNano < silentAfterNano
    for (const { status, replayed, activeUnixNano } of runs.values()) {
      // Whoever lives connects again; a birth from before says little after a while.
      if (status.state === 'online' && (!replayed || now - activeUnixNano < replayedNano)) return true
    }
    return false
  }

  function onLabels(device: string, labels: Readonly<Record<string, string>>): void {
    const entry = entries.get(device)
    if (!entry || entry.collector !== device || pairsOf(entry.labels) === pairsOf(labels)) return
    entry.labels = { ...labels }
    save(entry)
  }

  return {
    onStatus,
    onLabels,
    onBatch,
    async list() {
      const now = clock.nowUnixNano()
      const rows: DeviceInfo[] = []
      for (const entry of entries.values()) {
        const conflict = conflictOf(entry.device)
        rows.push({
          device: entry.device,
          name: entry.name || entry.device,
          labels: entry.labels,
          state: isOnline(entry, now) ? 'online' : 'offline',
          lastSeen: formatTime(entry.lastSeenUnixNano),
          collector: entry.collector,
          version: entry.version,
          identity: entry.identity,
          conflicts: conflict ? [conflict] : [],
        })
      }
      return rows.sort((a, b) => (a.device < b.device ? -1 : 1))
    },
    async remove(device) {
      if (!entries.delete(device)) return 'absent'
      savedUnixNano.delete(device)
      await table.set(`device/${device}`, undefined)
      return 'removed'
    },
    async flush() {
      for (const entry of entries.values()) {
        if (savedUnixNano.get(entry.device) !== entry.lastSeenUnixNano) save(entry)
      }
      await Promise.all(writing)
    },
  }
}

const pairsOf = (labels: Readonly<Record<string, string>>): string =>
  JSON.stringify(Object.entries(labels).toSorted(([one], [other]) => (one < other ? -1 : 1)))

function decode(value: Uint8Array): Entry {
  const { lastSeen, ...rest } = JSON.parse(Buffer.from(value).toString()) as Omit<
    Entry,
    'lastSeenUnixNano'
  > & { lastSeen: string }
  return { ...rest, lastSeenUnixNano: BigInt(lastSeen) }
}

/** A run that knows where another one's streams ended has its buffer: that one is over, though its batches still come. */
function endPredecessors(runs: Map<string, Instance>, { instance, ended, held }: Status): void {
  const over = new Set([...ended, ...held].map(({ session }) => session))
  for (const [id, run] of runs) {
    if (id !== instance && over.has(run.status.session)) {
      runs.set(id, { ...run, status: { ...run.status, state: 'offline' } })
    }
  }
}

/** Runs that ended are forgotten once newer ones have been heard of; a live one never is. */
function prune(runs: Map<string, Instance>, now: bigint): void {
  if (runs.size <= 8) return
  for (const [id, { status, activeUnixNano }] of runs) {
    if (runs.size <= 8) return
    if (status.state === 'offline' || now - activeUnixNano > conflictWindowNano) runs.delete(id)
  }
}
