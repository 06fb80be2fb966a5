// Every plugin of the tree, one line each; the name in its definition is the `type` in a configuration.
import type { Definition } from './contract/define.ts'

export const plugins = [] as const satisfies readonly Definition[]
