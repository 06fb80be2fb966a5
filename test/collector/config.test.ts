import { writeFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkConfig } from '../../collector/check.ts'
import { parseConfig } from '../../collector/config.ts'
import { detectConfig } from '../../collector/detect.ts'
import type { Definition } from '../../plugins/contract/index.ts'
import { lines, memory, odd, wire } from './fixtures.ts'

const definitions: Definition[] = [lines, wire, odd, memory(new Map())]
const file = '/nowhere/collector.yaml'
const problemsOf = async (text: string) =>
  (await parseConfig(text, file, definitions)).problems.map(
    ({ line, path, message }) => `${line} ${path}: ${message}`,
  )

describe('a configuration', () => {
  test('becomes components and pipelines, with defaults filled in', async () => {
    const { config, problems } = await parseConfig(
      `
collector: { id: dpu-7, labels: { site: zrh } }
sources: { tcp: { type: lines, port: 1 } }
exporters: { x: { type: memory, buffer: { disk: 1GiB, spill: 0 } } }
pipelines: { p: { sources: [tcp, dpulse], exporters: [x] } }
`,
      file,
      definitions,
    )
    expect(problems).toEqual([])
    expect(config?.exporters[0]?.buffer).toMatchObject({ disk: 1024 ** 3, spill: 0, memory: 32 * 1024 ** 2 })
    expect(config?.pipelines).toEqual([
      { id: 'p', sources: ['tcp', 'dpulse'], processors: [], exporters: ['x'] },
    ])
    expect(config?.sources[0]?.config).toEqual({ port: 1, tag: '' })
  })

  test('tells all problems at once, each with its line, path and a hint', async () => {
    expect(
      (
        await problemsOf(`sources:
  tcp: { type: linse }
  Bad: { type: lines }
  b: { type: lines, prot: 5, port: x }
exporters:
  x: { type: memory, buffer: { memory: 1, disk: lots } }
  y: { port: 1 }
pipelines:
  p: { sources: [tpc], exporters: [x, z], extra: 1 }
`)
      ).toSorted(),
    ).toEqual(
      [
        '2 sources.tcp: no pipeline uses it',
        '2 sources.tcp.type: there is no source type linse; did you mean lines?',
        '3 sources.Bad: expected a name of small letters, digits, _ and -, such as bmc_1',
        '3 sources.Bad: no pipeline uses it',
        '4 sources.b.port: expected number, received string',
        '4 sources.b.prot: there is no such setting',
        '4 sources.b: no pipeline uses it',
        '6 exporters.x.buffer.disk: expected a size such as 64MiB, 1GB or 512B',
        '6 exporters.x.buffer.memory: expected string, received number',
        '7 exporters.y.type: expected the name of a plugin',
        '7 exporters.y: no pipeline uses it',
        '9 pipelines.p.extra: there is no such setting',
        '9 pipelines.p.exporters.1: there is no exporter z; did you mean x?',
        '9 pipelines.p.sources.0: there is no source tpc; did you mean tcp?',
      ].toSorted(),
    )
  })

  test.for([
    ['', 'pipelines'],
    ['[]', ''],
    ['a: [', ''],
    ['sources: 5', 'sources'],
    ['pipelines: { p: 1 }', 'pipelines.p'],
    ['x: &a [*a]', 'x'],
    ['sources: { a: { type: lines }, a: { type: lines } }', ''],
  ])('%j is refused with a path, and never a crash', async ([text, path]) => {
    const { config, problems } = await parseConfig(text ?? '', file, definitions)
    expect(config).toBeUndefined()
    expect(problems.map((problem) => problem.path)).toContain(path)
  })

  test('warns of components that nothing uses, and is valid all the same', async () => {
    const { config, problems } = await parseConfig(
      `
sources: { a: { type: lines }, b: { type: lines } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], exporters: [x] } }
`,
      file,
      definitions,
    )
    expect(config).toBeDefined()
    expect(problems).toMatchObject([{ path: 'sources.b', severity: 'warning' }])
  })

  test('loads plugins of others from modules beside it, and names what is none', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'dpulse-config-'))
    const contract = new URL('../../plugins/contract/index.ts', import.meta.url).pathname
    const module = `import { defineSource } from ${JSON.stringify(contract)}
import * as z from ${JSON.stringify(import.meta.resolve('zod'))}
export default [defineSource({ name: 'acme', summary: 'x', config: z.strictObject({}), create: () => ({ run: async () => {} }) })]
`
    await writeFile(join(directory, 'acme.js'), module)
    await writeFile(join(directory, 'none.js'), 'export default 5\n')
    const text = (plugins: string) => `
plugins: [${plugins}]
sources: { a: { type: acme } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], exporters: [x] } }
`
    const path = join(directory, 'c.yaml')
    const fine = await parseConfig(text('./acme.js'), path, definitions)
    expect(fine.problems).toEqual([])
    const wrong = await parseConfig(text('./acme.js, ./none.js, ./gone.js'), path, definitions)
    expect(wrong.problems.map((problem) => problem.path)).toEqual(['plugins.1', 'plugins.2'])
    await rm(directory, { recursive: true })
  })

  test('is checked down to what its plugins say when they are built', async () => {
    const picky: Definition = {
      ...lines,
      name: 'picky',
      create: () => {
        throw new Error('port 1 and tag do not go together')
      },
    }
    const text = `
sources: { a: { type: picky } }
exporters: { x: { type: memory } }
pipelines: { p: { sources: [a], exporters: [x] } }
`
    expect(await checkConfig(text, file, [...definitions, picky])).toEqual([
      {
        path: 'sources.a',
        message: 'port 1 and tag do not go together',
        severity: 'error',
        line: 2,
        column: 12,
      },
    ])
  })
})

describe('starting without a file', () => {
  test('takes what the machine has, and says what it has not', async () => {
    const named = (
      name: string,
      detect: () => Promise<{ config: object } | { leftOut: string }>,
    ): Definition => ({
      ...lines,
      name,
      detect,
    })
    const { config, leftOut } = await detectConfig(
      [
        named('here', async () => ({ config: {} })),
        named('away', async () => ({ leftOut: 'no such thing' })),
        named('ill', async () => {
          throw new Error('broken')
        }),
        lines,
        { ...wire, name: 'mqtt', config: memory(new Map()).config },
      ],
      { broker: 'embedded' },
    )
    expect(leftOut).toEqual([
      { name: 'away', reason: 'no such thing' },
      { name: 'ill', reason: 'broken' },
    ])
    expect(config.pipelines).toEqual([
      { id: 'default', sources: ['here', 'dpulse'], processors: [], exporters: ['aggregator'] },
    ])
  })
})
