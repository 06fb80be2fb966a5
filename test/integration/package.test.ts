// The published package and the bundled collector, as a user has them: no TypeScript, no development dependency, no
// install script, and whatever Node the system brings.
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import {
  accessSync,
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import process from 'node:process'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { dpulse, oldNode, root } from '../support/command-line.ts'
import { packInto } from '../support/packed.ts'
import type { Packed } from '../support/packed.ts'
import { apiUrl, eventually, healthy, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'

const upOffset = 22_400
const bundleOffset = 22_500
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

let directory = ''
let packed: Packed
let up: Program
/** The command of the package, under the older Node of the system where there is one. */
let command: readonly [string, string]
let environment: NodeJS.ProcessEnv = {}

/** A plugin as others write it: one record that tells its configuration, and a failure of the contract's own kind. */
const acme = `
import { LogsEncoder, PermanentError, defineSource, duration } from 'dpulse/contract'
import * as z from 'zod'

export default defineSource({
  name: 'acme',
  summary: 'Says one thing.',
  config: z.strictObject({
    say: z.string().describe('What to say.'),
    every: duration.prefault('1h').describe('Time between sayings.'),
    fail: z.boolean().default(false).describe('Whether to give up instead.'),
  }),
  create: ({ say, every, fail }, context) => ({
    async run(emit, signal) {
      if (fail) throw new PermanentError('CONFIG_INVALID', 'acme gives up')
      context.ready()
      const encoder = new LogsEncoder({ name: 'acme' })
      await context.clock.every(every, signal, async () => {
        const now = Number(context.clock.nowUnixNano() / 1_000_000_000n)
        encoder.begin(context.resource({ 'service.name': 'acme' }))
        encoder.record(now, 0, now, 0, 9)
        encoder.body(say)
        encoder.end()
        await emit(encoder.finish(context.device, 'log'))
      })
    },
  }),
})
`

const post = async (port: number, body: string): Promise<number> => {
  const logRecords = [{ severityNumber: 9, body: { stringValue: body } }]
  const { status } = await fetch(`http://127.0.0.1:${port}/v1/logs`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] }),
  })
  return status
}

const found = (body: string) =>
  eventually(`a record ${body}`, 60, async () => {
    const ended = await dpulse(['logs', body, '-o', 'json'], { url: apiUrl(upOffset), command, environment })
    expect(ended).toMatchObject({ code: 0, stderr: '' })
    return (JSON.parse(ended.stdout) as { body: string }[])[0]?.body
  })

async function sendSyslog(port: number, body: string): Promise<void> {
  const socket = createSocket('udp4')
  const sent = Promise.withResolvers<void>()
  socket.send(`<13>1 - host app - - - ${body}`, port, '127.0.0.1', (error) =>
    error ? sent.reject(error) : sent.resolve(),
  )
  await sent.promise
  socket.close()
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dpulse-package-'))
  packed = packInto(directory)
  command = [oldNode ?? process.execPath, join(packed.directory, 'bin.js')]
  environment = {
    XDG_CACHE_HOME: join(directory, 'cache'),
    PATH: `/usr/bin:/bin:${process.env.PATH ?? ''}`,
  }
  mkdirSync(join(directory, 'cache'))
  writeFileSync(join(packed.app, 'acme.js'), acme)
  const config = `
plugins: [./acme.js]
sources:
  acme: { type: acme, say: acme in the package }
  fails: { type: acme, say: nothing, fail: true }
  otlp: { type: otlp }
  syslog: { type: syslog }
exporters: { fleet: { type: mqtt } }
pipelines: { all: { sources: [acme, fails, otlp, syslog], exporters: [fleet] } }
`
  writeFileSync(join(packed.app, 'dpulse.yaml'), config)
  const data = join(directory, 'data')
  const line = ['--config', join(packed.app, 'dpulse.yaml')]
  up = startProgram('up', { data, portOffset: upOffset, arguments: line, command, environment })
  await eventually('dpulse up', 90, () => healthy(upOffset)).catch((cause: unknown) => {
    throw new Error(up.output(), { cause })
  })
}, 240_000)

afterAll(async () => {
  await up?.stop()
  rmSync(directory, { recursive: true, force: true })
})

