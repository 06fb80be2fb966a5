// What a BMC says that has lost its mind. The same in the same place each time, but not everywhere: clients have to tell what
// they may believe.
import { createHash } from 'node:crypto'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { Device, SensorKind } from '../model.ts'
import { readSensor } from '../physics/index.ts'

/** Beyond what any sensor of the kind can mean, or at the ends of what its chip can say. */
const absurd: Readonly<Record<SensorKind['kind'], readonly [number, number]>> = {
  temperature: [-128, 255],
  voltage: [0, 65.535],
  power: [0, 65_535],
  current: [0, 65.535],
  fan: [0, 65_535],
}

/** In place of a reading: now and then the truth, null where it says none. */
export function wrongReading(device: Device, sensor: SensorKind): number | null | undefined {
  const [low, high] = absurd[sensor.kind]
  return [0, low, high, null, readSensor(device, sensor)][dice(device, sensor.id, 5)]
}

/** In place of a resource: collections without members, errors in a success, as services have given them. */
export function wrongBody(device: Device, body: Json): Json {
  if (!Array.isArray(body.Members)) return body
  switch (dice(device, String(body['@odata.id']), 8)) {
    case 0:
      return { ...body, Members: null }
    case 1:
      return { error: { code: 'Base.1.15.0.InternalError', message: 'An internal error occurred.' } }
    case 2:
      return { ...body, 'Members@odata.count': 65_535 }
    default:
      return body
  }
}

function dice(device: Device, about: string, sides: number): number {
  const [byte = 0] = createHash('sha1').update(`${device.id} ${about}`).digest()
  return byte % sides
}
