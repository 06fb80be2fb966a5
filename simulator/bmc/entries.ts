// Logs: events of the system, the console of the host (kernel lines, which outlive a device that died), the BMC's own journal.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { BmcEntry } from '../model.ts'
import type { Bmc, JournalLine } from './bmc.ts'
import type { Flavour } from './flavours.ts'
import { collection } from './query.ts'
import { base, link, noContent } from './router.ts'
import type { Call, Resource, Routes } from './router.ts'

interface LogKind<T> {
  readonly name: string
  readonly description: string
  readonly entries: (bmc: Bmc) => readonly T[]
  readonly id: (entry: T) => string
  readonly show: (bmc: Bmc, entry: T) => Json
  readonly clear?: (bmc: Bmc) => void
  /** Tells its newest entry, as Nvidia's do. */
  readonly tellsNewest?: boolean
}

export const entryPath = ({ system }: Flavour, { id }: Pick<BmcEntry, 'id'>): string =>
  `${base}/Systems/${system}/LogServices/EventLog/Entries/${id}`

/** Of messages that name a sensor, its reading and its limit in their text. */
export function entryArguments({ messageId, message }: BmcEntry): string[] {
  if (!messageId.includes('SensorThreshold')) return []
  const found = /^(\S+) sensor crossed .*Reading=(-?[\d.]+?)[.\s]+Threshold=(-?[\d.]+?)\.?$/.exec(message)
  return found ? found.slice(1) : []
}

const eventLog: LogKind<BmcEntry> = {
  name: 'Event Log Service',
  description: 'System Event Log Service',
  entries: ({ device }) => device.state.bmc.log,
  id: ({ id }) => String(id),
  show: (bmc, entry) => ({
    Created: bmc.timeAt(entry.atMs),
    EntryType: 'Event',
    Message: entry.message,
    MessageArgs: entryArguments(entry),
    MessageId: entry.messageId,
    Name: 'System Event Log Entry',
    Resolution: 'None.',
    Resolved: false,
    Severity: entry.severity,
  }),
  clear: ({ device }) => void device.state.bmc.log.splice(0),
  tellsNewest: true,
}

interface KernelEntry {
  readonly id: string
  readonly text: string
  readonly severity: number
  readonly atMs: number
}

const hostLogger: LogKind<KernelEntry> = {
  name: 'Host Logger Service',
  description: 'Host Logger Service',
  entries: kernelEntries,
  id: ({ id }) => id,
  show: (bmc, { text, severity, atMs }) => ({
    Created: bmc.timeAt(atMs),
    EntryType: 'Oem',
    OemRecordFormat: 'Host Logger Entry',
    Message: text,
    Name: 'Host Logger Entry',
    Severity: severity <= 2 ? 'Critical' : severity <= 4 ? 'Warning' : 'OK',
  }),
}

/** Numbered by their time, and within it: the number of a line stays when those before it are dropped. */
function kernelEntries(bmc: Bmc): KernelEntry[] {
  let lastMs = -1
  let count = 0
  return bmc.device.state.kernel.map(({ text, severity, atMs }) => {
    count = atMs === lastMs ? count + 1 : 0
    lastMs = atMs
    return { id: String((bmc.device.epochMs + Math.round(atMs)) * 1000 + count), text, severity, atMs }
  })
}

const journal: LogKind<JournalLine> = {
  name: 'Open BMC Journal Log Service',
  description: 'BMC Journal Log Service',
  entries: ({ journalLines }) => journalLines,
  id: ({ id }) => String(id),
  show: (bmc, { text, atMs }) => ({
    Created: bmc.timeAt(atMs),
    EntryType: 'Oem',
    OemRecordFormat: 'BMC Journal Entry',
    Message: text,
    Name: 'BMC Journal Entry',
    Severity: 'OK',
  }),
}

export const logRoutes = ({ system, manager }: Flavour): Routes => ({
  ...logsOf(`Systems/${system}`, 'System Log Services Collection', [
    ['EventLog', log(eventLog)],
    ['HostLogger', log(hostLogger)],
  ]),
  ...logsOf(`Managers/${manager}`, 'Open BMC Log Services Collection', [['Journal', log(journal)]]),
})

type Log = (at: string, id: string) => Routes

function logsOf(owner: string, name: string, logs: readonly (readonly [string, Log])[]): Routes {
  const services = `${owner}/LogServices`
  const list: Resource = {
    get: (call) =>
      collection(call, {
        type: 'LogService',
        name,
        members: logs,
        show: ([id]) => link(`${services}/${id}`),
      }),
  }
  return Object.assign(
    { [services]: list },
    ...logs.map(([id, make]) => make(`${services}/${id}`, id)),
  ) as Routes
}

const log =
  <T>(kind: LogKind<T>): Log =>
  (at, id) => {
    const { clear } = kind
    const clearing = `${at}/Actions/LogService.ClearLog`
    const shown = ({ bmc }: Call, entry: T): Json => {
      const entryId = kind.id(entry)
      return {
        '@odata.id': `${base}/${at}/Entries/${entryId}`,
        '@odata.type': '#LogEntry.v1_9_0.LogEntry',
        Id: entryId,
        ...kind.show(bmc, entry),
      }
    }
    return {
      [at]: { get: (call) => serviceBody(call, kind, at, id) },
      [`${at}/Entries`]: {
        get: (call) =>
          collection(call, {
            type: 'LogEntry',
            name: `${kind.description} Entries`,
            members: kind.entries(call.bmc),
            show: (entry) => shown(call, entry),
          }),
      },
      [`${at}/Entries/{}`]: {
        get: (call) => {
          const found = kind.entries(call.bmc).find((entry) => kind.id(entry) === call.ids[0])
          return found && shown(call, found)
        },
      },
      ...(clear
        ? {
            [clearing]: {
              post: ({ bmc }: Call) => {
                clear(bmc)
                return noContent
              },
              privilege: 'ConfigureManager' as const,
            },
          }
        : {}),
    }
  }

function serviceBody<T>({ bmc, flavour }: Call, kind: LogKind<T>, at: string, id: string): Json {
  const newest = flavour.isNvidia && kind.tellsNewest ? kind.entries(bmc).at(-1) : undefined
  const clearing = { target: `${base}/${at}/Actions/LogService.ClearLog` }
  return {
    '@odata.id': `${base}/${at}`,
    '@odata.type': '#LogService.v1_1_0.LogService',
    Id: id,
    Name: kind.name,
    Description: kind.description,
    DateTime: bmc.timeAt(bmc.nowMs),
    DateTimeLocalOffset: '+00:00',
    OverWritePolicy: 'WrapsWhenFull',
    Entries: link(`${at}/Entries`),
    ...(kind.clear ? { Actions: { '#LogService.ClearLog': clearing } } : {}),
    ...(newest === undefined
      ? {}
      : {
          Oem: {
            Nvidia: {
              '@odata.type': '#NvidiaLogService.v1_0_0.NvidiaLogService',
              LatestEntryID: kind.id(newest),
              LatestEntryTimeStamp: kind.show(bmc, newest).Created,
            },
          },
        }),
  }
}
