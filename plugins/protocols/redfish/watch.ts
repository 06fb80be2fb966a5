// Watches one BMC: readings at their interval, with rests that grow with what a reading takes; its logs, events and metric
// reports beside. Runs until it is aborted; what fails for longer is the runtime's to start again.
import { RetryableError, messageOf } from '../../contract/errors.ts'
import type { Context, Emit } from '../../contract/define.ts'
import { emitInGroups } from '../lines/batches.ts'
import { onceEach, resourceOf } from '../bmc/resource.ts'
import { selects } from '../proc-selection.ts'
import { changesOf } from './changes.ts'
import { RedfishClient } from './client.ts'
import { Devices } from './devices.ts'
import { encodeEntries } from './entries.ts'
import type { EncodeOptions } from './entries.ts'
import { followEvents } from './events.ts'
import { linkOf } from './json.ts'
import type { Json } from './json.ts'
import { LogReader } from './logs.ts'
import { Memory } from './memory.ts'
import { readReport } from './reports.ts'
import type { RedfishSettings } from './settings.ts'
import { Surveyor, encodeSurvey } from './survey.ts'
import { Walker } from './walk.ts'

/** A reading that fails so often in a row is no accident. */
const mostFailures = 3

export async function watch(
  settings: RedfishSettings,
  context: Context,
  emit: Emit,
  signal: AbortSignal,
): Promise<void> {
  if (settings.endpoint.protocol === 'http:') {
    context.log.warn('nothing protects what is said to this BMC', { endpoint: settings.endpoint.host })
  }
  const memory = await Memory.load(context.checkpoint, context.log)
  // What fails in one part ends the others: they share a session.
  const failed = new AbortController()
  const both = AbortSignal.any([signal, failed.signal])
  const watcher = new Watcher(settings, context, emit, memory, both)
  try {
    await watcher.readOnce()
    await Promise.all(
      [watcher.readings(), watcher.logs(), watcher.events()].map((part) =>
        part.catch((error: unknown) => {
          failed.abort()
          throw error
        }),
      ),
    )
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    failed.abort()
    await watcher.close()
  }
}

class Watcher {
  readonly #settings: RedfishSettings
  readonly #context: Context
  readonly #emit: Emit
  readonly #memory: Memory
  readonly #signal: AbortSignal
  readonly #client: RedfishClient
  readonly #walker: Walker
  readonly #devices: Devices
  readonly #surveyor: Surveyor
  readonly #logs: LogReader
  readonly #wantedLog: (path: string) => boolean
  #walkMs = -Infinity
  #wholeMs = -Infinity
  #tookMs = 0
  #readingLogs: Promise<void> | undefined

