// What a rule asks of an attribute, a name or a body, made ready. Values are compared as texts.
import { globList, globMatcher } from './globs.ts'
import { compilePattern, plainPattern } from './pattern.ts'
import type { Pattern } from './pattern.ts'
import type { Condition, Match } from './settings.ts'

/** What a rule asks of one attribute. */
export interface ValueTest {
  /** Whether it holds where the attribute is absent. */
  readonly absent: boolean
  /** Whether it holds of any text; undefined where it is enough that there is one. */
  readonly fits: ((text: string) => boolean) | undefined
}

export function valueTest(condition: Condition): ValueTest {
  if (Array.isArray(condition)) {
    const fits = anyOf(condition)
    return { absent: false, fits }
  }
  const { matches, not, exists, at_least: least, below } = condition
  if (exists === false) return { absent: true, fits: () => false }
  const tests: ((text: string) => boolean)[] = []
  if (matches) {
    const patterns = matches.map(compilePattern)
    tests.push((text) => patterns.some((pattern) => pattern.test(text)))
  }
  if (not) {
    const isOne = anyOf(not)
    tests.push((text) => !isOne(text))
  }
  if (least !== undefined) tests.push((text) => text !== '' && Number(text) >= least)
  if (below !== undefined) tests.push((text) => text !== '' && Number(text) < below)
  // An attribute that is not there is none of the texts, and has no number.
  const needsValue = exists === true || matches !== undefined || least !== undefined || below !== undefined
  const fits = tests.length === 0 ? undefined : (text: string) => tests.every((test) => test(text))
  return { absent: !needsValue, fits }
}

function anyOf(wanted: readonly (string | number | boolean)[]): (text: string) => boolean {
  const texts = new Set(wanted.filter((one) => typeof one !== 'string' || !/[*?\\]/.test(one)).map(String))
  const globs = wanted.filter((one) => typeof one === 'string' && /[*?\\]/.test(one)).map(String)
  const matchers = globs.map(globMatcher)
  return (text) => texts.has(text) || matchers.some((fits) => fits(text))
}

export const nameTest = (globs: readonly string[]): ((text: string) => boolean) => globList(globs)

/** What a rule asks of the body. */
export interface BodyTest {
  readonly any: readonly Pattern[]
  /** Both are asked where both are given. */
  readonly contains: readonly Pattern[]
  readonly none: readonly Pattern[]
}

export function bodyTest({ contains, matches, not }: NonNullable<Match['body']>): BodyTest {
  return {
    any: (matches ?? []).map(compilePattern),
    contains: (contains ?? []).map(plainPattern),
    none: (not ?? []).map(compilePattern),
  }
}
