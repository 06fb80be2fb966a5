// The durable log against a model, on a simulated disk that fails, and that crashes between any two operations.
import * as fc from 'fast-check'
import { describe, test } from 'vitest'
import { openLog } from '../../../plugins/protocols/log/index.ts'
import type { Log } from '../../../plugins/protocols/log/index.ts'
import { SimulatedDisk } from './log-disk.ts'
import type { Fault } from './log-disk.ts'
import { CONSUMERS, KEYS, Model, TABLES, TOPICS } from './log-model.ts'
import type { Action } from './log-model.ts'

const RUNS = Number(process.env['LOG_CRASH_RUNS'] ?? 300)

const topic = fc.constantFrom(...TOPICS)
const table = fc.constantFrom(...TABLES)
const key = fc.constantFrom(...KEYS)
const size = fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 500, max: 1500 }), fc.constant(6000))
const part = fc.integer({ min: 0, max: 20 }).map((twentieths) => twentieths / 20) // doubles would mostly be tiny

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('append' as const),
      topic,
      sizes: fc.array(size, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('commit' as const),
      topics: fc.array(topic, { minLength: 1, maxLength: 3 }),
      table,
      key,
      size,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('set' as const),
      table,
      key,
      size: fc.option(size, { nil: undefined }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('truncate' as const),
      topic,
      part,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('position' as const),
      topic,
      consumer: fc.constantFrom(...CONSUMERS),
      part,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('read' as const), topic, part }) },
)

/** Groups of actions that are asked for together, one group after the other. */
const bursts = fc.array(fc.array(action, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 })

type Step =
  | { step: 'work'; bursts: Action[][] }
  | { step: 'reopen' }
  | { step: 'crash'; bursts: Action[][]; after: number; during: number; kills: boolean[] }
  | { step: 'fault'; bursts: Action[][]; fault: Fault }

const fault: fc.Arbitrary<Fault> = fc.record({
  kind: fc.constantFrom('write', 'sync', 'truncate', 'create', 'rename', 'unlink', 'syncDirectory'),
  code: fc.constantFrom('ENOSPC', 'EIO'),
  after: fc.integer({ min: 0, max: 6 }),
  times: fc.integer({ min: 1, max: 4 }),
})

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ step: fc.constant('work' as const), bursts }) },
  { weight: 1, arbitrary: fc.record({ step: fc.constant('reopen' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      step: fc.constant('crash' as const),
      bursts,
      after: fc.integer({ min: 1, max: 60 }),
      kills: fc.array(fc.boolean(), { minLength: 2, maxLength: 2 }),
      during: fc.integer({ min: 1, max: 30 }), // beyond its operations: the start after the crash is not interrupted
    }),
  },
  { weight: 2, arbitrary: fc.record({ step: fc.constant('fault' as const), bursts, fault }) },
)

class World {
  readonly model = new Model()
  disk: SimulatedDisk
  #log: Log | undefined

  constructor(seed: number) {
    this.disk = new SimulatedDisk(seed)
  }

  async log(): Promise<Log> {
    this.#log ??= await openLog('/simulated', { fs: this.disk, segmentBytes: 2500, rewriteBytes: 3000 })
    return this.#log
  }

  async take(step: Step): Promise<void> {
    const log = await this.log()
    if (step.step === 'reopen') {
      await log.close()
      this.#log = undefined
      return this.model.check(await this.log(), true)
    }
    if (step.step === 'crash') this.disk.crashAt = this.disk.operations + step.after
    if (step.step === 'fault') this.disk.fault = { ...step.fault }
    for (const burst of step.bursts) await Promise.all(burst.map((action) => this.model.run(log, action)))
    this.disk.fault = undefined
    if (step.step !== 'crash') return this.model.check(log, false)
    return this.#crash(log, step)
  }

  async #crash(log: Log, { during, kills }: { during: number; kills: boolean[] }): Promise<void> {
    this.disk.crashed = true
    await log.close().catch(() => undefined)
    this.#log = undefined
    this.disk = kills[0] ? this.disk.afterKill() : this.disk.afterCrash()
    this.disk.crashAt = this.disk.operations + during
    await this.log().catch(() => undefined)
    if (this.disk.crashed) {
      this.#log = undefined
      this.disk = kills[1] ? this.disk.afterKill() : this.disk.afterCrash()
    }
    this.disk.crashAt = Infinity
    await this.model.check(await this.log(), true)
  }
}

describe('the durable log on a disk that crashes and fails', () => {
  test('keeps all that it acknowledged, in order, and shows nothing else', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), fc.array(step, { minLength: 1, maxLength: 8 }), async (seed, steps) => {
        const world = new World(seed)
        for (const step of steps) await world.take(step)
        await world.take({ step: 'reopen' })
      }),
      { numRuns: RUNS },
    )
  }, 300_000)
})
