// Finds the Node that dpulse runs on, in plain JavaScript that any Node from 20 on understands. For bin.js, and for the
// scripts of package.json: `node runtime.js COMMAND …` runs a command with that Node first on the PATH. (npm links it
// into node_modules/.bin, but npm 10 removes the link again, with the package of the other architecture.)
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
export const isNewEnough = major > 24 || (major === 24 && minor >= 12)

/** The runtime that npm installed beside this file; ends the process, saying what to do, where there is none. */
export function pinnedRuntime() {
  const name = `node-linux-${process.arch}`
  try {
    const found = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), 'bin', 'node')
    if (existsSync(found)) return found
  } catch {
    // Told below.
  }
  const here = dirname(fileURLToPath(import.meta.url))
  const can = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')
  const remedy = can
    ? `Its own runtime, the package ${name}, is not installed: run \`npm install\` in ${here} without --omit=optional, or use`
    : `There is no runtime to install for ${process.platform} on ${process.arch}: use`
  process.stderr.write(
    `dpulse needs Node 24.12 or newer; this is ${process.version}.\n${remedy} a newer Node (https://nodejs.org).\n`,
  )
  return process.exit(1)
}

/** Runs a command in place of this process: signals go to it, and this process ends as it does. */
export function handOver(command, line, options) {
  const child = spawn(command, line, options)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']) {
    process.on(signal, () => child.kill(signal))
  }
  child.on('error', (error) => {
    process.stderr.write(`dpulse cannot start ${command}: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    // Die of the same, so that a shell sees what happened.
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [command = '', ...line] = process.argv.slice(2)
  const folder = dirname(isNewEnough ? process.execPath : pinnedRuntime())
  const env = { ...process.env, PATH: [folder, process.env.PATH].join(delimiter) }
  handOver(command, line, { stdio: 'inherit', env })
}
