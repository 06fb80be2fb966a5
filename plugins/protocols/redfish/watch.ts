// Watches one BMC: readings at their interval, with rests that grow with what a reading takes. Runs until it is aborted;
// what fails for longer is the runtime's to start again.
import { RetryableError, messageOf } from '../../contract/errors.ts'
import type { Records } from '../../contract/batch.ts'
import type { Context, Emit } from '../../contract/define.ts'
import { encodeResource } from '../../contract/values.ts'
import { selects } from '../proc-selection.ts'
import { RedfishClient } from './client.ts'
import { Devices } from './devices.ts'
import type { Device } from './devices.ts'
import type { RedfishSettings } from './settings.ts'
import { Surveyor, encodeSurvey } from './survey.ts'
import { Walker } from './walk.ts'

/** A reading that fails so often in a row is no accident. */
const mostFailures = 3
const mostTold = 200
const mostEmits = 16

export async function watch(
  settings: RedfishSettings,
  context: Context,
  emit: Emit,
  signal: AbortSignal,
): Promise<void> {
  const { endpoint, username, password, requests, timeout, tls, most, sensors } = settings
  const { clock, log } = context
  if (endpoint.protocol === 'http:')
    log.warn('nothing protects what is said to this BMC', { endpoint: endpoint.host })
  const client = new RedfishClient({
    endpoint,
    username,
    password,
    requests,
    timeoutMs: timeout,
    tls,
    clock,
    log,
  })
  const walker = new Walker({ client, most, tell: onceEach(context) })
  const devices = new Devices(settings.device, endpoint.hostname, {})
  const surveyor = new Surveyor(walker, devices, selects(sensors))
  try {
    await readAgainAndAgain(surveyor, devices, settings, context, emit, signal)
  } finally {
    await client.close()
  }
}

async function readAgainAndAgain(
  surveyor: Surveyor,
  devices: Devices,
  settings: RedfishSettings,
  context: Context,
  emit: Emit,
  signal: AbortSignal,
): Promise<void> {
  const { clock, log } = context
  let walkMs = -Infinity
  let failures = 0
  while (!signal.aborted) {
    const beganMs = clock.elapsedMs()
    try {
      const isWalk = beganMs >= walkMs
      const survey = isWalk ? await surveyor.walk(signal) : await surveyor.again(signal)
      if (isWalk) walkMs = beganMs + settings.discovery
      if (isWalk) context.ready(settings.endpoint.origin)
      failures = 0
      const records = encodeSurvey(survey, {
        devices,
        resourceOf: (device) => resourceOf(device, settings, context),
        timeUnixNano: clock.nowUnixNano(),
      })
      await emitAll(records, emit, signal)
    } catch (error) {
      if (signal.aborted) return
      // The first one tells whether there is a BMC at all.
      const isPassing = error instanceof RetryableError && walkMs !== -Infinity && ++failures < mostFailures
      if (!isPassing) throw error
      log.warn('a reading failed', { code: error.code, reason: messageOf(error) })
    }
    const tookMs = clock.elapsedMs() - beganMs
    // A BMC that takes long for a reading rests as long, whatever the interval.
    const restMs = Math.max(settings.interval - tookMs, tookMs)
    await clock.delay(restMs, signal).catch(() => undefined)
  }
}

/** Hands records over, some at once. */
export async function emitAll(records: readonly Records[], emit: Emit, signal: AbortSignal): Promise<void> {
  for (let at = 0; at < records.length && !signal.aborted; at += mostEmits) {
    await Promise.all(records.slice(at, at + mostEmits).map((one) => emit(one)))
  }
}

/** The Resource of a device: its own, where it is not the machine of the collector. */
function resourceOf(device: Device, { endpoint }: RedfishSettings, context: Context): Uint8Array {
  const more = { 'service.name': 'dpulse', 'server.address': endpoint.hostname }
  if (device.id === context.device) return context.resource(more)
  const { instance, labels } = context.status()
  return encodeResource({
    'host.id': device.id,
    'host.name': device.name,
    'host.type': device.isDpu ? 'dpu' : undefined,
    'service.instance.id': instance,
    ...Object.fromEntries(Object.entries(labels).map(([key, value]) => [`dpu.${key}`, value])),
    ...more,
  })
}

/** Warns of each thing once: what is wrong with a BMC is wrong at every reading. */
function onceEach({ log }: Context): (what: string, reason: string) => void {
  const told = new Set<string>()
  return (what, reason) => {
    if (told.has(what) || told.size >= mostTold) return
    told.add(what)
    log.warn('part of the service cannot be read', { what, reason })
  }
}
