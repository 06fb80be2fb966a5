// All products that a fleet may be made of; one file each.
import type { Kind } from '../model.ts'
import { bluefield3 } from './bluefield-3.ts'

export const kinds: readonly Kind[] = [bluefield3]
