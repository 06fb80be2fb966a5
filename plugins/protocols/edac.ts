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
export function readEdac(sys: string): MemoryErrors[] {
  const root = join(sys, 'devices/system/edac/mc')
  const controllers = listFolder(root).filter((name) => /^mc\d+$/.test(name))
  return controllers
    .slice(0, mostControllers)
    .flatMap((controller) => errorsOf(join(root, controller), controller))
    .filter(({ corrected, uncorrected }) => corrected !== undefined || uncorrected !== undefined)
}

function errorsOf(folder: string, controller: string): MemoryErrors[] {
  const names = listFolder(folder)
  const dimms = names.filter((name) => /^(dimm|rank)\d+$/.test(name))
  const modules =
    dimms.length > 0
      ? dimms.map((name) => moduleIn(folder, controller, name))
      : names.filter((name) => /^csrow\d+$/.test(name)).flatMap((name) => rowIn(folder, controller, name))
  const hasParts = modules.some(({ corrected }) => corrected !== undefined)
  const which = hasParts ? 'noinfo_count' : 'count'
  const own: MemoryErrors = {
    id: controller,
    name: readText(join(folder, 'mc_name')) ?? controller,
    parent: undefined,
    corrected: readWhole(join(folder, `ce_${which}`)),
    uncorrected: readWhole(join(folder, `ue_${which}`)),
  }
  return [own, ...modules]
}

const moduleIn = (controller: string, parent: string, module: string): MemoryErrors => ({
  id: `${parent}/${module}`,
  name: readText(join(controller, module, 'dimm_label')) ?? module,
  parent,
  corrected: readWhole(join(controller, module, 'dimm_ce_count')),
  uncorrected: readWhole(join(controller, module, 'dimm_ue_count')),
})

/** Corrected errors are told by channel; uncorrected ones only of the row, where the driver has no more. */
function rowIn(controller: string, parent: string, row: string): MemoryErrors[] {
  const folder = join(controller, row)
  const channels = listFolder(folder).flatMap((file) => /^(ch\d+)_ce_count$/.exec(file)?.[1] ?? [])
  const parts = channels.map((channel): MemoryErrors => ({
    id: `${parent}/${row}/${channel}`,
    name: readText(join(folder, `${channel}_dimm_label`)) ?? `${row} ${channel}`,
    parent,
    corrected: readWhole(join(folder, `${channel}_ce_count`)),
    uncorrected: readWhole(join(folder, `${channel}_ue_count`)),
  }))
  if (parts.some(({ uncorrected }) => uncorrected !== undefined)) return parts
  const uncorrected = readWhole(join(folder, 'ue_count'))
  return [...parts, { id: `${parent}/${row}`, name: row, parent, corrected: undefined, uncorrected }]
}
