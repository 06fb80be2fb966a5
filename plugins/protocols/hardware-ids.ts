// What may name a piece of hardware: serial numbers, UUIDs and addresses, without what makers write where nobody filled
// them in. Whoever says of a device who it is asks here: the collector of its machine, a source of a BMC.

/** What makers write where nobody filled in a serial number; compared without blanks, dots, dashes and case. */
const placeholders = new Set(
  [
    'asset tag',
    'base board serial number',
    'board serial number',
    'chassis serial number',
    'default',
    'default string',
    'empty',
    'invalid',
    'na',
    'no asset tag',
    'no enclosure',
    'none',
    'not applicable',
    'not available',
    'not present',
    'not provided',
    'not set',
    'not settable',
    'not specified',
    'null',
    'o e m',
    'oem',
    'serial',
    'serial number',
    'sernum',
    'ssn',
    'system serial number',
    'tbd',
    'test',
    'to be filled by oem',
    'to be filled by o e m',
    'undefined',
    'unknown',
    'unspecified',
    'unspecified base board serial number',
    'unspecified chassis serial number',
    'unspecified system serial number',
  ].map((text) => text.replaceAll(' ', '')),
)

const digits = '01234567890123456789'
const bareOf = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, '')

/** A name, version or model, or undefined where it is a placeholder. */
export function realText(text: string | undefined): string | undefined {
  const bare = bareOf(text ?? '')
  if (bare.length >= 8 && digits.includes(bare)) return undefined
  return bare === '' || placeholders.has(bare) ? undefined : text
}

/** The serial number, or undefined where it is a placeholder. */
export function realSerial(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const bare = bareOf(text)
  if (bare.length < 4 || placeholders.has(bare)) return undefined
  if (/^(.)\1*$/.test(bare)) return undefined // 00000000, xxxxxxx
  if (digits.includes(bare) || 'abcdefghijklmnopqrstuvwxyz'.includes(bare)) return undefined
  return text
}

/** UUIDs that many boards share: from firmware that was never given one. */
const sharedUuids = new Set([
  '03000200-0400-0500-0006-000700080009',
  '00020003-0004-0005-0006-000700080009',
  '12345678-1234-5678-90ab-cddeefaabbcc',
  '01234567-8910-1112-1314-151617181920',
  'fefefefe-fefe-fefe-fefe-fefefefefefe',
])

/** The UUID in lower case, or undefined where it is none of its own. */
export function realUuid(text: string | undefined): string | undefined {
  const uuid = text?.toLowerCase() ?? ''
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid) || sharedUuids.has(uuid)) return undefined
  return /^(.)\1*$/.test(uuid.replaceAll('-', '')) ? undefined : uuid
}

/** The address in lower case, or undefined where others may have the same one. */
export function realMac(text: string | undefined): string | undefined {
  const mac = text?.toLowerCase() ?? ''
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) || /^(00:){5}00$/.test(mac)) return undefined
  const first = parseInt(mac.slice(0, 2), 16)
  if ((first & 3) !== 0) return undefined // multicast, or locally administered
  // Both ends of the rshim link (tmfifo_net0) have this on every BlueField.
  return mac.startsWith('00:1a:ca:ff:ff:') ? undefined : mac
}
