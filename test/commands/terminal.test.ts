// Tables and completion: what fits, what is never cut, and what a shell makes of the script.
import { execFileSync } from 'node:child_process'
import { homedir } from 'node:os'
import { array, assert, integer, property, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fitted, printable, table, widthOf } from '../../commands/terminal.ts'
import type { Column } from '../../commands/terminal.ts'
import { dataDirectory } from '../../plugins/contract/options.ts'
import { dpulse } from '../support/command-line.ts'

describe('a table', () => {
  const columns: Column[] = [
    { title: 'NAME', flexible: true },
    { title: 'EXTRA', optional: true },
    { title: 'COUNT', align: 'right' },
  ]

  test('is never wider than the terminal once its numbers fit, whatever the names', () => {
    const row = property(
      array(string({ unit: 'grapheme' })),
      integer({ min: 40, max: 200 }),
      (names, width) => {
        const text = table(
          columns,
          names.map((name) => [name, name, '1,234,567']),
          width,
        )
        for (const line of text.split('\n')) expect(widthOf(line)).toBeLessThanOrEqual(width)
        expect(text.split('1,234,567')).toHaveLength(names.length + 1)
      },
    )
    assert(row)
  })

  test('leaves out an optional column rather than cut a number', () => {
    const text = table(columns, [['a-name-that-is-long', 'x'.repeat(30), '123,456,789']], 30)
    expect(text).not.toContain('EXTRA')
    expect(text).toContain('a-name-that-is')
    expect(text).toContain('123,456,789')
  })
})

describe('text on a terminal', () => {
  test('has no control character left, and a cut one fits', () => {
    assert(
      property(string({ unit: 'binary' }), integer({ min: 1, max: 50 }), (text, width) => {
        // oxlint-disable-next-line no-control-regex
        expect(printable(text)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/)
        expect(widthOf(fitted(printable(text), width))).toBeLessThanOrEqual(width)
      }),
    )
  })
})

describe('completion', () => {
  async function complete(words: readonly string[]): Promise<string[]> {
    const { stdout } = await dpulse(['completion', 'bash'], {})
    const script = `${stdout}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dpulse; printf '%s\\n' "\${COMPREPLY[@]}"`
    return execFileSync('bash', ['-c', script, 'bash', ...words], { encoding: 'utf8' })
      .split('\n')
      .filter(Boolean)
  }

  test('knows commands, their options and the values of these', async () => {
    expect(await complete(['dpulse', 'le'])).toEqual(['ledger'])
    expect(await complete(['dpulse', 'get', 'd'])).toEqual(['devices'])
    expect(await complete(['dpulse', 'logs', '--sev'])).toEqual(['--severity'])
    expect(await complete(['dpulse', 'query', 'm', '--aggregate', 'm'])).toEqual(['mean', 'min', 'max'])
  })

  test.for(['zsh', 'fish'])('prints a script for %s', async (shell) => {
    const { stdout, code } = await dpulse(['completion', shell], {})
    expect(code).toBe(0)
    expect(stdout).toContain('severity')
  })
})

describe('the data directory', () => {
  test('is what the option says, else DPULSE_DATA, else a folder of the user', () => {
    expect(dataDirectory('/a', { DPULSE_DATA: '/b' })).toBe('/a')
    expect(dataDirectory(undefined, { DPULSE_DATA: '/b' })).toBe('/b')
    expect(dataDirectory(undefined, { DPULSE_DATA: '' })).toBe(`${homedir()}/.local/share/dpulse`)
  })
})
