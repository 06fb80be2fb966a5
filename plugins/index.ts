// Every plugin of the tree, one line each; the name in its definition is the `type` in a configuration.
import type { Definition } from './contract/define.ts'
import system from './sources/system.ts'

export const plugins = [system] as const satisfies readonly Definition[]
