// The Resource of a device that is watched from outside, by its BMC.
import type { Context } from '../../contract/define.ts'
import { encodeResource } from '../../contract/values.ts'

export interface WatchedDevice {
  /** `[a-z0-9-]{1,64}` */
  readonly id: string
  readonly name: string | undefined
  /** Whether it is known to be one. */
  readonly isDpu: boolean
}

/** @param address Of its BMC; undefined where that is this machine's own. */
export function resourceOf(device: WatchedDevice, address: string | undefined, context: Context): Uint8Array {
  const more = { 'service.name': 'dpulse', ...(address === undefined ? {} : { 'server.address': address }) }
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

const mostTold = 200

/** Warns of each thing once: what is wrong with a BMC is wrong at every reading. */
export function onceEach({ log }: Context, message: string): (what: string, reason: string) => void {
  const told = new Set<string>()
  return (what, reason) => {
    if (told.has(what) || told.size >= mostTold) return
    told.add(what)
    log.warn(message, { what, reason })
  }
}
