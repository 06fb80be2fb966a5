// Regular expressions of rules: RE2 semantics, so that no input makes one slow. For each we know literals of which one
// is in whatever it matches: they are looked for in the bytes first, and most records never reach the expression.
import { RE2JS } from 're2js'

export interface Pattern {
  readonly source: string
  /** One of these is in every text that it matches, small and capital ASCII letters aside; undefined where none need be. */
  readonly literals: readonly string[] | undefined
  test(text: string): boolean
  /** Every match replaced by a text, which is taken as it stands. */
  replace(text: string, by: string): string
}

/** What is wrong with one; undefined where nothing is. */
export function patternProblem(source: string): string | undefined {
  try {
    RE2JS.compile(source)
    return undefined
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'it cannot be read'
    return `is no regular expression as RE2 has them: ${reason}`
  }
}

export function compilePattern(source: string): Pattern {
  const compiled = RE2JS.compile(source)
  return {
    source,
    literals: literalsOf(source, compiled),
    test: (text) => compiled.test(text),
    replace: (text, by) => compiled.matcher(text).replaceAll(() => by),
  }
}

/** A text that is looked for as it stands. */
export const plainPattern = (text: string): Pattern => ({
  source: text,
  literals: foldable(text, false),
  test: (within) => within.includes(text),
  replace: (within, by) => within.replaceAll(text, () => by),
})

// What the expression needs, as re2js works it out for itself while it compiles: a tree of texts.
interface Needed {
  readonly type: number
  readonly str: string
  readonly subs: readonly Needed[]
}
const exact = 1
const all = 2
const one = 3

/** re2js looks for no literals where case does not count; we do, with those of the same expression that minds it. */
function literalsOf(source: string, compiled: RE2JS): readonly string[] | undefined {
  const ignoresCase = source.startsWith('(?i)')
  const minding = ignoresCase ? RE2JS.compile(source.slice(4)) : compiled
  const { prefilter } = minding.re2Input as unknown as { prefilter?: Needed | null }
  return prefilter ? best(prefilter, ignoresCase) : undefined
}

function best(needed: Needed, ignoresCase: boolean): readonly string[] | undefined {
  if (needed.type === exact) return foldable(needed.str, ignoresCase)
  const subs = needed.subs.map((sub) => best(sub, ignoresCase))
  if (needed.type === one) return subs.includes(undefined) ? undefined : subs.flatMap((sub) => sub ?? [])
  if (needed.type !== all) return undefined
  return subs.reduce((found, sub) => (sub && worth(sub) > worth(found) ? sub : found), undefined)
}

/** The longer the shortest of them, the rarer all of them. */
const worth = (literals: readonly string[] | undefined): number =>
  literals ? Math.min(...literals.map((literal) => Buffer.byteLength(literal))) - literals.length / 16 : 0

/**
 * The literal, or the longest part of it that means the same letters in either case: k and s have a third form outside
 * ASCII (the Kelvin sign, the long s), and other letters have theirs. Of one byte it would be in every line.
 */
function foldable(literal: string, ignoresCase: boolean): readonly string[] | undefined {
  const parts = ignoresCase ? literal.split(/[ks\u0080-\u{10ffff}]+/iu) : [literal]
  const longest = parts.reduce((found, part) => (part.length > found.length ? part : found), '')
  return Buffer.byteLength(longest) >= 2 ? [longest] : undefined
}
