// Replaceable units as ipmitool prints them (`fru print`), and whom they name.
import { realSerial, realUuid } from '../hardware-ids.ts'
import { deviceFromHostId } from '../otlp/device.ts'

export interface Fru {
  readonly id: string
  readonly name: string
  readonly fields: Readonly<Record<string, string>>
}

const mostFrus = 256

/** Units that tell something; those that are absent tell nothing. */
export function frusOf(lines: readonly string[]): Fru[] {
  const found: { id: string; name: string; fields: Record<string, string> }[] = []
  for (const line of lines) {
    const [, key, value = ''] = /^\s*([A-Za-z][A-Za-z0-9 ]*?)\s*: (.*)$/.exec(line) ?? []
    if (key === undefined) continue
    if (key === 'FRU Device Description') {
      const [, name = value, id = String(found.length)] = /^(.*) \(ID (\d+)\)/.exec(value) ?? []
      if (found.length < mostFrus) found.push({ id: `fru/${id}`, name: name.trim(), fields: {} })
    } else if (value.trim() !== '') {
      const at = found.at(-1)
      if (at) at.fields[key] = value.trim().slice(0, 256)
    }
  }
  return found.filter(({ fields }) => Object.keys(fields).length > 0)
}

/** What `dpu.fru.info` tells of a unit. */
export function fruAttributes({ id, name, fields }: Fru): Record<string, string> {
  const first = (...keys: readonly string[]) =>
    keys.map((key) => fields[key]).find((one) => one !== undefined)
  const told = {
    'hw.vendor': first('Product Manufacturer', 'Board Mfg'),
    'hw.model': first('Product Name', 'Board Product'),
    'hw.serial_number': realSerial(first('Product Serial', 'Board Serial', 'Chassis Serial')),
    'dpu.part_number': first('Product Part Number', 'Board Part Number', 'Chassis Part Number'),
    'dpu.version': first('Product Version'),
  }
  const known = Object.entries(told).filter((one): one is [string, string] => one[1] !== undefined)
  return { 'hw.id': id, 'hw.name': name, ...Object.fromEntries(known) }
}

/** The device that the first units name; in the ranks in which a machine names itself. */
export function deviceOf(frus: readonly Fru[], guid: string | undefined): string | undefined {
  for (const key of ['Product Serial', 'Board Serial', 'Chassis Serial']) {
    for (const { fields } of frus.slice(0, 2)) {
      const serial = realSerial(fields[key])
      if (serial !== undefined) return deviceFromHostId(serial)
    }
  }
  const uuid = realUuid(guid)
  return uuid === undefined ? undefined : deviceFromHostId(uuid)
}
