// The short form of the kill test; `npm run soak` is the long one.
import { describe, expect, onTestFinished, test } from 'vitest'
import { killRun } from '../support/kill-run.ts'
import type { KillRun } from '../support/kill-run.ts'
import { onServers } from '../support/world.ts'

const title = 'every acknowledged record is stored, none more often than it was sent, and the ledger balances'
const kills = 4
const run = { seed: 20, records: 60_000, kills, pauseMs: 2500 }

async function judge(how: Pick<KillRun, 'under' | 'portOffset' | 'aggregator'>) {
  const result = await killRun({ ...run, ...how })
  expect(result).toMatchObject({ lost: [], multiplied: [], invented: [], balanced: true })
  expect(result.acknowledged).toBe(run.records)
  expect(result.kills).toEqual({ collector: kills, aggregator: kills })
}

describe.each(['up', 'alone'] as const)(
  'collector and aggregator killed at random, embedded, %s',
  (under) => {
    test(title, () => judge({ under, portOffset: under === 'up' ? 23_000 : 23_100 }), 400_000)
  },
)

onServers('collector and aggregator killed at random', (world) => {
  test(
    title,
    async () => {
      const portOffset = 23_100
      const place = await world.open({ portOffset, onTestFinished })
      await judge({ under: 'alone', portOffset, ...place })
    },
    400_000,
  )
})
