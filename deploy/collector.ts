// Entry of the bundled collector: the program for a DPU, without what only servers need (DuckDB, Kafka, the console).
// The same file is what plugins from outside get as `dpulse/contract`.
import process from 'node:process'
import { run } from '../commands/program.ts'
import { offerContract } from '../collector/outside.ts'
import { PermanentError } from '../plugins/contract/errors.ts'

export * from '../plugins/contract/index.ts'

/** Set by the build. */
declare const dpulseVersion: string

const elsewhere = (program: string) => async (): Promise<never> => {
  throw new PermanentError(
    'CONFIG_INVALID',
    `this is the collector alone; ${program} comes with the package dpulse`,
  )
}

// A reader that has seen enough (`collector.js logs | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

// Not awaited here: a plugin that imports this file would wait for its end.
void run(
  {
    version: dpulseVersion,
    up: elsewhere('dpulse up'),
    aggregator: elsewhere('dpulse aggregator'),
    simulate: elsewhere('dpulse simulate'),
    async collector(options) {
      const { main } = await import('../collector/main.ts')
      offerContract(import.meta.url)
      await main(options, dpulseVersion)
    },
    checkers: {
      async collector() {
        const { checker } = await import('../collector/check.ts')
        offerContract(import.meta.url)
        return checker
      },
      aggregator: elsewhere('the configuration of an aggregator'),
    },
  },
  process.argv.slice(2),
).then((code) => (process.exitCode = code))
