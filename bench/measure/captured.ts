// The captures of the tests, for inputs of `bench sources`.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export const fixtures = join(import.meta.dirname, '../../test/fixtures')

export const fixture = (name: string): string => readFileSync(join(fixtures, name), 'utf8')

/** That many lines, the same again and again. */
export function linesOf(text: string, count: number): string[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Array.from({ length: count }, (_, index) => lines[index % lines.length] ?? '')
}