describe('the package', () => {
  test('holds JavaScript and its types, and nothing that only development needs', () => {
    const files = readdirSync(packed.directory, { recursive: true, withFileTypes: true })
    const names = files.filter((one) => one.isFile()).map(({ name }) => name)
    expect(names.filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))).toEqual([])
    expect(names.filter((name) => name.includes('.test.'))).toEqual([])
    const kinds = new Set(names.map((name) => extname(name)))
    expect([...kinds].toSorted()).toEqual(['', '.css', '.html', '.js', '.json', '.md', '.svg', '.ts', '.txt'])
    accessSync(join(packed.directory, 'bin.js'), constants.X_OK)
  })

  test('says its version under the Node of the system', async () => {
    const ended = await dpulse(['--version'], { command, environment })
    expect(ended).toEqual({ stdout: `${version}\n`, stderr: '', code: 0 })
  })

  test('brings OTLP and UDP syslog from the sockets of `dpulse up` to `dpulse logs`', async () => {
    expect(await post(4318 + upOffset, 'otlp of the package')).toBe(200)
    expect(await found('otlp of the package')).toBe('otlp of the package')
    await sendSyslog(5514 + upOffset, 'syslog of the package')
    expect(await found('syslog of the package')).toBe('syslog of the package')
    // The thread that receives them runs, from the package as from a clone.
    expect(up.output()).not.toContain('datagrams are received one by one')
  })

  test('serves the console with every module that the page names', async () => {
    const page = await fetch(apiUrl(upOffset))
    expect(page.status).toBe(200)
    const names = [...(await page.text()).matchAll(/(?:src|href)="(?:\.?\/)?([^"#:]+)"/g)].map(
      ([, name]) => name,
    )
    expect(names.length).toBeGreaterThan(1)
    for (const name of names) {
      const { status } = await fetch(`${apiUrl(upOffset)}/${name}`)
      expect({ name, status }).toEqual({ name, status: 200 })
    }
  })

  test('runs a plugin from outside, whose errors the runtime knows as its own', async () => {
    expect(await found('acme in the package')).toBe('acme in the package')
    await eventually('it is said that one gave up', 30, () => up.output().includes('acme gives up'))
    expect(up.output()).not.toContain('UNEXPECTED')
    const ended = await dpulse(['check', join(packed.app, 'dpulse.yaml')], { command, environment })
    expect(ended).toMatchObject({ code: 0, stderr: '' })
  })

  test('gives plugins its contract and its conformance suites, with their types', () => {
    for (const name of ['vitest', 'typescript', '@types/node']) packed.link(name, packed.app)
    const plugin = [
      "import { conformsToSource } from 'dpulse/conformance'",
      "import { defineSource, type SourceDefinition } from 'dpulse/contract'",
      "import acme from './acme.js'",
      'const source: SourceDefinition = defineSource(acme as SourceDefinition)',
      "conformsToSource(source, { say: 'one', every: '1m' })",
    ]
    writeFileSync(join(packed.app, 'acme.test.ts'), plugin.join('\n'))
    writeFileSync(join(packed.app, 'acme.d.ts'), 'declare const acme: unknown\nexport default acme\n')
    writeFileSync(join(packed.app, 'package.json'), '{ "type": "module" }')
    const options = { cwd: packed.app, encoding: 'utf8', stdio: 'pipe' } as const
    const node = process.execPath
    const bin = (name: string) => join(root, 'node_modules/.bin', name)
    const strict = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2024', '--types', 'node']
    execFileSync(node, [bin('tsc'), ...strict, 'acme.test.ts'], options)
    expect(execFileSync(node, [bin('vitest'), 'run', '--root', packed.app], options)).toMatch(
      /Tests .*\d+ passed/,
    )
  }, 180_000)
})

describe('the bundled collector', () => {
  test('runs alone from two files, takes OTLP and syslog, and delivers to an aggregator', async () => {
    const [alone, beside] = [join(directory, 'alone'), join(directory, 'beside')]
    mkdirSync(alone)
    mkdirSync(beside)
    for (const file of ['collector.js', 'datagrams-worker.js']) {
      copyFileSync(join(packed.directory, 'dist', file), join(alone, file))
    }
    packed.link('zod', beside)
    writeFileSync(join(beside, 'acme.js'), acme)
    const config = `
plugins: [${join(beside, 'acme.js')}]
collector: { id: alone }
sources:
  acme: { type: acme, say: acme beside the bundle }
  otlp: { type: otlp }
  syslog: { type: syslog }
exporters: { fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:${1883 + upOffset}'] } }
pipelines: { all: { sources: [acme, otlp, syslog], exporters: [fleet] } }
`
    writeFileSync(join(beside, 'collector.yaml'), config)
    const collector = startProgram('collector', {
      data: join(directory, 'alone-data'),
      portOffset: bundleOffset,
      arguments: ['--config', join(beside, 'collector.yaml')],
      command: [process.execPath, join(alone, 'collector.js')],
    })
    onTestFinished(() => collector.stop())
    const health = `http://127.0.0.1:${8601 + bundleOffset}/api/health`
    await eventually('the bundle', 90, async () => (await fetch(health)).ok).catch((cause: unknown) => {
      throw new Error(collector.output(), { cause })
    })
    expect(await post(4318 + bundleOffset, 'otlp of the bundle')).toBe(200)
    await sendSyslog(5514 + bundleOffset, 'syslog of the bundle')
    for (const body of ['otlp of the bundle', 'syslog of the bundle', 'acme beside the bundle']) {
      expect(await found(body)).toBe(body)
    }
    // Without koffi beside it, it does with what Node has, and says so.
    expect(collector.output()).toContain('datagrams are received one by one')
    await collector.stop()
    expect(collector.child.exitCode).toBe(0)
  })

  test('says its version, and where the rest is', async () => {
    const bundle = [process.execPath, join(packed.directory, 'dist/collector.js')] as const
    expect(await dpulse(['--version'], { command: bundle })).toMatchObject({
      stdout: `${version}\n`,
      code: 0,
    })
    const { code, stderr } = await dpulse(['aggregator'], { command: bundle })
    expect(code).toBe(2)
    expect(stderr).toContain('comes with the package dpulse')
  })

  test('comes with the licences of all that is in it', () => {
    const licences = readFileSync(join(packed.directory, 'dist/collector.licenses.txt'), 'utf8')
    for (const name of ['mqtt', 'yaml', 'zod']) {
      expect(licences).toMatch(new RegExp(`^${name} [\\d.]+, (MIT|ISC)\\n\\n\\S`, 'm'))
    }
  })
})

describe('the lock file', () => {
  // A registry that lacks the binary of some other platform makes npm leave it out, and then `npm ci` refuses.
  test('names every optional dependency, so that `npm ci` takes it on any platform', () => {
    const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { version?: string; optionalDependencies?: Record<string, string> }>
    }
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) =>
          packages[`node_modules/${name}`] === undefined &&
          packages[`${path}/node_modules/${name}`] === undefined,
      ),
    )
    expect(missing).toEqual([])
  })
})

test('`dpulse up` of the package stops with exit code 0', async () => {
  await up.stop()
  // bin.js under an older Node dies of the signal that it passed on.
  expect(up.child.exitCode ?? up.child.signalCode).toBe(0)
})
