// `npm run build [-- --out DIR]`: the publishable package. `dist/` gets the tree as plain JavaScript with its types,
// the console's files, and `collector.js`: the collector in one file, with all that it needs but koffi's library.
import { spawnSync } from 'node:child_process'
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'
import type { BuildOptions, Plugin } from 'esbuild'

const root = resolve(import.meta.dirname, '..')
const { values } = parseArgs({ options: { out: { type: 'string', default: join(root, 'dist') } } })
const out = resolve(values.out)
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

/** Servers' libraries that the collector's bundle must not carry; the build fails when one gets in. */
const serversOnly = ['@duckdb/', 'kafkajs', '@opentelemetry/', 'hono']

/** The compiler rewrites imports; workers and the contract are named by URL. */
const rewritten = (text: string): string => text.replaceAll(/(new URL\('\.[^']*)\.ts'/g, "$1.js'")

function compile(): void {
  rmSync(out, { recursive: true, force: true })
  const { status } = spawnSync('tsc', ['-p', 'tsconfig.build.json', '--outDir', out], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PATH: [join(root, 'node_modules/.bin'), process.env.PATH].join(delimiter) },
  })
  if (status !== 0) throw new Error('tsc failed')
  for (const file of readdirSync(out, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.js')) continue
    const path = join(out, file)
    const text = readFileSync(path, 'utf8')
    if (rewritten(text) !== text) writeFileSync(path, rewritten(text))
  }
  cpSync(join(root, 'dashboards/console'), join(out, 'dashboards/console'), {
    recursive: true,
    filter: (source) => !source.endsWith('.ts'),
  })
}

const workerNames: Plugin = {
  name: 'worker names',
  setup(builder) {
    builder.onLoad({ filter: /\.ts$/ }, ({ path }) => ({
      loader: 'ts',
      contents: rewritten(readFileSync(path, 'utf8')),
    }))
  },
}

/** Transports of mqtt.js that no configuration can name: a quarter of the bundle, loaded with the first connection. */
const unusedTransports: Plugin = {
  name: 'unused transports',
  setup(builder) {
    builder.onLoad({ filter: /\/mqtt\/build\/lib\/connect\/(ws|wx|ali|socks)\.js$/ }, () => ({
      contents: "module.exports = () => { throw new Error('this transport is not in the bundle') }",
    }))
  },
}

/** The `kafka` exporter says so when it is configured: a library of servers is not for every DPU. */
const withoutKafka: Plugin = {
  name: 'without kafka',
  setup(builder) {
    builder.onLoad({ filter: /\/protocols\/kafka\/(client|sender)\.ts$/ }, () => ({
      contents: "throw new Error('kafkajs is not in the bundle')",
    }))
  },
}

const bundled: BuildOptions = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  // Names stay, for the stack of an error. The text is held in memory: without spaces it takes 10 MB less.
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  external: ['koffi'],
  // Node's own streams, of which this is a copy for browsers and old versions.
  alias: { 'readable-stream': 'node:stream' },
  define: { dpulseVersion: JSON.stringify(version) },
  // Packages in CommonJS ask for `require`, which a module has not.
  banner: {
    js: "import { createRequire as createRequireOf } from 'node:module'; const require = createRequireOf(import.meta.url);",
  },
  plugins: [withoutKafka, workerNames, unusedTransports],
}

async function bundleCollector(): Promise<void> {
  const { metafile } = await build({
    ...bundled,
    entryPoints: [join(root, 'deploy/collector.ts')],
    outfile: join(out, 'collector.js'),
    metafile: true,
  })
  // Worker entries lie beside the bundle, under the names by which it asks for them.
  const native = join(root, 'plugins/protocols/native')
  const workers = readdirSync(native).filter((file) => file.endsWith('worker.ts'))
  await build({ ...bundled, entryPoints: workers.map((file) => join(native, file)), outdir: out })
  const inputs = Object.keys(metafile.inputs)
  const stray = inputs.filter((input) => serversOnly.some((name) => input.includes(`node_modules/${name}`)))
  if (stray.length > 0) throw new Error(`the collector's bundle carries ${stray.slice(0, 3).join(', ')}`)
  writeFileSync(join(out, 'collector.licenses.txt'), licensesOf(inputs))
  const { size } = statSync(join(out, 'collector.js'))
  process.stdout.write(`collector.js: ${(size / 1e6).toFixed(2)} MB from ${inputs.length} files\n`)
}

/** The licences of what the bundle carries, in full, as they ask for. */
function licensesOf(inputs: readonly string[]): string {
  const packages = inputs.flatMap((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? [])
  const texts = [...new Set(packages)].toSorted().map((folder) => {
    const { name, version, license } = JSON.parse(
      readFileSync(join(root, folder, 'package.json'), 'utf8'),
    ) as {
      [key: string]: unknown
    }
    const file = readdirSync(join(root, folder)).find((one) => /^(licen[cs]e|copying)/i.test(one))
    const text = file === undefined ? '' : readFileSync(join(root, folder, file), 'utf8').trim()
    return `${String(name)} ${String(version)}, ${String(license)}\n\n${text}\n`
  })
  return texts.join(`\n${'-'.repeat(80)}\n\n`)
}

compile()
await bundleCollector()
process.stdout.write(`${out} holds dpulse ${version}\n`)
