// Programs that stop answering without going away (SIGSTOP): what they leave is as when they hang in a device's driver.
import { test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet, Name } from '../support/fleet.ts'
import { sendOverTcp, syslogLines } from '../support/traffic.ts'
import { inBothWorlds } from '../support/world.ts'

const frozenMs = 20_000
const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms))

/** A program is frozen while an OTLP sender and a syslog connection go on; afterwards all that was sent is stored once. */
async function freezeUnderFlow(fleet: Fleet, name: Name) {
  const { portOffset } = fleet
  await fleet.startBoth()
  const sender = startSender(portOffset, { name: 'steady', perRequest: 10, everyMs: 20 })
  const lines = 40_000
  const chunks = Array.from({ length: lines / 100 }, (_, index) =>
    syslogLines(index * 100, 100, 'steady-lines'),
  )
  const sending = sendOverTcp(5514 + portOffset, chunks, (frozenMs + 3000) / chunks.length)
  await pause(1500)
  fleet.freeze(name)
  const fromMs = performance.now()
  await pause(frozenMs)
  const during = sender.answers.filter(({ atMs }) => atMs > fromMs + 1000)
  const unanswered = sender.unanswered
  fleet.thaw(name)
  await pause(1500)
  await Promise.all([sender.stop(), sending])
  const stored = sender.sends.length + lines
  const ledger = await fleet.settled(90, (found) => found.stored >= stored)
  return { sender, lines, during, unanswered, ledger }
}

inBothWorlds('while one of the programs is frozen for 20 s', (world) => {
  test.concurrent('the aggregator: the collector takes everything in and acknowledges it from its disk', async ({
    onTestFinished,
    expect,
  }) => {
    const portOffset = 7100
    const place = await world.open({ portOffset, onTestFinished })
    const fleet = fleetOf({ portOffset, ...place, onTestFinished })
    const { sender, lines, during, ledger } = await freezeUnderFlow(fleet, 'aggregator')
    // Acknowledged all the time, each soon.
    expect(during.length).toBeGreaterThan(800)
    expect(Math.max(...during.map(({ tookMs }) => tookMs))).toBeLessThan(5000)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'steady'), sender.sends)).toEqual({ lost: [], multiplied: [] })
    expect(sender.sends.every((times) => times === 1)).toBe(true)
    expect(
      wrongOf(
        await storedOf(portOffset, 'steady-lines', 'syslog.appname'),
        Array.from({ length: lines }, () => 1),
      ),
    ).toEqual({ lost: [], multiplied: [] })
  }, 180_000)

  test.concurrent('the collector: its senders wait, and nothing is lost or doubled', async ({
    onTestFinished,
    expect,
  }) => {
    const portOffset = 7200
    const place = await world.open({ portOffset, onTestFinished })
    const fleet = fleetOf({ portOffset, ...place, onTestFinished })
    const { sender, lines, during, unanswered, ledger } = await freezeUnderFlow(fleet, 'collector')
    expect(during).toEqual([])
    expect(unanswered).toBeGreaterThan(500)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
    expect(wrongOf(await storedOf(portOffset, 'steady'), sender.sends)).toEqual({ lost: [], multiplied: [] })
    expect(
      wrongOf(
        await storedOf(portOffset, 'steady-lines', 'syslog.appname'),
        Array.from({ length: lines }, () => 1),
      ),
    ).toEqual({ lost: [], multiplied: [] })
  }, 180_000)
})