  constructor(settings: RedfishSettings, context: Context, emit: Emit, memory: Memory, signal: AbortSignal) {
    const { endpoint, username, password, requests, timeout: timeoutMs, tls, most, sensors } = settings
    const { clock, log } = context
    const tell = onceEach(context, 'part of the service cannot be read')
    this.#settings = settings
    this.#context = context
    this.#emit = emit
    this.#memory = memory
    this.#signal = signal
    this.#client = new RedfishClient({ endpoint, username, password, requests, timeoutMs, tls, clock, log })
    this.#walker = new Walker({ client: this.#client, most, tell })
    this.#devices = new Devices(settings.device, endpoint.hostname, memory.devices)
    this.#surveyor = new Surveyor(this.#walker, this.#devices, selects(sensors))
    this.#wantedLog = selects(settings.logs.services)
    this.#logs = new LogReader({
      client: this.#client,
      memory,
      emit,
      quirks: () => this.#walker.quirks,
      encoding: () => this.#encoding(),
      tell,
    })
  }

  close(): Promise<void> {
    return this.#client.close()
  }

  /** One reading: a walk over everything where one is due. */
  async readOnce(): Promise<void> {
    const { clock } = this.#context
    const beganMs = clock.elapsedMs()
    const isWalk = beganMs >= this.#walkMs
    const survey = await (isWalk ? this.#surveyor.walk(this.#signal) : this.#surveyor.again(this.#signal))
    if (isWalk) {
      this.#walkMs = beganMs + this.#settings.discovery
      this.#context.ready(this.#settings.endpoint.origin)
    }
    this.#tookMs = clock.elapsedMs() - beganMs
    const encoding = this.#encoding()
    const options = {
      devices: this.#devices,
      resourceOf: encoding.resourceOf,
      timeUnixNano: encoding.nowUnixNano,
    }
    const changes = changesOf(survey.components, this.#memory)
    const records = [...encodeEntries(changes.entries, encoding), ...encodeSurvey(survey, options)]
    await emitInGroups(this.#emit, records)
    if (changes.remember()) await this.#memory.save()
  }

  /** Readings at their interval, after the first. */
  async readings(): Promise<void> {
    const { clock, log } = this.#context
    let failures = 0
    for (;;) {
      // A BMC that takes long for a reading rests as long, whatever the interval.
      await this.#rest(Math.max(this.#settings.interval - this.#tookMs, this.#tookMs))
      if (this.#signal.aborted) return
      const beganMs = clock.elapsedMs()
      try {
        await this.readOnce()
        failures = 0
      } catch (error) {
        if (this.#signal.aborted) return
        if (!(error instanceof RetryableError) || ++failures >= mostFailures) throw error
        this.#tookMs = clock.elapsedMs() - beganMs
        log.warn('a reading failed', { code: error.code, reason: messageOf(error) })
      }
    }
  }

  /** Logs and metric reports at their interval. */
  async logs(): Promise<void> {
    while (!this.#signal.aborted) {
      await this.#readLogs()
      if (this.#settings.reports && !this.#signal.aborted) await this.#readReports()
      await this.#rest(this.#settings.logs.interval)
    }
  }

  async events(): Promise<void> {
    await followEvents(
      {
        settings: this.#settings,
        context: this.#context,
        client: this.#client,
        memory: this.#memory,
        emit: this.#emit,
        root: () => this.#walker.root,
        encoding: () => this.#encoding(),
        readLogs: () => this.#readLogs(),
        hasTold: (match) => this.#logs.hasTold(match),
        takeReport: (body) => this.#takeReport(body),
      },
      this.#signal,
    )
  }

  /** One reading of all logs at a time; who comes while one runs gets the one after it. */
  async #readLogs(): Promise<void> {
    while (this.#readingLogs) await this.#readingLogs.catch(() => undefined)
    const nowMs = this.#context.clock.elapsedMs()
    const isWhole = nowMs >= this.#wholeMs
    if (isWhole) this.#wholeMs = nowMs + this.#settings.discovery
    const services = this.#surveyor.logServices.filter(({ path }) => this.#wantedLog(path))
    this.#readingLogs = this.#logs
      .read(services, isWhole, this.#signal)
      .finally(() => (this.#readingLogs = undefined))
    await this.#readingLogs
  }

  async #readReports(): Promise<void> {
    const path = linkOf(this.#walker.root.TelemetryService)
    if (path === undefined) return
    for (const body of await this.#walker.reports(path, this.#signal)) await this.#takeReport(body)
  }

  async #takeReport(body: Json): Promise<void> {
    const path = linkOf(body)
    if (path === undefined || !this.#settings.reports) return
    const { deviceOf, resourceOf, nowUnixNano } = this.#encoding()
    const { sensors } = this.#surveyor
    const report = readReport(body, path, {
      deviceOf,
      resourceOf,
      nowUnixNano,
      memory: this.#memory,
      sensors,
    })
    if (report.records.length === 0) return
    await emitInGroups(this.#emit, report.records)
    report.remember()
    await this.#memory.save()
  }

  #encoding(): EncodeOptions {
    return {
      deviceOf: (path) => this.#devices.of(path),
      resourceOf: (device) => resourceOf(device, this.#settings.endpoint.hostname, this.#context),
      nowUnixNano: this.#context.clock.nowUnixNano(),
    }
  }

  async #rest(ms: number): Promise<void> {
    await this.#context.clock.delay(ms, this.#signal).catch(() => undefined)
  }
}
