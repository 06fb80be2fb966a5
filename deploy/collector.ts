// Entry of the bundled collector: the program for a DPU, without what only servers need (DuckDB, Kafka, the console).
import process from 'node:process'
import { run } from '../commands/program.ts'
import { PermanentError } from '../plugins/contract/errors.ts'

/** Set by the build. */
declare const dpulseVersion: string

const elsewhere = (program: string) => async (): Promise<never> => {
  throw new PermanentError(
    'CONFIG_INVALID',
    `this is the collector alone; ${program} comes with the package dpulse`,
  )
}

process.exitCode = await run(
  {
    version: dpulseVersion,
    up: elsewhere('dpulse up'),
    aggregator: elsewhere('dpulse aggregator'),
    async collector(options) {
      const { main } = await import('../collector/main.ts')
      await main(options)
    },
    async check(file, options) {
      const { check } = await import('../collector/check.ts')
      await check(file, options)
    },
  },
  process.argv.slice(2),
)
