// The command line (`node dpulse.ts up` from a clone): parses, then loads the one program or command that is asked for.
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { run } from './commands/program.ts'

// DuckDB's queries and commits each hold one of libuv's threads; the journal's syncs must not wait for them.
process.env.UV_THREADPOOL_SIZE ??= '8'

// A reader that has seen enough (`dpulse logs | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

// Under an older Node bin.js runs this with the pinned runtime: when it dies, so do we.
if (process.env.DPULSE_SHIM !== undefined && process.channel) {
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
  process.channel.unref()
}

const version = readVersion()

process.exitCode = await run(
  {
    version,
    async up(options) {
      const { up } = await import('./commands/up.ts')
      await up(options, fileURLToPath(import.meta.url), version)
    },
    async collector(options) {
      const { main } = await import('./collector/main.ts')
      await offerContract()
      await main(options, version)
    },
    async aggregator(options) {
      const { main } = await import('./aggregator/main.ts')
      await main(options)
    },
    async simulate(options) {
      const { main } = await import('./simulator/main.ts')
      await main(options, version)
    },
    checkers: {
      collector: async () => (await import('./collector/check.ts')).checker,
      aggregator: async () => (await import('./aggregator/config.ts')).checker,
    },
  },
  process.argv.slice(2),
)

async function offerContract(): Promise<void> {
  const { offerContract } = await import('./collector/outside.ts')
  offerContract(new URL('./plugins/contract/index.ts', import.meta.url).href)
}

// Beside us in a clone, one folder up in the built package.
function readVersion(): string {
  for (const path of ['./package.json', '../package.json']) {
    try {
      const { version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as {
        version?: string
      }
      if (version !== undefined) return version
    } catch {
      // Not there: try the next.
    }
  }
  return 'unknown'
}
