// `npm test`: types, lint, format, then every test, with the real servers brought up first where they are at hand.
// Closes with `N passed, N failed, N skipped`; with CI=true a skipped test is a failure.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'

const root = resolve(import.meta.dirname, '..')
const services = resolve(root, '../shared/services/services')
const inCi = process.env.CI === 'true'
/** Servers that tests talk to, and the variable by which the environment may already name each. */
const servers = { mosquitto: 'MQTT_URL', kafka: 'KAFKA_BROKERS', influxdb: 'INFLUX_URL' }
/** Programs that tests run; installed by the same script. */
const peers = ['otelcol', 'telegraf', 'prometheus', 'rsyslog']

const environment: NodeJS.ProcessEnv = {
  ...process.env,
  PATH: `${join(root, 'node_modules/.bin')}:${process.env.PATH ?? ''}`,
  // A set of servers of our own, beside whatever else runs on this machine.
  RUN_NAME: `test-${process.pid}`,
  PORT_BASE: '21000',
}

function step(title: string, command: string, args: string[]): boolean {
  process.stdout.write(`\n== ${title}\n`)
  const began = performance.now()
  const { status } = spawnSync(command, args, { cwd: root, env: environment, stdio: 'inherit' })
  process.stdout.write(
    `   ${status === 0 ? 'ok' : 'FAILED'} (${((performance.now() - began) / 1000).toFixed(1)} s)\n`,
  )
  return status === 0
}

/** Starts what the environment does not name yet; the settings come back as KEY=VALUE lines. */
function bringUpServers(): void {
  if (!existsSync(services)) return
  for (const peer of peers) spawnSync(services, ['install', peer], { env: environment, stdio: 'inherit' })
  const wanted = Object.entries(servers).filter(([, variable]) => !process.env[variable])
  if (wanted.length === 0) return
  const up = spawnSync(services, ['up', ...wanted.map(([name]) => name)], {
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  if (up.status !== 0) process.stdout.write('   the servers did not come up; tests that need them skip\n')
  for (const line of up.stdout.split('\n')) {
    const at = line.indexOf('=')
    if (at > 0) environment[line.slice(0, at)] = line.slice(at + 1)
  }
}

interface Report {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  numFailedTestSuites: number
}

function runTests(): Report | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-test-'))
  const file = join(directory, 'report.json')
  step('tests', 'vitest', [
    'run',
    '--dir=test',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
    ...process.argv.slice(2),
  ])
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Report
  } catch {
    return undefined
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const checks = [
  step('types', 'tsc', []),
  step('lint', 'oxlint', ['--type-aware', '--deny-warnings']),
  step('format', 'oxfmt', ['--check']),
]
bringUpServers()
const report = runTests()
if (existsSync(services)) spawnSync(services, ['down'], { env: environment, stdio: 'ignore' })

const failedChecks = checks.filter((ok) => !ok).length
const passed = (report?.numPassedTests ?? 0) + checks.length - failedChecks
const skipped = (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0)
// A file that could not even be loaded counts, though none of its tests ran.
const failedTests = report ? Math.max(report.numFailedTests, report.numFailedTestSuites > 0 ? 1 : 0) : 1
const failed = failedChecks + failedTests
if (inCi && skipped > 0) process.stdout.write('\nWith CI=true a skipped test is a failure.\n')
process.stdout.write(`\n${passed} passed, ${failed} failed, ${skipped} skipped\n`)
process.exitCode = failed > 0 || (inCi && skipped > 0) ? 1 : 0
