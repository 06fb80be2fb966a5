// All products that a fleet may be made of; one file each.
import type { Kind } from '../model.ts'
import { bluefield2 } from './bluefield-2.ts'
import { bluefield3 } from './bluefield-3.ts'
import { ipuE2100 } from './ipu-e2100.ts'
import { octeon } from './octeon.ts'
import { pensandoDsc2 } from './pensando-dsc2.ts'

export const kinds: readonly Kind[] = [bluefield3, bluefield2, ipuE2100, pensandoDsc2, octeon]
