// Too little disk: a limit that a flood exceeds many times, and file systems that really are full. Nothing acknowledged
// is lost, errors have names, and all goes on when there is room.
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import { eventually, healthy, startProgram } from '../support/programs.ts'
import { ledgerOf, sendOverTcp } from '../support/traffic.ts'
import { inBothWorlds } from '../support/world.ts'

const MiB = 1024 * 1024

/** What the files below a directory occupy: blocks, not lengths. */
function occupied(directory: string): number {
  let total = 0
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const { blocks = 0 } = statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false }) ?? {}
    total += blocks * 512
  }
  return total
}

/** Lines that do not compress well. */
function randomLines(first: number, count: number): Buffer {
  const lines: string[] = []
  for (let index = first; index < first + count; index++) {
    const noise = Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join(' ')
    const text = `<134>1 ${new Date().toISOString()} dpu-7 noise - - - ${index} ${noise}`
    lines.push(`${text.length} ${text}`)
  }
  return Buffer.from(lines.join(''), 'latin1')
}

describe('--max-disk', () => {
  test('holds for all that is written under a flood of many times its size; the ledger counts what was removed', async () => {
    const portOffset = 8000
    const fleet = fleetOf({ portOffset, onTestFinished })
    const up = startProgram('up', { data: fleet.data, portOffset, arguments: ['--max-disk', '32MiB'] })
    onTestFinished(() => up.stop())
    await eventually('both are up', 30, () => healthy(portOffset))
    let most = 0
    const watch = setInterval(() => (most = Math.max(most, occupied(fleet.data))), 100)
    onTestFinished(() => clearInterval(watch))
    const flood = (function* () {
      const untilMs = performance.now() + 20_000
      for (let index = 0; performance.now() < untilMs && index < 2000; index++)
        yield randomLines(index * 1000, 1000)
    })()
    await sendOverTcp(5514 + portOffset, flood)
    const ledger = await eventually('a ledger that is settled', 30, async () => {
      const found = await ledgerOf(portOffset)
      return found.inFlight === 0 && found.produced > 0 && found
    })
    clearInterval(watch)
    process.stdout.write(`${ledger.produced} records, at most ${(most / MiB).toFixed(1)} MiB of 32\n`)
    expect(most).toBeLessThan(32 * MiB)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(up.output()).toContain('the store is at its limit')
  }, 90_000)
})

describe('limits.disk of a collector', () => {
  test('holds while no aggregator is there: a sender that can wait waits, and loses nothing', async () => {
    const portOffset = 9600
    const limit = 8 * MiB
    const fleet = fleetOf({ portOffset, onTestFinished })
    const config = join(fleet.data, 'limited.yaml')
    writeFileSync(
      config,
      `limits: { disk: ${limit / MiB}MiB }
sources: { lines: { type: syslog, tcp: '127.0.0.1:${5514 + portOffset}' } }
exporters: { fleet: { type: mqtt, urls: ['mqtt://127.0.0.1:${1883 + portOffset}'] } }
pipelines: { all: { sources: [lines], exporters: [fleet] } }
`,
    )
    const collector = startProgram('collector', {
      data: fleet.data,
      portOffset,
      arguments: ['--config', config],
    })
    onTestFinished(() => collector.stop())
    const ask = async () => (await fetch(`http://127.0.0.1:${8601 + portOffset}/api/ledger`)).json()
    await eventually('it answers', 30, ask)
    let most = 0
    const watch = setInterval(() => (most = Math.max(most, occupied(join(fleet.data, 'collector')))), 100)
    onTestFinished(() => clearInterval(watch))
    const lines = 300_000
    let given = 0
    const flood = (function* () {
      for (; given < lines; given += 1000) yield randomLines(given, 1000)
    })()
    const sent = sendOverTcp(5514 + portOffset, flood)
    let before = { given: 0, sinceMs: performance.now() }
    await eventually('the sender waits', 120, () => {
      if (given > before.given) before = { given, sinceMs: performance.now() }
      return given > 0 && performance.now() - before.sinceMs > 5000
    })
    expect(given).toBeLessThan(lines)
    expect(most).toBeGreaterThan(limit / 2)
    const aggregator = startProgram('aggregator', { data: fleet.data, portOffset })
    onTestFinished(() => aggregator.stop())
    await sent
    const ledger = await eventually('a ledger that is settled', 120, async () => {
      const found = await ledgerOf(portOffset)
      return found.inFlight === 0 && found.produced >= lines && found
    })
    clearInterval(watch)
    process.stdout.write(`at most ${(most / MiB).toFixed(1)} MiB of ${limit / MiB}\n`)
    expect(most).toBeLessThan(limit)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
  }, 300_000)
})

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

/** Takes all the room that is left, as another program would; again and again takes what became free meanwhile. */
function fillUp(path: string): void {
  const file = openSync(path, 'a')
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
    await eventually('some are acknowledged', 60, () => sender.acknowledged >= 2000)
    const filler = join(data, 'somebody-else')
    await eventually('the aggregator says what is wrong', 60, () => {
      fillUp(filler)
      return /DISK_FULL/.test(aggregator.output())
    })
    const before = sender.acknowledged
    await eventually(
      'the collector acknowledges from its own disk',
      60,
      () => sender.acknowledged > before + 5000,
    )
    rmSync(filler)
    await sender.stop()
    const ledger = await collector.settled(120, (found) => found.stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'full-aggregator'), sender.sends)).toEqual({
      lost: [],
      multiplied: [],
    })
    expect(aggregator.of('aggregator').child.exitCode).toBeNull()
    expect(collector.of('collector').child.exitCode).toBeNull()
  }, 400_000)
})

inBothWorlds('a file system that is full', (world) => {
  test('of the collector: it says so, a sender that can wait waits, and goes on when there is room', async ({
    skip,
  }) => {
    const portOffset = 8200
    const data = mounted(32) ?? skip(why)
    const place = await world.open({ portOffset, onTestFinished })
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
    const aggregator = fleetOf({ portOffset, ...place, onTestFinished })
    collector.start('collector')
    await collector.collectorListens()
    const sender = startSender(portOffset, { name: 'full-collector', perRequest: 50, everyMs: 20 })
    await eventually('some are acknowledged', 60, () => sender.acknowledged >= 2000)
    const filler = join(data, 'somebody-else')
    await eventually('the collector says what is wrong', 60, () => {
      fillUp(filler)
      return /no room for the buffer/.test(collector.output())
    })
    await eventually('senders wait', 60, () => {
      fillUp(filler)
      return sender.unanswered > 50
    })
    rmSync(filler)
    await eventually('and get their answers', 60, () => sender.unanswered < 20)
    await sender.stop()
    aggregator.start('aggregator')
    await aggregator.aggregatorAnswers()
    const ledger = await aggregator.settled(120, (found) => found.stored >= sender.sends.length)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'full-collector'), sender.sends)).toEqual({
      lost: [],
      multiplied: [],
    })
    expect(collector.of('collector').child.exitCode).toBeNull()
  }, 400_000)
})
