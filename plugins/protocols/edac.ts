// Memory errors as the kernel's EDAC drivers count them (Documentation/admin-guide/RAS, "EDAC sysfs").
//
//   <sys>/devices/system/edac/mc/mcN/{mc_name, ce_count, ue_count, ce_noinfo_count, ue_noinfo_count}
//     dimmN | rankN /{dimm_label, dimm_location, dimm_ce_count, dimm_ue_count, size}
//     csrowN/{chM_dimm_label, chM_ce_count, ue_count}                 kernels and drivers of before
import { join } from 'node:path'
import { listFolder, readText, readWhole } from './sysfs.ts'

export interface MemoryErrors {
  /** `mc0`, `mc0/dimm3`: the same after a restart. */
  id: string
  /** The label that the board gives, where it is known. */
  name: string
  parent: string | undefined
  corrected: bigint | undefined
  uncorrected: bigint | undefined
}

const mostControllers = 64

/** Of each module, and of each controller what it could lay on no module: their sum is the whole. */
export async function readEdac(sys: string): Promise<MemoryErrors[]> {
  const root = join(sys, 'devices/system/edac/mc')
  const controllers = (await listFolder(root))
    .filter((name) => /^mc\d+$/.test(name))
    .slice(0, mostControllers)
  const found = await Promise.all(
    controllers.map(async (controller) => {
      const folder = join(root, controller)
      const names = await listFolder(folder)
      const dimms = names.filter((name) => /^(dimm|rank)\d+$/.test(name))
      const rows = names.filter((name) => /^csrow\d+$/.test(name))
      const modules =
        dimms.length > 0
          ? await Promise.all(dimms.map((name) => moduleIn(folder, controller, name)))
          : (await Promise.all(rows.map((name) => rowIn(folder, controller, name)))).flat()
      const hasParts = modules.some(({ corrected }) => corrected !== undefined)
      const which = hasParts ? 'noinfo_count' : 'count'
      return [await controllerIn(folder, controller, which), ...modules]
    }),
  )
  return found.flat().filter((one) => one.corrected !== undefined || one.uncorrected !== undefined)
}

async function controllerIn(folder: string, id: string, which: string): Promise<MemoryErrors> {
  const [name, corrected, uncorrected] = await Promise.all([
    readText(join(folder, 'mc_name')),
    readWhole(join(folder, `ce_${which}`)),
    readWhole(join(folder, `ue_${which}`)),
  ])
  return { id, name: name ?? id, parent: undefined, corrected, uncorrected }
}

async function moduleIn(controller: string, parent: string, module: string): Promise<MemoryErrors> {
  const folder = join(controller, module)
  const [label, corrected, uncorrected] = await Promise.all([
    readText(join(folder, 'dimm_label')),
    readWhole(join(folder, 'dimm_ce_count')),
    readWhole(join(folder, 'dimm_ue_count')),
  ])
  return { id: `${parent}/${module}`, name: label ?? module, parent, corrected, uncorrected }
}

/** Corrected errors are told by channel; uncorrected ones only of the row, where the driver has no more. */
async function rowIn(controller: string, parent: string, row: string): Promise<MemoryErrors[]> {
  const folder = join(controller, row)
  const channels = (await listFolder(folder)).flatMap((file) => /^(ch\d+)_ce_count$/.exec(file)?.[1] ?? [])
  const parts = await Promise.all(
    channels.map(async (channel): Promise<MemoryErrors> => {
      const [label, corrected, uncorrected] = await Promise.all([
        readText(join(folder, `${channel}_dimm_label`)),
        readWhole(join(folder, `${channel}_ce_count`)),
        readWhole(join(folder, `${channel}_ue_count`)),
      ])
      const id = `${parent}/${row}/${channel}`
      return { id, name: label ?? `${row} ${channel}`, parent, corrected, uncorrected }
    }),
  )
  if (parts.some(({ uncorrected }) => uncorrected !== undefined)) return parts
  const uncorrected = await readWhole(join(folder, 'ue_count'))
  return [...parts, { id: `${parent}/${row}`, name: row, parent, corrected: undefined, uncorrected }]
}
