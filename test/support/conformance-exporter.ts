// What every exporter owes, against a real peer: what it says was delivered has arrived, a peer that is gone can be
// tried again, and it stops.
import { describe, expect, test } from 'vitest'
import { RetryableError } from '../../plugins/contract/index.ts'
import type { Batch, Exporter, ExporterDefinition } from '../../plugins/contract/index.ts'
import {
  configOf,
  conformsToDefinition,
  endsQuietly,
  exampleOf,
  inTime,
  leavesNothingOpen,
} from './conformance-definition.ts'
import type { ExampleConfig } from './conformance-definition.ts'
import { realClock } from './clock.ts'
import { testContext } from './context.ts'
import { sampleBatch, sampleLogs, samplePoints } from './records.ts'

/** A real peer that the exporter delivers to: a server on port 0, a file. */
export interface ExporterPeer {
  /** Keys that reach this peer, put over the example configuration. */
  config: Readonly<Record<string, unknown>>
  /** Resolves once this many records (log records and points) have arrived since the start. */
  received(records: number): Promise<void>
  /** The peer goes away: no connection, no answer. */
  vanish?(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

interface Running {
  exporter: Exporter
  export: (batch: Batch, signal?: AbortSignal) => ReturnType<Exporter['export']>
  stop: () => Promise<void>
}

const timeLimitMs = 30_000
const timeLimit = (): AbortSignal => AbortSignal.timeout(timeLimitMs)

export function conformsToExporter(
  definition: ExporterDefinition,
  example: ExampleConfig,
  options: {
    peer: () => Promise<ExporterPeer>
    /** For files and pipes: there is nobody who could go away. */
    local?: true
  },
): void {
  async function start(peer: ExporterPeer): Promise<Running> {
    const given = { ...((await exampleOf(example)) as object), ...peer.config }
    const context = testContext({ clock: realClock })
    const exporter = definition.create(configOf(definition, given), context)
    const controller = new AbortController()
    const run = exporter.run?.(controller.signal)
    if (run) await Promise.race([run, context.whenReady])
    return {
      exporter,
      export: (batch, signal = timeLimit()) => exporter.export(batch, signal),
      stop: async () => {
        controller.abort()
        if (run) await endsQuietly(run)
      },
    }
  }

  describe(`${definition.name} as an exporter`, () => {
    conformsToDefinition(definition, example)

    test('has delivered what its receipt says', async () => {
      await using peer = await options.peer()
      const running = await start(peer)
      const logs = sampleBatch(sampleLogs([{}, {}, { body: 'ünïcödé\n\u0000' }]))
      const points = sampleBatch(samplePoints(5), { seq: 2 })
      expect((await running.export(logs)).rejected).toBe(0)
      expect((await running.export(points)).rejected).toBe(0)
      await peer.received(8)
      await running.stop()
    })

    test('leaves the batch as it was', async () => {
      await using peer = await options.peer()
      const running = await start(peer)
      const batch = sampleBatch(sampleLogs([{}, {}]))
      const before = Buffer.from(batch.bytes)
      await running.export(batch)
      expect(before.equals(batch.bytes)).toBe(true)
      await running.stop()
    })

    test('takes batches side by side', async () => {
      await using peer = await options.peer()
      const running = await start(peer)
      const batches = Array.from({ length: 8 }, (_, index) =>
        sampleBatch(sampleLogs([{}]), { seq: index + 1 }),
      )
      const receipts = await Promise.all(batches.map((batch) => running.export(batch)))
      expect(receipts.map(({ rejected }) => rejected)).toEqual(batches.map(() => 0))
      await peer.received(8)
      await running.stop()
    })

    const vanishing = async (): Promise<void> => {
      await using peer = await options.peer()
      if (!peer.vanish)
        throw new Error('the peer of this test cannot vanish; say local: true where that is right')
      const running = await start(peer)
      await running.export(sampleBatch(sampleLogs([{}])))
      await peer.vanish()
      const attempt = running.export(sampleBatch(sampleLogs([{}]), { seq: 2 }), AbortSignal.timeout(1000))
      const error: unknown = await inTime(
        attempt.then(
          () => undefined,
          (cause: unknown) => cause,
        ),
        'an export to a peer that is gone',
      )
      expect(error).toBeInstanceOf(Error)
      expect(
        error instanceof RetryableError || ['AbortError', 'TimeoutError'].includes((error as Error).name),
      ).toBe(true)
      await running.stop()
    }
    if (!options.local) test('throws what can be tried again when its peer is gone', vanishing)

    test('gives up at once when it is aborted before it tries', async () => {
      await using peer = await options.peer()
      const running = await start(peer)
      const attempt = running.export(sampleBatch(sampleLogs([{}])), AbortSignal.abort())
      await expect(inTime(attempt, 'an aborted export')).rejects.toBeInstanceOf(Error)
      await running.stop()
    })

    test('leaves nothing open', async () => {
      await leavesNothingOpen(async () => {
        await using peer = await options.peer()
        const running = await start(peer)
        await running.export(sampleBatch(sampleLogs([{}])))
        await running.stop()
      })
    })
  })
}
