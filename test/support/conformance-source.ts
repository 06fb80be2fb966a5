// What every source owes: it waits for acknowledgements, emits only what it declares, well-formed, and stops.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Context, Records, Source, SourceDefinition } from '../../plugins/contract/index.ts'
import {
  configOf,
  conformsToDefinition,
  endsQuietly,
  exampleOf,
  expectDeclared,
  expectWellFormed,
  inTime,
  leavesNothingOpen,
  stopping,
} from './conformance-definition.ts'
import type { ExampleConfig } from './conformance-definition.ts'
import { FakeClock, settle } from './clock.ts'
import { testContext } from './context.ts'
import type { TestContext } from './context.ts'

/** A source that runs, as `provoke` sees it. */
export interface SourceRun {
  context: TestContext
  /** What it gave to `ready`, in order; wait for `context.whenReady` before you read it. */
  addresses: readonly string[]
  config: unknown
  /** Aborts when the source is being stopped. */
  signal: AbortSignal
}

export interface SourceOptions {
  /**
   * Makes a running source emit at least once, such as by sending to its address; called many times. May wait for
   * an answer: it is not awaited where the source is not being acknowledged. Default: a minute passes on its clock.
   */
  provoke?: (run: SourceRun) => Promise<void>
  /** Most emits that may be unanswered at once. Default 64. */
  outstanding?: number
  /** Members of the Context to replace; a fresh one is made for each test. */
  context?: () => Partial<Context>
}

interface Running extends SourceRun {
  received: Records[]
  outstanding: () => number
  most: () => number
  /** Rejects where it fails, or ends before it is stopped. */
  ended: Promise<never>
  /** Resolves when something has been emitted. */
  emitted: Promise<void>
  stop: () => Promise<void>
}

/** Starts the source and answers its emits, or never does. */
function start(
  definition: SourceDefinition,
  config: unknown,
  options: SourceOptions,
  answer: 'ack' | 'never' | 'stopping',
): Running {
  const context = testContext({ clock: new FakeClock(), ...options.context?.() }) as TestContext
  const controller = new AbortController()
  const { signal } = controller
  const received: Records[] = []
  const emitted = Promise.withResolvers<void>()
  let outstanding = 0
  let most = 0
  const emit = (records: Records): Promise<void> => {
    received.push(records)
    emitted.resolve()
    if (answer === 'stopping') return Promise.reject(stopping())
    if (answer === 'ack') return Promise.resolve()
    most = Math.max(most, ++outstanding)
    const { promise, reject } = Promise.withResolvers<void>()
    const end = () => {
      outstanding--
      reject(stopping())
    }
    if (signal.aborted) end()
    else signal.addEventListener('abort', end, { once: true })
    return promise
  }
  const source: Source = definition.create(config, context)
  const run = source.run(emit, signal)
  run.catch((error: unknown) => emitted.reject(error as Error))
  emitted.promise.catch(() => undefined)
  const ended = run.then(() => {
    throw new Error('the source ended')
  })
  ended.catch(() => undefined)
  return {
    context,
    addresses: context.addresses,
    config,
    signal,
    received,
    outstanding: () => outstanding,
    most: () => most,
    ended,
    emitted: emitted.promise,
    stop: async () => {
      controller.abort()
      await endsQuietly(run)
    },
  }
}

const passMinute = async ({ context }: SourceRun): Promise<void> => context.clock.advance(60_000)

/** Provokes until the source has emitted; a source that polls has done so at its start. */
async function provoked(run: Running, provoke: (run: SourceRun) => Promise<void>): Promise<void> {
  const attempts = (async () => {
    while (!run.signal.aborted && run.received.length === 0) {
      await provoke(run)
      await Promise.race([run.emitted, sleep(50)])
    }
  })()
  await Promise.race([run.emitted, attempts])
  await run.emitted
}

export function conformsToSource(
  definition: SourceDefinition,
  example: ExampleConfig,
  options: SourceOptions = {},
): void {
  const provoke = options.provoke ?? passMinute
  const begin = async (answer: 'ack' | 'never' | 'stopping') =>
    start(definition, configOf(definition, await exampleOf(example)), options, answer)

  describe(`${definition.name} as a source`, () => {
    conformsToDefinition(definition, example)

    test('says that it is ready', async () => {
      const run = await begin('ack')
      await Promise.race([run.context.whenReady, run.ended])
      await run.stop()
    })

    test('emits only what it declares, well-formed', async () => {
      const run = await begin('ack')
      await provoked(run, provoke)
      await run.stop()
      for (const records of run.received) {
        expect(definition.signals).toContain(records.signal)
        expectWellFormed(records, definition.emits)
        if (Object.keys(definition.emits).length > 0) expectDeclared(records, definition.emits)
      }
    })

    test('holds a bounded number of unanswered emits', async () => {
      const limit = options.outstanding ?? 64
      const run = await begin('never')
      const attempts = (async () => {
        await provoked(run, provoke)
        if (options.provoke) await Promise.allSettled(Array.from({ length: limit + 16 }, () => provoke(run)))
        else for (let left = limit + 16; left > 0; left--) await passMinute(run)
      })().catch(() => undefined)
      await run.emitted
      // Whoever waits for an answer waits for ever now, so this ends by time; what it looks for is an excess.
      await Promise.race([attempts, sleep(500)])
      await settle()
      expect(run.most()).toBeGreaterThan(0)
      expect(run.most()).toBeLessThanOrEqual(limit)
      await run.stop()
      await inTime(attempts, 'giving up on the peer')
    })

    test('stops in time when it is aborted', async () => {
      const run = await begin('ack')
      await Promise.race([run.context.whenReady, run.ended])
      await run.stop()
    })

    test('stops in time when it was aborted before it started', async () => {
      const config = configOf(definition, await exampleOf(example))
      const context = testContext({ clock: new FakeClock(), ...options.context?.() })
      const source = definition.create(config, context)
      await endsQuietly(source.run(() => Promise.reject(stopping()), AbortSignal.abort()))
    })

    test('ends quietly when an emit is rejected because the program stops', async () => {
      const run = await begin('stopping')
      const attempts = provoked(run, provoke).catch(() => undefined)
      await run.emitted.catch(() => undefined)
      await run.stop()
      await inTime(attempts, 'giving up on the peer')
      expect(run.context.logged.filter(({ level }) => level === 'error')).toEqual([])
    })

    test('leaves nothing open', async () => {
      await leavesNothingOpen(async () => {
        const run = await begin('ack')
        await provoked(run, provoke)
        await run.stop()
      })
    })
  })
}
