// Lets plugins from outside the tree (`plugins: [./acme.js]`) find what they are written against, wherever they lie and
// however this program came here: in a clone that was never built, in a package, in one file.
import { registerHooks } from 'node:module'

/**
 * From now on `dpulse/contract` means the module at `contract`, the one that this program uses itself: with a copy of
 * its own a plugin's errors would be strangers to the runtime. `zod` is ours where the plugin has none.
 */
export function offerContract(contract: string): void {
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === 'dpulse/contract') return { url: contract, shortCircuit: true }
      if (specifier !== 'zod') return next(specifier, context)
      try {
        return next(specifier, context)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
        return next(specifier, { ...context, parentURL: contract })
      }
    },
  })
}
