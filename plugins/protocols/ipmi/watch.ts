// Watches one BMC over IPMI: sensors, chassis and units at their interval, and its event log from where the last reading
// ended. All questions go through one helper, one after the other.
import * as z from 'zod'
import { PermanentError, RetryableError, messageOf } from '../../contract/errors.ts'
import type { Context, Emit } from '../../contract/define.ts'
import { emitInGroups } from '../lines/batches.ts'
import { loadCursor } from '../cursors.ts'
import { onceEach, resourceOf } from '../bmc/resource.ts'
import { deviceFromHostId } from '../otlp/device.ts'
import { selects } from '../proc-selection.ts'
import { conditionsOf } from './discrete.ts'
import { deviceOf, frusOf } from './fru.ts'
import type { Fru } from './fru.ts'
import { encodeEvents, encodeStatus } from './records.ts'
import type { About } from './records.ts'
import { readingsOf } from './sdr.ts'
import { meaningOf, recordsAfter, selState } from './sel.ts'
import type { SelMeaning, SelRecord } from './sel.ts'
import type { IpmiSettings } from './settings.ts'
import { Ipmitool } from './tool.ts'

/** What must outlive a kill: how far the event log is safe, and whom the BMC belongs to. */
const cursorShape = z.object({
  device: z.string().max(64).optional(),
  /** The record that was read last. */
  last: z.object({ id: z.int().min(0).max(0xffff), raw: z.string().regex(/^[0-9a-f]{32}$/) }).optional(),
  /** How the log was when all of it was safe. */
  state: z.string().max(256).optional(),
  /** Keys of records that are safe, for a log that must be read from its beginning. */
  seen: z.array(z.string().max(16)).max(65_536).default([]),
})
type Cursor = z.output<typeof cursorShape>

/** Acknowledged together, so that a kill repeats no more. */
const chunk = 32
const mostSeen = 20_000
/** Units change when somebody opens the machine. */
const readingsPerFru = 120
const mostFailures = 3

export async function watch(
  settings: IpmiSettings,
  context: Context,
  emit: Emit,
  signal: AbortSignal,
): Promise<void> {
  const tool = new Ipmitool({
    program: settings.program,
    host: settings.host,
    port: settings.port,
    interface: settings.host === undefined ? 'open' : settings.interface,
    username: settings.username,
    password: settings.password,
    privilege: settings.privilege,
    cipherSuite: settings.interface === 'lanplus' ? settings.cipher_suite : undefined,
    timeoutMs: settings.timeout,
  })
  try {
    await new Watcher(settings, context, emit, signal, tool).run()
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    await tool.close()
  }
}

class Watcher {
  readonly #settings: IpmiSettings
  readonly #context: Context
  readonly #emit: Emit
  readonly #signal: AbortSignal
  readonly #tool: Ipmitool
  readonly #wanted: (id: string) => boolean
  readonly #tell: (what: string, reason: string) => void
  #cursor: Cursor = { seen: [] }
  #frus: readonly Fru[] = []
  #sinceFru = readingsPerFru
  #device = ''

  constructor(settings: IpmiSettings, context: Context, emit: Emit, signal: AbortSignal, tool: Ipmitool) {
    this.#settings = settings
    this.#context = context
    this.#emit = emit
    this.#signal = signal
    this.#tool = tool
    this.#wanted = selects(settings.sensors)
    this.#tell = onceEach(context, 'part of the BMC cannot be read')
  }

