// Who may import whom, how large a file may be, what a folder may be called, and what a plugin owes to its name:
// the rules of the house as data, held against every file of the tree.
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'
import { plugins } from '../plugins/index.ts'

const root = join(import.meta.dirname, '..')

interface Layer {
  in: string
  may: readonly string[]
  /** Files whose types may be imported, because they are erased. */
  mayTypes?: readonly string[]
}

/** The most special folder decides. Nothing that is not named here may import across folders. */
const layers: readonly Layer[] = [
  { in: 'plugins/contract', may: ['plugins/contract'] },
  { in: 'plugins/protocols', may: ['plugins/protocols', 'plugins/contract'] },
  // Never another plugin: a file of a kind may import no file of any kind.
  { in: 'plugins/sources', may: ['plugins/protocols', 'plugins/contract'] },
  { in: 'plugins/processors', may: ['plugins/protocols', 'plugins/contract'] },
  { in: 'plugins/exporters', may: ['plugins/protocols', 'plugins/contract'] },
  { in: 'plugins/drivers', may: ['plugins/protocols', 'plugins/contract'] },
  { in: 'collector', may: ['collector', 'plugins/contract', 'plugins/protocols'] },
  { in: 'aggregator', may: ['aggregator', 'collector', 'plugins/contract', 'plugins/protocols'] },
  { in: 'control', may: ['control', 'collector', 'plugins/contract', 'plugins/protocols'] },
  { in: 'simulator', may: ['simulator', 'collector', 'plugins/contract', 'plugins/protocols'] },
  // The commands ask over HTTP; of the contract they need the options and the channel between parent and child.
  { in: 'commands', may: ['commands', 'plugins/contract'] },
  {
    in: 'dashboards',
    may: ['dashboards'],
    mayTypes: ['aggregator/query.ts', 'plugins/protocols/fleet-changes.ts'],
  },
]
/** Composition roots: they wire the rest. */
const roots = /^(dpulse\.ts|[a-z]+\/main\.ts|plugins\/(index|document)\.ts)$/
/** The parts of the tests that plugins outside the tree use too. */
const exported = /^test\/support\/(clock|context|golden|records|conformance[a-z-]*)\.ts$/
const free = /^(test|bench|deploy)\//

const forbiddenFolders = ['src', 'lib', 'common', 'utils', 'util', 'types', 'helpers', 'misc', 'shared']
const kinds = ['sources', 'processors', 'exporters', 'drivers'] as const
const lineLimit = 400
/** Of a README before what is generated: one screen. */
const screen = 70

const unwanted = ['**/node_modules/**', 'dist/**', 'test/fixtures/**', 'test/golden/**', '.*/**']
const files = globSync('**/*.{ts,js,css,html}', { cwd: root, exclude: unwanted })
const folders = [...new Set(files.map((file) => dirname(file)))].filter((folder) => folder !== '.')

interface Import {
  file: string
  target: string
  typeOnly: boolean
}

