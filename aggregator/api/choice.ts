// Which devices a request is about: by name, by label, or both.
import type { z } from '@hono/zod-openapi'
import { bareLabel } from '../../plugins/protocols/change.ts'
import type { Devices } from '../query.ts'
import type { DeviceParameters } from './parameters.ts'

/** `device` and `selector` together mean both must hold. Undefined: every device. */
export async function chooseDevices(
  asked: Pick<z.output<typeof DeviceParameters>, 'device' | 'selector'>,
  devices: Devices,
): Promise<readonly string[] | undefined> {
  const { device, selector } = asked
  if (selector === undefined) return device
  const fits = (labels: Record<string, string>) =>
    selector.every(({ key, value }) => {
      const name = bareLabel(key)
      return (labels[name] ?? labels[`dpu.${name}`]) === value
    })
  const chosen = (await devices.list()).filter(({ labels }) => fits(labels)).map(({ device }) => device)
  return device === undefined ? chosen : chosen.filter((name) => device.includes(name))
}
