// Who this machine is: ranked facts of the hardware, placeholders left out, the choice kept in the data directory so
// that a right gained or lost, a reboot or another order of interfaces never makes two devices of one.
//
// Rank: serial and UUID of the system, serials of device tree and board, lowest permanent MAC of a physical port (the
// order of interfaces changes, the least address does not), chassis (blades share it), machine id (images get cloned).
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, readdir, rename, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import { join } from 'node:path'
import * as z from 'zod'
import { isDeviceId } from '../plugins/contract/index.ts'
import { realMac, realSerial, realUuid } from '../plugins/protocols/hardware-ids.ts'
import { deviceFromHostId } from '../plugins/protocols/otlp/device.ts'

export { realMac, realSerial, realUuid }

export const identityKinds = [
  'dmi product_serial',
  'dmi product_uuid',
  'device-tree serial-number',
  'dmi board_serial',
  'mac',
  'dmi chassis_serial',
  'machine-id',
] as const
export type IdentityKind = (typeof identityKinds)[number]

/** A fact that could name the machine; of kind `mac` there is one for each physical port, the least first. */
export interface IdentityCandidate {
  kind: IdentityKind
  value: string
}

export interface Identity {
  /** `[a-z0-9-]{1,64}` */
  device: string
  /** What the device's name was made of, when it was chosen: a kind of candidate, or `random`. */
  source: IdentityKind | 'random'
  /** What can be read now, in order of rank. */
  candidates: IdentityCandidate[]
  hostname: string
  /** As OTel's `host.arch` spells it. */
  arch: string
}

/** Where the choice is kept: one small text in the data directory. */
export interface IdentityMemory {
  load(): Promise<string | undefined>
  save(text: string): Promise<void>
}

/** The choice in a file of the data directory, which the programs of one machine share. */
export const identityFile = (data: string): IdentityMemory => ({
  load: () => readFile(join(data, 'identity.json'), 'utf8').catch(() => undefined),
  async save(text) {
    await mkdir(data, { recursive: true, mode: 0o700 })
    // Two programs may start together: each writes a whole file, and both write the same.
    const draft = join(data, `identity-${process.pid}.tmp`)
    await writeFile(draft, text, { mode: 0o600 })
    await rename(draft, join(data, 'identity.json'))
  },
})

export interface IdentityRoots {
  proc: string
  sys: string
  etc: string
}

const remembered = z.object({
  device: z.string().refine(isDeviceId),
  source: z.enum([...identityKinds, 'random']),
  candidates: z.array(z.object({ kind: z.enum(identityKinds), value: z.string().max(256) })).max(64),
})
type Remembered = z.output<typeof remembered>

/**
 * Finds out who this machine is. What was chosen before stays chosen as long as nothing contradicts it; a data
 * directory that was copied to another machine is recognised, and the machine gets a name of its own.
 */
export async function resolveIdentity(
  memory: IdentityMemory,
  roots: IdentityRoots = { proc: '/proc', sys: '/sys', etc: '/etc' },
): Promise<Identity> {
  const candidates = await findCandidates(roots)
  const before = parseRemembered(await memory.load())
  const kept = before && isSameMachine(before.candidates, candidates) ? before : undefined
  const { device, source } = kept ?? choose(candidates)
  const known = mergeCandidates(kept?.candidates ?? [], candidates)
  const text = JSON.stringify({ device, source, candidates: known } satisfies Remembered)
  if (!before || JSON.stringify(before) !== text) await memory.save(text)
  const hostname = (await readText(join(roots.proc, 'sys/kernel/hostname'))) ?? os.hostname()
  return { device, source, candidates, hostname, arch: archNames[process.arch] ?? process.arch }
}

const archNames: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: 'x86',
  arm: 'arm32',
  ppc64: 'ppc64',
}

function parseRemembered(text: string | undefined): Remembered | undefined {
  if (text === undefined) return undefined
  try {
    return remembered.parse(JSON.parse(text))
  } catch {
    return undefined // torn or of another version: facts choose anew
  }
}

/** The most telling kind that both know decides; where they share none, nothing speaks against it. */
function isSameMachine(before: readonly IdentityCandidate[], now: readonly IdentityCandidate[]): boolean {
  for (const kind of identityKinds) {
    const known = before.filter((one) => one.kind === kind).map(({ value }) => value)
    const found = now.filter((one) => one.kind === kind).map(({ value }) => value)
    if (known.length > 0 && found.length > 0) return found.some((value) => known.includes(value))
  }
  return true
}