  async run(): Promise<void> {
    const { clock, log } = this.#context
    this.#cursor = (await loadCursor(this.#context, cursorShape)) ?? { seen: [] }
    let failures = 0
    let logMs = -Infinity
    let isFirst = true
    while (!this.#signal.aborted) {
      const beganMs = clock.elapsedMs()
      try {
        await this.#readStatus()
        if (isFirst) this.#context.ready(this.#settings.host ?? '/dev/ipmi0')
        isFirst = false
        if (clock.elapsedMs() >= logMs) {
          logMs = clock.elapsedMs() + this.#settings.log_interval
          await this.#readLog()
        }
        failures = 0
      } catch (error) {
        if (this.#signal.aborted) return
        if (!(error instanceof RetryableError) || isFirst || ++failures >= mostFailures) throw error
        log.warn('a reading failed', { code: error.code, reason: messageOf(error) })
      }
      const tookMs = clock.elapsedMs() - beganMs
      // A BMC that takes long for a reading rests as long.
      await clock
        .delay(Math.max(this.#settings.interval - tookMs, tookMs), this.#signal)
        .catch(() => undefined)
    }
  }

  async #readStatus(): Promise<void> {
    if (++this.#sinceFru > readingsPerFru) {
      this.#frus = frusOf(await this.#tool.ask('fru print', this.#signal))
      this.#device = await this.#whose()
      this.#sinceFru = 0
    }
    const lines = await this.#tool.ask('sdr elist full', this.#signal)
    if (lines.length === 0) this.#tell('sensors', this.#tool.complaints.slice(-200) || 'there are none')
    // Those that only say what is the case stand in full records on some BMCs, in compact ones on most.
    const all = [...lines, ...(await this.#tool.ask('sdr elist compact', this.#signal))]
    const found = readingsOf(lines).filter(({ id }) => this.#wanted(id))
    const conditions = conditionsOf(all).filter(({ id }) => this.#wanted(id))
    const { most } = this.#settings
    const count = found.length + conditions.length
    if (count > most) this.#tell('sensors', `${count} found, ${most} are read`)
    const power = await this.#tool.ask('chassis power status', this.#signal)
    const isOn = /Chassis Power is (on|off)/.exec(power.join('\n'))?.[1]
    const status = {
      readings: found.slice(0, most),
      conditions: conditions.slice(0, Math.max(0, most - found.length)),
      frus: this.#frus,
      isOn: isOn === undefined ? undefined : isOn === 'on',
    }
    await emitInGroups(this.#emit, encodeStatus(status, this.#about()))
  }

  /** The device that the BMC belongs to; what was known once stays known while it does not say. */
  async #whose(): Promise<string> {
    const { device, host } = this.#settings
    if (device !== undefined) return device
    if (host === undefined) return this.#context.device
    const guid = (await this.#tool.ask('mc guid', this.#signal)).join('\n')
    const uuid = /System GUID\s*: ([0-9a-f-]{36})/i.exec(guid)?.[1]
    const found = deviceOf(this.#frus, uuid) ?? this.#cursor.device ?? deviceFromHostId(host)
    this.#cursor.device = found
    return found
  }

  /** New records of the event log: emitted, then remembered, some at a time. */
  async #readLog(): Promise<void> {
    const state = await selState(this.#tool, this.#signal)
    if (state === '' || state === this.#cursor.state) return
    const known = new Set(this.#cursor.seen)
    let waiting: { record: SelRecord; meaning: SelMeaning }[] = []
    for await (const record of recordsAfter(this.#tool, this.#cursor.last, this.#signal)) {
      if (known.has(record.key)) {
        this.#cursor.last = { id: record.id, raw: record.raw }
        continue
      }
      waiting.push({ record, meaning: await meaningOf(this.#tool, record.id, this.#signal) })
      if (waiting.length < chunk) continue
      await this.#tellEvents(waiting)
      waiting = []
    }
    await this.#tellEvents(waiting)
    this.#cursor.state = state
    await this.#context.checkpoint.save(this.#cursor)
  }

  async #tellEvents(events: readonly { record: SelRecord; meaning: SelMeaning }[]): Promise<void> {
    const last = events.at(-1)?.record
    if (!last) return
    await emitInGroups(this.#emit, encodeEvents(events, this.#about()))
    const keys = events.map(({ record }) => record.key)
    this.#cursor.seen = [...this.#cursor.seen, ...keys].slice(-mostSeen)
    this.#cursor.last = { id: last.id, raw: last.raw }
    await this.#context.checkpoint.save(this.#cursor)
  }

  #about(): About {
    const device = { id: this.#device, name: undefined, isDpu: false }
    return {
      device: this.#device,
      resource: resourceOf(device, this.#settings.host, this.#context),
      nowUnixNano: this.#context.clock.nowUnixNano(),
    }
  }
}

/** Whether this machine has a BMC of its own that may be opened. */
export async function findLocal(open: (path: string) => Promise<unknown>): Promise<string | undefined> {
  for (const path of ['/dev/ipmi0', '/dev/ipmi/0', '/dev/ipmidev/0']) {
    try {
      await open(path)
      return path
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EACCES' || code === 'EPERM') {
        throw new PermanentError('PERMISSION_DENIED', `${path} is there, but this user may not open it`)
      }
    }
  }
  return undefined
}
