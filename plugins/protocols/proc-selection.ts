// Which devices, interfaces or mount points a source looks at: lists of patterns in a configuration, made into one test.
import * as z from 'zod'

export interface Selection {
  include: readonly string[]
  exclude: readonly string[]
}

const patterns = z.array(z.string().min(1).max(200)).max(100)

/** `{ include: ['*'], exclude: [...] }`, patterns with `*` and `?`; what is excluded wins. */
export const selection = (what: string, exclude: readonly string[]) =>
  z
    .strictObject({
      include: patterns.default(['*']).describe(`Patterns (* and ?) of the ${what} to read.`),
      exclude: patterns.default([...exclude]).describe(`Patterns of the ${what} to leave out.`),
    })
    .prefault({})

const literal = /[.+^${}()|[\]\\]/g

const anyOf = (list: readonly string[]): RegExp =>
  new RegExp(
    `^(?:${list.map((one) => one.replace(literal, '\\$&').replaceAll('*', '.*').replaceAll('?', '.')).join('|')})$`,
    's',
  )

/** The test that a selection stands for. */
export function selects({ include, exclude }: Selection): (name: string) => boolean {
  const wanted = anyOf(include)
  const unwanted = anyOf(exclude)
  return (name) => include.length > 0 && wanted.test(name) && !(exclude.length > 0 && unwanted.test(name))
}
