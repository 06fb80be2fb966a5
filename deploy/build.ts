// `npm run build`: the publishable package. `dist/` gets the tree as plain JavaScript with its types, the console's
// files, and `collector.js`: the collector in one file, with all that it needs but koffi's native library.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { extname, join, resolve } from 'node:path'
import process from 'node:process'
import { build } from 'esbuild'
import type { BuildOptions } from 'esbuild'

const root = resolve(import.meta.dirname, '..')
const out = join(root, 'dist')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

/** Servers' libraries that the collector's bundle must not carry; the build fails when one gets in. */
const serversOnly = ['@duckdb/', 'kafkajs', '@opentelemetry/', 'aedes', 'hono']

function compile(): void {
  rmSync(out, { recursive: true, force: true })
  const tsc = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
  if (tsc.status !== 0) throw new Error('tsc failed')
  for (const file of filesOf(out)) {
    // The compiler rewrites imports; workers are named by URL.
    if (extname(file) !== '.js') continue
    const text = readFileSync(file, 'utf8')
    const rewritten = text.replaceAll(/(new URL\('\.[^']*)\.ts'/g, "$1.js'")
    if (rewritten !== text) writeFileSync(file, rewritten)
  }
  const page = join(root, 'dashboards/console')
  cpSync(page, join(out, 'dashboards/console'), {
    recursive: true,
    filter: (source) => statSync(source).isDirectory() || !source.endsWith('.ts'),
  })
}

function* filesOf(directory: string): Generator<string> {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) yield* filesOf(path)
    else yield path
  }
}

/** Worker entries lie beside the bundle under the names by which it asks for them. */
function workers(): string[] {
  const native = join(root, 'plugins/protocols/native')
  if (!existsSync(native)) return []
  return readdirSync(native)
    .filter((file) => file.endsWith('worker.ts'))
    .map((file) => join(native, file))
}

async function bundleCollector(): Promise<void> {
  const shared: BuildOptions = {
    bundle: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    minifySyntax: true,
    legalComments: 'linked',
    external: ['koffi'],
    define: { dpulseVersion: JSON.stringify(version) },
    // Packages in CommonJS ask for `require`, which a module has not.
    banner: {
      js: "import { createRequire as createRequireOf } from 'node:module'; const require = createRequireOf(import.meta.url);",
    },
  }
  const result = await build({
    ...shared,
    entryPoints: [join(root, 'deploy/collector.ts')],
    outfile: join(out, 'collector.js'),
    metafile: true,
    plugins: [
      {
        name: 'worker names',
        setup(builder) {
          builder.onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const text = readFileSync(path, 'utf8')
            return { loader: 'ts', contents: text.replaceAll(/(new URL\('\.[^']*)\.ts'/g, "$1.js'") }
          })
        },
      },
    ],
  })
  for (const worker of workers()) {
    await build({ ...shared, entryPoints: [worker], outdir: out })
  }
  const inputs = Object.keys(result.metafile.inputs)
  const stray = inputs.filter((input) => serversOnly.some((name) => input.includes(`node_modules/${name}`)))
  if (stray.length > 0) throw new Error(`the collector's bundle carries ${stray.slice(0, 3).join(', ')}`)
  const { size } = statSync(join(out, 'collector.js'))
  process.stdout.write(`dist/collector.js: ${(size / 1e6).toFixed(2)} MB from ${inputs.length} files\n`)
}

compile()
await bundleCollector()
process.stdout.write(`dist/ holds dpulse ${version}; publish with npm publish\n`)
