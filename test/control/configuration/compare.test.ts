// Wish and fact compared: every pair of them has one answer, and a device that does what is wished of it gets there.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compare } from '../../../control/configuration/compare.ts'
import type { Wish } from '../../../control/configuration/wishes.ts'
import { outcomes, origins } from '../../../plugins/protocols/change.ts'
import type { Reported } from '../../../plugins/protocols/change.ts'
import { changeStates } from '../../../plugins/protocols/fleet-changes.ts'

const time = '2026-11-21T09:55:00.000Z'
const hashes = ['00000000000000aa', '00000000000000bb', '00000000000000cc'] as const
const hash = fc.constantFrom(...hashes)
const revision = fc.integer({ min: 1, max: 5 })

const wish: fc.Arbitrary<Wish | undefined> = fc.option(
  fc.record({
    revision,
    configuration: fc.option(
      fc.record({ revision, hash: fc.option(hash), by: fc.constant('a'), time: fc.constant(time) }),
    ),
    verbosity: fc.constant([]),
    labels: fc.constant({}),
  }),
  { nil: undefined },
)

const reported: fc.Arbitrary<Reported | undefined> = fc.option(
  fc.record({
    instance: fc.constant('one'),
    time: fc.constant(time),
    revision: fc.integer({ min: 0, max: 5 }),
    configuration: fc.record({ hash, origin: fc.constantFrom(...origins), since: fc.constant(time) }),
    base: fc.record({ hash, origin: fc.constantFrom('file' as const, 'detected' as const) }),
    outcome: fc.option(
      fc.record({
        revision,
        hash: fc.option(hash),
        state: fc.constantFrom(...outcomes),
        reason: fc.constantFrom('', 'why'),
        problems: fc.constant([]),
        time: fc.constant(time),
      }),
    ),
    verbosity: fc.constant([]),
    labels: fc.constant({}),
  }),
  { nil: undefined },
)

/** What a device reports that has done all that is wished. */
const obeyed = (wished: Wish): Reported => {
  const { configuration } = wished
  const own = { hash: hashes[2], origin: 'file' as const }
  const isApplied = configuration !== null && configuration.hash !== null
  return {
    instance: 'one',
    time,
    revision: wished.revision,
    configuration: {
      ...(isApplied ? { hash: configuration.hash ?? '', origin: 'applied' as const } : own),
      since: time,
    },
    base: own,
    outcome: configuration && {
      revision: configuration.revision,
      hash: configuration.hash,
      state: 'in_force',
      reason: '',
      problems: [],
      time,
    },
    verbosity: [],
    labels: {},
  }
}

describe('wish and fact', () => {
  test('of a device that has done what is wished are at rest', () =>
    fc.assert(
      fc.property(wish, fc.boolean(), (wished, online) => {
        fc.pre(wished !== undefined)
        const isApplied = (wished.configuration?.hash ?? null) !== null
        expect(compare(wished, obeyed(wished), online).state).toBe(isApplied ? 'in_force' : 'own')
      }),
    ))

  test('are never said to be in force where another hash is', () =>
    fc.assert(
      fc.property(wish, reported, fc.boolean(), (wished, fact, online) => {
        const { state, detail } = compare(wished, fact, online)
        expect(changeStates).toContain(state)
        if (state === 'in_force') {
          expect(fact?.configuration).toMatchObject({ hash: wished?.configuration?.hash, origin: 'applied' })
        }
        if (state === 'own') expect(fact?.configuration.origin ?? 'file').not.toBe('applied')
        // Who has to do something is told why.
        if (state === 'pending' || state === 'drift') expect(detail).not.toBe('')
      }),
      { numRuns: 2000 },
    ))

  test('of a device that has not heard of the newest wish are pending', () =>
    fc.assert(
      fc.property(wish, reported, fc.boolean(), (wished, fact, online) => {
        fc.pre(wished?.configuration !== undefined && wished.configuration !== null)
        fc.pre((fact?.outcome?.revision ?? 0) < wished.configuration.revision)
        expect(compare(wished, fact, online).state).toBe('pending')
      }),
    ))
})
