// Redfish clients that others wrote in Python, in an environment of their own that is made once and kept.
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { promisify } from 'node:util'

const packages = ['sushy==5.14.0', 'redfishtool==1.1.8']
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache')
const directory = join(cache, 'dpulse-test', `python-${packages.join('-').replaceAll(/[^\w.-]/g, '_')}`)
const complete = join(directory, 'complete')

/** Undefined where the clients are there, and else why they are not. */
export const whyNoPythonPeers: string | undefined = install()

function install(): string | undefined {
  if (existsSync(complete)) return undefined
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const steps: [string, string[]][] = [
    ['python3', ['-m', 'venv', directory]],
    [join(directory, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', ...packages]],
  ]
  for (const [program, given] of steps) {
    const { status, stderr } = spawnSync(program, given, { encoding: 'utf8', timeout: 120_000 })
    if (status !== 0)
      return `${packages.join(' and ')} cannot be installed: ${(stderr ?? '').trim().slice(-200)}`
  }
  writeFileSync(complete, '')
  return undefined
}

/** What a program of that environment prints. @throws where it fails, with what it said. */
export async function runPython(
  program: 'python' | 'redfishtool',
  given: readonly string[],
): Promise<string> {
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, no_proxy: '127.0.0.1' }
  const { stdout } = await promisify(execFile)(join(directory, 'bin', program), given, {
    env,
    timeout: 60_000,
  })
  return stdout
}
