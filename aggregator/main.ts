// The aggregator's composition root: opens journal and store, starts what takes records in and what answers for them,
// and closes all of it in reverse.
import { mkdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { ulid } from 'ulid'
import { systemClock as clock } from '../collector/clock.ts'
import type { Problem } from '../collector/problems.ts'
import { identityFile, resolveIdentity } from '../collector/identity.ts'
import { Logger } from '../collector/logger.ts'
import { streamKey } from '../plugins/contract/batch.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { connectToParent, stopSignal } from '../plugins/contract/parent.ts'
import type { PeerMessage } from '../plugins/contract/parent.ts'
import { ports } from '../plugins/contract/options.ts'
import type { ProgramOptions } from '../plugins/contract/options.ts'
import type { Address } from '../plugins/contract/settings.ts'
import type { Status } from '../plugins/protocols/topics.ts'
import { openChanges } from '../control/configuration/changes.ts'
import type { RunningChanges } from '../control/configuration/changes.ts'
import { startApi } from './api/server.ts'
import { loadConfig } from './config.ts'
import { openDevices } from './devices.ts'
import { openIngest } from './ingest.ts'
import { startOtlpIngest } from './ingest-otlp.ts'
import { forgetSettled, longestKept, ownBooks, sharedBooks } from './forgetting.ts'
import { openHandover } from './handover.ts'
import { followAccounts, followStreams } from './followed.ts'
import { openJournal } from './journal/open.ts'
import { lossesOf, openLedger } from './ledger.ts'
import { openLive } from './live.ts'
import { journalFeed } from './live-tail.ts'
import { measuresOf } from './measures.ts'
import { exportMetrics, feedMetrics, prometheusText } from './metrics.ts'
import { openMqtt } from './mqtt.ts'
import type { Mqtt } from './mqtt.ts'
import { recoverAccounts } from './recovery.ts'
import { journalKeeper } from './store/keeper.ts'
import { openStore } from './store/open.ts'
import { recordId } from './store/query-logs.ts'
import { openLiveFilter, openWriterFilter } from './filter.ts'
import { openWriter } from './writer.ts'

const MiB = 1024 ** 2
const GiB = 1024 ** 3
/**
 * How the disk is shared; the collector beside us keeps to its own tenth. What is left is for what files take beyond their
 * bytes, and for what the store has under way when all are full at once.
 */
const shares = { journal: 0.28, store: 0.56 }
const stopMs = 12_000
/**
 * Batches live outside V8's heap, which counts them all the same and would mark the whole heap again for every 64 MiB of
 * them: counted with the heap, and with four times of it passing before it looks, collection takes a tenth of the CPU.
 * Threads that mark the heap beside us take several times the CPU of doing it ourselves.
 */
const heapFlags = [
  '--heap-growing-percent=300',
  '--external-memory-accounted-in-global-limit',
  '--no-concurrent-marking',
]

/** Runs until SIGTERM, SIGINT or the end of the parent. @throws what a person must mend before it can start. */
export async function main(options: ProgramOptions): Promise<void> {
  for (const flag of heapFlags) setFlagsFromString(flag)
  const signal = stopSignal(stopMs)
  const peers = new Map<string, PeerMessage>()
  const parent = connectToParent((peer) => peers.set(peer.program, peer))
  // Its parent starts a collector beside it, and says how that is only once this program is up.
  if (parent.present)
    peers.set('collector', { type: 'peer', program: 'collector', ready: false, detail: 'starting' })
  const log = new Logger().for('aggregator')
  const config = await loadConfig(options.config)
  const directory = join(options.data, 'aggregator')
  await mkdir(directory, { recursive: true })
  const maxDisk = options.maxDisk ?? config.max_disk ?? 20 * GiB
  const device = config.aggregator.id ?? (await resolveIdentity(identityFile(options.data))).device

  await using open = new AsyncDisposableStack()
  const journal = open.use(
    await openJournal({
      url: options.journal,
      config: config.journal,
      directory: join(directory, 'journal'),
      maxBytes: Math.floor(maxDisk * shares.journal),
      // DuckDB belongs to one process, and what it knows of a partition no other can read.
      alone: options.store === 'embedded' && config.store.influxdb.url === undefined,
      log,
      clock,
    }),
  )
  const storeBytes = Math.floor(maxDisk * shares.store)
  const store = open.use(
    await openStore({
      option: options.store,
      config: config.store,
      directory,
      maxBytes: storeBytes,
      log,
      onEnd(error) {
        log.error('the store has ended, and so does the aggregator', { error: messageOf(error) })
        process.exit(1)
      },
    }),
  )
  const devices = openDevices(journal.table('dpulse_registry'), clock, log)
  open.defer(() => devices.flush())

  let mqtt: Mqtt | undefined
  let changes: RunningChanges | undefined
  let replaying = true
  const passBirth = { to: (_status: Status): void => undefined }
  const ingest = open.use(
    openIngest({
      journal,
      log,
      clock,
      device,
      acknowledge: (collector, ack) => mqtt?.acknowledge(collector, ack),
      onBatch: (header) => devices.onBatch(header),
      onStatus: (status) => {
        devices.onStatus(status, replaying)
        passBirth.to(status)
      },
    }),
  )
  const { shared } = journal
  const storeKeepsState = store.keepsState !== false
  const handover = shared && openHandover({ journal, shared, device, storeKeepsState, clock, log })
  // A journal of our own keeps what the store cannot in a table of its own.
  const keeper = storeKeepsState || shared ? undefined : journalKeeper(journal.table('dpulse_writer'))
  const rules = config.filter ?? { rules: [] }
  const filter = openWriterFilter(rules, { clock, log, maxBatchBytes: 8 * MiB })
  const writer = await openWriter({
    keeper,
    filter,
    journal,
    store,
    handover,
    log,
    clock,
    // What a commit adds must be small beside the limit: room is made between two of them.
    groupBytes: Math.min(16 * MiB, Math.ceil(storeBytes / 32)),
  })
  const accounts = shared ? followAccounts(journal.table('dpulse_ledger')) : ingest.accounts
  if (!shared) await recoverAccounts(journal, accounts, writer.position, Date.now(), log)
  // Who shares the journal owns some of its partitions, and answers for all.
  const streams = shared && !storeKeepsState ? followStreams(journal.table('dpulse_state')) : writer.streams
  const ledger = openLedger({
    book: accounts,
    writer: {
      streams,
      between: async (look) => {
        // What is stored and not yet saved would be missing on both sides. An outage of Kafka must not hold the answer.
        if (handover) await Promise.race([handover.flush(), clock.delay(1000, signal).catch(() => undefined)])
        return writer.between(look)
      },
      get position() {
        return shared && !storeKeepsState ? shared.position() : writer.position
      },
    },
    store,
    journal,
    clock,
    log,
    ended: (key) => accounts.get(key)?.ended ?? false,
  })

  if (handover) passBirth.to = (status) => handover.onStatus(status)

  // The writer goes on until everything that takes records in has closed.
  const writing = new AbortController()
  const written = Promise.all([
    writer.run(writing.signal),
    ledger.run(1000, writing.signal),
    handover?.run(writing.signal),
    forgetSettled(
      {
        books: handover ? sharedBooks(handover, accounts, storeKeepsState) : ownBooks(ingest),
        writer,
        store,
        retentionMs: longestKept(config.store.retention, filter.classes),
        clock,
        log,
      },
      writing.signal,
    ),
  ])
  written.catch((error: unknown) => log.error('writer ended', { error: messageOf(error) }))
  open.defer(async () => {
    writing.abort(new Error('stopping'))
    await written.catch(() => undefined)
    await handover?.flush()
  })

  const port = (base: number): number => base + options.portOffset
  const addresses: { name: string; address: string }[] = []
  mqtt = open.use(
    await openMqtt({
      config: config.mqtt,
      broker: options.broker,
      portOffset: options.portOffset,
      ingest,
      retained: journal.table('dpulse_retained'),
      onReported: (collector, payload) => changes?.onReported(collector, payload),
      place: shared ? `${device} ${resolve(options.data)}` : undefined,
      log,
      clock,
    }),
  )
  changes = openChanges({
    registry: journal.table('dpulse_registry'),
    operations: journal.table('dpulse_operations'),
    bus: mqtt,
    root: config.mqtt.root,
    devices: () => devices.list(),
    onLabels: (device, labels) => devices.onLabels(device, labels),
    losses: async (chosen) => lossesOf(await ledger.report(chosen)),
    check: checkElsewhere,
    // Where several share the journal, the owner of one partition looks after what only one may do.
    isLeader: () => shared?.owned().has(shared.partitionOf('control')) ?? true,
    clock,
    log,
  })
  const changing = changes.run(signal)
  changing.catch((error: unknown) => log.error('control ended', { error: messageOf(error) }))
  for (const address of mqtt.addresses) addresses.push({ name: 'mqtt', address })
  replaying = false

  const otlp = await startOtlpIngest(ingest, {
    grpc: config.otlp.grpc ?? loopback(port(ports.aggregatorOtlpGrpc)),
    http: config.otlp.http ?? loopback(port(ports.aggregatorOtlpHttp)),
    maxRequestBytes: config.otlp.max_request,
    ...(config.otlp.tls && { tls: config.otlp.tls }),
    log,
    signal,
  })
  for (const address of otlp.addresses) addresses.push({ name: 'otlp', address })

  let storeStatus: Awaited<ReturnType<typeof store.status>> = {
    bytes: 0,
    rows: 0,
    files: 0,
    oldestUnixNano: undefined,
  }
  const watching = clock.every(10_000, signal, async () => {
    storeStatus = await store.status()
  })
  watching.catch(
    (error: unknown) => signal.aborted || log.error('store not watched', { error: messageOf(error) }),
  )

  const measures = measuresOf({
    ingest,
    journal,
    filter,
    writer,
    ledger,
    accounts,
    mqtt,
    store: () => storeStatus,
  })
  let ready = false
  const api = await startApi(
    {
      queries: store.queries,
      ledger,
      devices,
      changes,
      login: config.mqtt.login,
      live: openLive({
        feed: shared ? journalFeed(shared, device) : ingest,
        filter: openLiveFilter(rules, clock),
        clock,
        rowId: (header, index) => recordId(streamKey(header), header.seq, index),
      }),
      health: {
        parts: () => [
          { name: 'aggregator', ready, detail: ready ? 'all parts are up' : 'starting' },
          {
            name: 'store',
            ready: storeStatus.error === undefined,
            detail: storeStatus.error ?? 'takes writes',
          },
          ...(mqtt?.health() ?? []),
          ...[...peers.values()].map(({ program, ready: up, detail }) => ({
            name: program,
            ready: up,
            detail,
          })),
        ],
      },
      metricsText: () => Promise.resolve(prometheusText(measures)),
      log,
    },
    {
      hosts: config.api.listen?.map(({ host }) => host) ?? ['127.0.0.1', '::1'],
      port: config.api.listen?.[0]?.port ?? port(ports.api),
      allowedHosts: config.api.allowed_hosts,
      signal,
    },
  )
  addresses.unshift({ name: 'console and API', address: api.url })

  if (config.metrics.interval > 0) {
    const { interval, endpoint } = config.metrics
    const resource = {
      'host.id': device,
      'host.name': hostname(),
      'service.name': 'dpulse-aggregator',
      'service.instance.id': ulid(),
    }
    const telling = { measures, intervalMs: interval, resource, log }
    if (endpoint !== undefined) open.defer(await exportMetrics({ ...telling, endpoint }))
    else {
      const take = (bytes: Uint8Array) =>
        ingest.onRequest({ signal: 'metrics', bytes, peer: '127.0.0.1', believed: () => false })
      const feeding = feedMetrics({ ...telling, take, clock, signal })
      feeding.catch(
        (error: unknown) => signal.aborted || log.error('own metrics ended', { error: messageOf(error) }),
      )
    }
  }

  ready = true
  log.info('aggregator is up', { device, data: directory })
  parent.ready(addresses, [])
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  await Promise.all([api.closed, otlp.closed])
}

/** What a configuration of a collector shows without that collector; its plugins are loaded when one is asked about. */
async function checkElsewhere(text: string): Promise<Problem[]> {
  const [{ definitions }, { parseAndCheck }] = await Promise.all([
    import('../collector/main.ts'),
    import('../collector/check.ts'),
  ])
  return (await parseAndCheck(text, 'collector.yaml', definitions, { elsewhere: true })).problems
}

const loopback = (port: number): Address[] => [
  { host: '127.0.0.1', port },
  { host: '::1', port },
]