/** Relative imports of a file, as paths from the root of the tree. */
function importsOf(file: string, text: string): Import[] {
  const statement = /^\s*(?:import|export)\s+(type\s)?[^'"]*?from\s+'(\.[^']+)'/gm
  const bare = /(?:import\s*\(\s*|^import\s+|new URL\(\s*)'(\.[^']+\.[jt]s)'/gm
  const found = [
    ...[...text.matchAll(statement)].map(([, type, path = '']) => ({ path, typeOnly: type !== undefined })),
    ...[...text.matchAll(bare)].map(([, path = '']) => ({ path, typeOnly: false })),
  ]
  return found.map(({ path, typeOnly }) => ({ file, target: normalize(join(dirname(file), path)), typeOnly }))
}

const isIn = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`)

/** What is wrong with an import; undefined where it may be. */
function offence({ file, target, typeOnly }: Import): string | undefined {
  if (roots.test(file)) return undefined
  const told = `${file} imports ${target}`
  if (exported.test(file)) {
    const layers = ['plugins/contract', 'plugins/protocols']
    return exported.test(target) || layers.some((one) => isIn(target, one)) ? undefined : told
  }
  if (free.test(file)) return undefined
  if (target === 'plugins/index.ts') return `${told}: only composition roots do`
  const layer = layers.filter((one) => isIn(file, one.in)).toSorted((a, b) => b.in.length - a.in.length)[0]
  if (!layer) return dirname(file) === '.' ? undefined : `${file} is in no layer`
  if (layer.may.some((folder) => isIn(target, folder))) return undefined
  return typeOnly && layer.mayTypes?.includes(target) ? undefined : told
}

const read = (file: string): string => readFileSync(join(root, file), 'utf8')

describe('the tree', () => {
  test('has no import against the direction of the layers', () => {
    const sources = files.filter((file) => file.endsWith('.ts'))
    const offences = sources.flatMap((file) => importsOf(file, read(file)).map(offence))
    expect(offences.filter((one) => one !== undefined)).toEqual([])
  })

  test('has no file of more than 400 lines', () => {
    const long = files.map((file) => [file, read(file).split('\n').length - 1] as const)
    expect(long.filter(([, lines]) => lines > lineLimit)).toEqual([])
  })

  test('has no folder whose name says nothing', () => {
    const bad = folders.filter((folder) => folder.split('/').some((part) => forbiddenFolders.includes(part)))
    expect(bad).toEqual([])
  })

  test('opens each file with what it is', () => {
    const written = files.filter((file) => file.endsWith('.ts') && !/^test\/|\.config\.ts$/.test(file))
    const silent = written.filter((file) => !/^(#!.*\n)?(\/\/|\/\*)/.test(read(file)))
    expect(silent).toEqual([])
  })

  test('has a README of one screen in each top folder', () => {
    const top = [...new Set(folders.map((folder) => folder.split('/')[0] ?? ''))].filter(
      (one) => !one.startsWith('.'),
    )
    const wrong = top.filter((folder) => {
      const file = join(folder, 'README.md')
      if (!existsSync(join(root, file))) return true
      const [written = ''] = read(file).split('<!-- generated')
      return written.split('\n').length > screen
    })
    expect(wrong).toEqual([])
  })

  test('has a list of integration tests that names each file, and of each failure a test that is there', () => {
    const folder = 'test/integration'
    const [list = '', failures = ''] = read(join(folder, 'README.md')).split('## Failures')
    const all = globSync(`${folder}/*.test.ts`, { cwd: root }).map((file) => basename(file))
    expect(all.filter((file) => !`${list}${failures}`.includes(`\`${file}\``))).toEqual([])
    const rows = [...failures.matchAll(/^\|[^|]+\| `([^`]+)` +\|([^|]+)\|/gm)]
    expect(rows).not.toEqual([])
    const absent = rows.flatMap(([, file = '', names = '']) => {
      const text = read(join(folder, file)).replaceAll(/\s+/g, ' ')
      // One name, or several with semicolons between.
      const isThere = (name: string) => text.includes(name.trim())
      return isThere(names) ? [] : names.split(';').filter((name) => !isThere(name))
    })
    expect(absent).toEqual([])
  })
})

describe('the plugins', () => {
  const named = kinds.flatMap((kind) =>
    globSync(`plugins/${kind}/**/*.ts`, { cwd: root }).map((file) => ({ kind: kind.slice(0, -1), file })),
  )

  test('are one file each, called as their key in a configuration, and all in plugins/index.ts', async () => {
    const listed = new Set<unknown>(plugins)
    for (const { kind, file } of named) {
      const { default: definition } = (await import(join(root, file))) as {
        default: (typeof plugins)[number]
      }
      expect({ file, kind: definition?.kind, name: definition?.name }).toEqual({
        file: `plugins/${kind}s/${definition?.name}.ts`,
        kind,
        name: basename(file, '.ts'),
      })
      expect(listed.has(definition), `${file} is listed in plugins/index.ts`).toBe(true)
    }
    expect(plugins).toHaveLength(named.length)
  })

  test('have names that no other plugin of their kind has', () => {
    const names = plugins.map(({ kind, name }) => `${kind} ${name}`)
    expect(new Set(names).size).toBe(names.length)
  })

  test('have a test', () => {
    const untested = named.filter(
      ({ file }) => !existsSync(join(root, 'test', file.replace(/\.ts$/, '.test.ts'))),
    )
    expect(untested.map(({ file }) => file)).toEqual([])
  })
})

describe('these rules', () => {
  test.each([
    ['plugins/contract/a.ts', 'plugins/protocols/b.ts'],
    ['plugins/sources/a.ts', 'plugins/sources/b.ts'],
    ['plugins/sources/a.ts', 'collector/b.ts'],
    ['collector/a.ts', 'aggregator/b.ts'],
    ['collector/a.ts', 'plugins/sources/b.ts'],
    ['aggregator/store/a.ts', 'control/b.ts'],
    ['control/a.ts', 'aggregator/b.ts'],
    ['collector/a.ts', 'plugins/index.ts'],
    ['commands/a.ts', 'aggregator/b.ts'],
    ['test/support/context.ts', 'collector/b.ts'],
    ['elsewhere/a.ts', 'plugins/contract/b.ts'],
  ])('refuse that %s imports %s', (file, target) => {
    expect(offence({ file, target, typeOnly: false })).toContain(file)
  })

  test('see imports in all their forms', () => {
    const text = [
      "import type { A } from '../b/a.ts'",
      "import {\n  B,\n} from '../b/b.ts'",
      "export * from './c.ts'",
      "const d = await import('../b/d.ts')",
      "new Worker(new URL('./e.ts', import.meta.url))",
      "import './f.ts'",
      "import z from 'zod'",
    ].join('\n')
    expect(
      importsOf('a/x.ts', text).map(({ target, typeOnly }) => `${target}${typeOnly ? ' (type)' : ''}`),
    ).toEqual(['b/a.ts (type)', 'b/b.ts', 'a/c.ts', 'b/d.ts', 'a/e.ts', 'a/f.ts'])
  })
})
