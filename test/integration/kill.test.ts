// The short form of the kill test; `npm run soak` is the long one.
import { describe, expect, test } from 'vitest'
import { killRun } from '../support/kill-run.ts'

describe.each(['up', 'alone'] as const)('collector and aggregator killed at random, %s', (under) => {
  test('every acknowledged record is stored, none more often than it was sent, and the ledger balances', async () => {
    const portOffset = under === 'up' ? 23_000 : 23_100
    const result = await killRun({ seed: 20, records: 60_000, kills: 4, under, portOffset, pauseMs: 2500 })
    expect(result).toMatchObject({ lost: [], multiplied: [], invented: [], balanced: true })
    expect(result.acknowledged).toBe(60_000)
    expect(result.kills).toEqual({ collector: 4, aggregator: 4 })
  }, 400_000)
})