/** What is known of each kind: what was read now, else (a right was lost, a port is gone) what was read before. */
function mergeCandidates(
  before: readonly IdentityCandidate[],
  now: readonly IdentityCandidate[],
): IdentityCandidate[] {
  return identityKinds.flatMap((kind) => {
    const found = now.filter((one) => one.kind === kind)
    return found.length > 0 ? found : before.filter((one) => one.kind === kind)
  })
}

function choose([best]: readonly IdentityCandidate[]): Pick<Identity, 'device' | 'source'> {
  if (!best) return { device: `random-${randomBytes(8).toString('hex')}`, source: 'random' }
  return { device: nameOf(best), source: best.kind }
}

function nameOf({ kind, value }: IdentityCandidate): string {
  if (kind === 'mac') return `mac-${value.replaceAll(':', '')}`
  // A machine id is meant to stay on its machine (machine-id(5)): only a hash of it, under our name, leaves.
  if (kind === 'machine-id') return `machine-${hash(`dpulse ${value}`)}`
  return deviceFromHostId(value) // as the host.id of other senders, so that both speak of one device
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

async function findCandidates({ proc, sys, etc }: IdentityRoots): Promise<IdentityCandidate[]> {
  const dmi = (file: string) => readText(join(sys, 'class/dmi/id', file))
  const serial = async (text: Promise<string | undefined>) => realSerial(await text)
  const found: Record<IdentityKind, readonly (string | undefined)[]> = {
    'dmi product_serial': [await serial(dmi('product_serial'))],
    'dmi product_uuid': [realUuid(await dmi('product_uuid'))],
    'device-tree serial-number': [
      (await serial(readText(join(proc, 'device-tree/serial-number')))) ??
        (await serial(readText(join(sys, 'firmware/devicetree/base/serial-number')))),
    ],
    'dmi board_serial': [await serial(dmi('board_serial'))],
    mac: await permanentAddresses(join(sys, 'class/net')),
    'dmi chassis_serial': [await serial(dmi('chassis_serial'))],
    'machine-id': [realMachineId(await readText(join(etc, 'machine-id')))],
  }
  return identityKinds.flatMap((kind) =>
    found[kind].flatMap((value) => (value === undefined ? [] : [{ kind, value }])),
  )
}

/** Undefined where the file is absent, empty, or (product_serial and its like) for root only. */
async function readText(path: string): Promise<string | undefined> {
  try {
    // Texts of the device tree end with NUL; SMBIOS pads with blanks.
    const text = (await readFile(path, 'utf8')).replaceAll('\0', ' ').trim()
    return text === '' || text.length > 256 ? undefined : text
  } catch {
    return undefined
  }
}

const realMachineId = (text: string | undefined): string | undefined =>
  text !== undefined && /^[0-9a-f]{32}$/.test(text) && !/^(.)\1*$/.test(text) ? text : undefined

/** Permanent addresses of physical ports, the least first. */
async function permanentAddresses(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  const found = await Promise.all(names.slice(0, 4096).map((name) => permanentAddress(join(folder, name))))
  return [...new Set(found.filter((address) => address !== undefined))].toSorted().slice(0, 16)
}

async function permanentAddress(port: string): Promise<string | undefined> {
  const isThere = (file: string) =>
    stat(join(port, file)).then(
      () => true,
      () => false,
    )
  const read = (file: string) => readText(join(port, file))
  if ((await read('type')) !== '1' || !(await isThere('device'))) return undefined // no Ethernet, or virtual
  if (await isThere('device/physfn')) return undefined // a virtual function
  // Representors of functions (pf0, pf0vf1, c1pf0sf3) share their port's device; the port itself is p0.
  if (/^(c\d+)?pf\d/.test((await read('phys_port_name')) ?? '')) return undefined
  // A member of a bond shows the bond's address. Elsewhere 0 says that the address is the hardware's own.
  const member = await read('bonding_slave/perm_hwaddr')
  if (member === undefined && (await read('addr_assign_type')) !== '0') return undefined
  return realMac(member ?? (await read('address')))
}
