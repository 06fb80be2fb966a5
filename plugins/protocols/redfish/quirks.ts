// What single makers' services do differently, as data: whoever finds another oddity adds a row, not a condition.
import { inside, textOf } from './json.ts'
import type { Json } from './json.ts'

export interface Quirks {
  /** Members that come back complete under `$expand`. */
  readonly expand: boolean
  /** Items of the firmware inventory whose `Version` is none. */
  readonly notFirmware: RegExp | undefined
  /** Where a log service tells its newest entry, so that an unchanged log need not be read. */
  readonly newestEntry: readonly string[] | undefined
  /** Where a system tells how far the DPU has booted, beside BootProgress.LastState. */
  readonly bootState: readonly string[] | undefined
}

interface Row {
  readonly vendor: RegExp
  readonly product?: RegExp
  readonly why: string
  readonly does: Partial<Quirks>
}

const rows: readonly Row[] = [
  {
    vendor: /^ami\b|megarac/i,
    why: 'leaves out required members of what it expands',
    does: { expand: false },
  },
  {
    vendor: /^nvidia/i,
    why: 'lists GUIDs and a board id beside firmware; its logs tell their newest entry',
    does: {
      notFirmware: /^DPU_(BOARD|NODE|SYS_IMAGE)$/,
      newestEntry: ['Oem', 'Nvidia', 'LatestEntryID'],
      bootState: ['BootProgress', 'OemLastState'],
    },
  },
]

const none: Quirks = { expand: true, notFirmware: undefined, newestEntry: undefined, bootState: undefined }

/** Of the service whose root this is. */
export function quirksOf(root: Json): Quirks {
  const vendor = textOf(root.Vendor) ?? ''
  const product = textOf(root.Product) ?? ''
  return rows
    .filter((row) => row.vendor.test(vendor) && (row.product?.test(product) ?? true))
    .reduce((all, row) => ({ ...all, ...row.does }), none)
}

/** The query that expands one level of a collection; undefined where the service offers none (DSP0266 §7.3.1). */
export function expandQuery(root: Json): string | undefined {
  const { ExpandAll, NoLinks, Levels } = inside(root, 'ProtocolFeaturesSupported', 'ExpandQuery')
  if (NoLinks !== true && ExpandAll !== true) return undefined
  return `$expand=${NoLinks === true ? '.' : '*'}${Levels === true ? '($levels=1)' : ''}`
}
