// What every driver owes: plans are pure, converge, and are plain data that can be shown before anything is done.
import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import type { DriverDefinition, Step } from '../../plugins/contract/index.ts'
import { configOf, conformsToDefinition, exampleOf, faultsOf, inTime } from './conformance-definition.ts'
import type { ExampleConfig } from './conformance-definition.ts'
import { testContext } from './context.ts'

export interface DriverCase<Desired, Observed> {
  desired: Desired
  /** What the device looks like when it is already as desired. */
  converged: Observed
  /** Some ways in which it is not. */
  diverged: readonly Observed[]
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach((one) => void freeze<unknown>(one))
  }
  return value
}

export function conformsToDriver<C extends z.ZodType, D, O, S extends Step>(
  definition: DriverDefinition<C, D, O, S>,
  example: ExampleConfig,
  { desired, converged, diverged }: DriverCase<D, O>,
): void {
  // A driver's types are erased where definitions of all kinds meet.
  const erased = definition as unknown as DriverDefinition
  const create = async () =>
    definition.create(configOf(erased, await exampleOf(example)) as z.output<C>, testContext())

  describe(`${definition.name} as a driver`, () => {
    conformsToDefinition(erased, example)

    test('describes every key of what can be desired, and takes the example', () => {
      const schema = z.toJSONSchema(definition.desired, { io: 'input', unrepresentable: 'any' })
      expect(faultsOf(schema as Parameters<typeof faultsOf>[0])).toEqual([])
      expect(definition.desired.safeParse(desired).error).toBeUndefined()
    })

    test('plans nothing for a device that is as desired', async () => {
      const driver = await create()
      expect(driver.plan(freeze(structuredClone(desired)), freeze(structuredClone(converged)))).toEqual([])
    })

    test('plans the same plain steps each time for a device that is not', async () => {
      const driver = await create()
      for (const observed of diverged) {
        const plan = () => driver.plan(freeze(structuredClone(desired)), freeze(structuredClone(observed)))
        const steps = plan()
        expect(steps.length).toBeGreaterThan(0)
        expect(plan()).toEqual(steps)
        expect(JSON.parse(JSON.stringify(steps))).toEqual(steps)
        for (const step of steps) {
          expect(step.kind).not.toBe('')
          expect(step.summary).not.toBe('')
          expect(typeof step.disruptive).toBe('boolean')
        }
      }
    })

    test('gives up at once when it is aborted before it observes', async () => {
      const driver = await create()
      await expect(
        inTime(driver.observe(AbortSignal.abort()), 'an aborted observation'),
      ).rejects.toBeInstanceOf(Error)
    })
  })
}
