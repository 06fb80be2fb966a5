// Too little disk: file systems that really are full. Nothing acknowledged
// is lost, errors have names, and all goes on when there is room.
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import { eventually } from '../support/programs.ts'

const MiB = 1024 * 1024

/** A file system of its own, in memory; undefined where this user may not mount. */
function mounted(sizeMiB: number): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-full-'))
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'dpulse-test', directory])
  onTestFinished(() => {
    if (status === 0) spawnSync('umount', ['-l', directory])
    rmSync(directory, { recursive: true, force: true })
  })
  return status === 0 ? directory : undefined
}
const why = 'this user may not mount a file system of a few MiB to fill it'

/** Takes all the room that is left, as another program would. */
function fillUp(directory: string): string {
  const path = join(directory, 'somebody-else')
  const file = openSync(path, 'w')
  try {
    for (const size of [MiB, 4096, 512]) {
      try {
        for (;;) writeSync(file, Buffer.alloc(size, 1))
      } catch {
        // Full, for pieces of this size.
      }
    }
  } finally {
    closeSync(file)
  }
  expect(statfsSync(directory).bavail).toBe(0)
  return path
}

describe('a file system that is full', () => {
  test('of the aggregator: it says so, the collector keeps what comes, and all is stored when there is room', async ({
    skip,
  }) => {
    const portOffset = 8100
    const data = mounted(64) ?? skip(why)
    const aggregator = fleetOf({ portOffset, data, onTestFinished })
    const collector = fleetOf({ portOffset, onTestFinished })
    aggregator.start('aggregator')
    await aggregator.aggregatorAnswers()
    collector.start('collector')
    await collector.collectorListens()
    const sender = startSender(portOffset, { name: 'full-aggregator', perRequest: 50, everyMs: 20 })
    await eventually('some are acknowledged', 20, () => sender.acknowledged >= 2000)
    const filler = fillUp(data)
    await eventually('the aggregator says what is wrong', 20, () => /DISK_FULL/.test(aggregator.output()))
    const before = sender.acknowledged
    await eventually(
      'the collector acknowledges from its own disk',
      20,
      () => sender.acknowledged > before + 5000,
    )
    rmSync(filler)
    await sender.stop()
    const ledger = await collector.settled(60, (found) => found.stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'full-aggregator'), sender.sends)).toEqual({
      lost: [],
      multiplied: [],
    })
    expect(aggregator.of('aggregator').child.exitCode).toBeNull()
    expect(collector.of('collector').child.exitCode).toBeNull()
  }, 120_000)

  test('of the collector: it says so, a sender that can wait waits, and goes on when there is room', async ({
    skip,
  }) => {
    const portOffset = 8200
    const data = mounted(32) ?? skip(why)
    const collector = fleetOf({
      portOffset,
      data,
      onTestFinished,
      collector: `
sources: { otlp: { type: otlp } }
exporters: { aggregator: { type: mqtt, buffer: { memory: 2MiB } } }
pipelines: { all: { sources: [otlp], exporters: [aggregator] } }
`,
    })
    const aggregator = fleetOf({ portOffset, onTestFinished })
    collector.start('collector')
    await collector.collectorListens()
    const sender = startSender(portOffset, { name: 'full-collector', perRequest: 50, everyMs: 20 })
    await eventually('some are acknowledged', 20, () => sender.acknowledged >= 2000)
    const filler = fillUp(data)
    await eventually('the collector says what is wrong', 20, () =>
      /no room for the buffer/.test(collector.output()),
    )
    await eventually('senders wait', 20, () => sender.unanswered > 50)
    rmSync(filler)
    await eventually('and get their answers', 20, () => sender.unanswered < 20)
    await sender.stop()
    aggregator.start('aggregator')
    await aggregator.aggregatorAnswers()
    const ledger = await aggregator.settled(40, (found) => found.stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'full-collector'), sender.sends)).toEqual({
      lost: [],
      multiplied: [],
    })
    expect(collector.of('collector').child.exitCode).toBeNull()
  }, 120_000)
})
