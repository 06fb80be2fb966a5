// `dpulse up` whose children are test/support/child-program.ts.
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { run } from '../../commands/program.ts'

const never = () => Promise.reject(new Error('not asked for here'))
process.exitCode = await run(
  {
    version: '9.9.9',
    async up(options) {
      const { up } = await import('../../commands/up.ts')
      await up(options, fileURLToPath(new URL('child-program.ts', import.meta.url)), '9.9.9')
    },
    collector: never,
    aggregator: never,
    simulate: never,
    checkers: { collector: never, aggregator: never },
  },
  process.argv.slice(2),
)
