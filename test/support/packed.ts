// The package as npm would publish it, unpacked where a user installs it: built, packed by npm, beside its dependencies
// and theirs, without what only development needs. No registry is asked: the dependencies are those of the clone.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { root } from './command-line.ts'

export interface Packed {
  /** Of the user: `node_modules/dpulse` is in it. */
  app: string
  /** `node_modules/dpulse`. */
  directory: string
  /** Makes a package of the clone known in a folder, as npm would. */
  link: (name: string, folder: string) => void
}

interface Manifest {
  files: string[]
  dependencies: Record<string, string>
  optionalDependencies: Record<string, string>
}

const environment = {
  ...process.env,
  PATH: [join(root, 'node_modules/.bin'), process.env.PATH].join(delimiter),
  npm_config_offline: 'true',
  npm_config_update_notifier: 'false',
}

/** In `directory`, which is empty. */
export function packInto(directory: string): Packed {
  const source = join(directory, 'package')
  const out = join(source, 'dist')
  execFileSync('node', ['deploy/build.ts', '--out', out], { cwd: root, env: environment, stdio: 'pipe' })
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest
  for (const file of ['package.json', ...manifest.files.filter((one) => one !== 'dist')]) {
    if (existsSync(join(root, file))) copyFileSync(join(root, file), join(source, file))
  }
  const told = execFileSync('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', directory], {
    cwd: source,
    env: environment,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [{ filename } = { filename: '' }] = Object.values(JSON.parse(told) as { filename: string }[])

  const app = join(directory, 'app')
  const installed = join(app, 'node_modules/dpulse')
  mkdirSync(installed, { recursive: true })
  execFileSync('tar', ['-xzf', join(directory, filename), '-C', installed, '--strip-components=1'])
  const link = (name: string, folder: string) => {
    const path = join(folder, 'node_modules', name)
    mkdirSync(dirname(path), { recursive: true })
    symlinkSync(join(root, 'node_modules', name), path)
  }
  const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies })
  // The runtime of the other architecture is not there.
  for (const name of names) if (existsSync(join(root, 'node_modules', name))) link(name, app)
  return { app, directory: installed, link }
}
