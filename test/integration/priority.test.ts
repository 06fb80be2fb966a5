// Precious records beside floods, between real programs: what an event and a temperature reading wait for while log
// lines come by the hundred thousand. What is timed, and from where to where, is told at `startProbe`.
import { expect, onTestFinished, test } from 'vitest'
import { fleetOf } from '../support/fleet.ts'
import { eventually } from '../support/programs.ts'
import { ledgerOf, measureOf, sendOverTcp, startProbe, syslogLines } from '../support/traffic.ts'
import { inBothWorlds } from '../support/world.ts'
import type { World } from '../support/world.ts'

const portOffset = 7000
const syslogPort = 5514 + portOffset
const storedRecords = () => measureOf(portOffset, 'dpulse_aggregator_writer_records_total')
const takenRecords = () => measureOf(portOffset, 'dpulse_aggregator_ingest_records_total')

const fleetIn = async (world: World) =>
  fleetOf({ portOffset, ...(await world.open({ portOffset, onTestFinished })), onTestFinished })

/**
 * What there is of lines. Kafka keeps the order of a partition, so that on servers an event waits in its journal for the
 * lines before it until InfluxDB has them: there the store's time is bounded, and the promise is that of the sender.
 */
const sizesOf = ({ name }: World) =>
  name === 'embedded'
    ? { burst: 100_000, backlog: 500_000, storeMs: 2000 }
    : { burst: 50_000, backlog: 50_000, storeMs: 30_000 }

/** Each was sent every 100 ms, all came, and the slowest came within the promised time, to the journal and to a query. */
function judge(
  world: World,
  report: Awaited<ReturnType<Awaited<ReturnType<typeof startProbe>>['finish']>>,
  least: number,
) {
  for (const [kind, { sent, journal, store }] of Object.entries(report)) {
    process.stdout.write(`${kind}: journal ${JSON.stringify(journal)}, store ${JSON.stringify(store)} ms\n`)
    expect(sent).toBeGreaterThanOrEqual(least)
    expect(journal.count).toBe(sent)
    expect(store.count).toBe(sent)
    expect(journal.max).toBeLessThan(2000)
    expect(store.max).toBeLessThan(sizesOf(world).storeMs)
  }
}

inBothWorlds(
  'an event and a reading every 100 ms arrive in time, in the journal and in the store’s answers,',
  (world) => {
    const { burst, backlog } = sizesOf(world)

    test(`beside ${burst} log lines in one second`, async () => {
      await (await fleetIn(world)).startBoth()
      const chunks = Array.from({ length: 100 }, (_, index) =>
        syslogLines((index * burst) / 100, burst / 100),
      )
      await using probe = await startProbe(portOffset)
      await sendOverTcp(syslogPort, chunks, 10)
      await eventually('all lines are stored', 90, async () => (await storedRecords()) > burst)
      judge(world, await probe.finish(), 10)
      const { balanced, produced } = await ledgerOf(portOffset)
      expect({ balanced, all: produced > burst }).toEqual({ balanced: true, all: true })
    }, 180_000)

    test(`and beside a backlog of ${backlog} lines that the collector gathered while the aggregator was away`, async () => {
      const both = await fleetIn(world)
      await both.startBoth()
      await both.of('aggregator').stop()
      const chunks = (function* () {
        for (let first = 0; first < backlog; first += 1000) yield syslogLines(first, 1000)
      })()
      await sendOverTcp(syslogPort, chunks)
      both.start('aggregator')
      await both.aggregatorAnswers()
      await eventually('the backlog flows', 90, async () => (await takenRecords()) > 5000)
      await using probe = await startProbe(portOffset)
      await eventually('all lines are stored', 180, async () => (await storedRecords()) > backlog)
      judge(world, await probe.finish(), 10)
      const { balanced, dropped, unknown } = await eventually('nothing is under way', 60, async () => {
        const ledger = await ledgerOf(portOffset)
        return ledger.stored > backlog && ledger.inFlight === 0 && ledger
      })
      expect({ balanced, dropped, unknown }).toEqual({ balanced: true, dropped: {}, unknown: 0 })
    }, 400_000)
  },
)
