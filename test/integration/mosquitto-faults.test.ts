// Collector and aggregator with a Mosquitto between them that is killed, stopped, frozen, and too small: whatever it
// confirmed and lost the collector sends again, because only the aggregator's `ack` lets it forget.
import { describe, test } from 'vitest'
import type { TestContext } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { mosquittoIsHere, mosquittoOf, whyNoMosquitto } from '../support/mosquitto.ts'
import type { Mosquitto } from '../support/mosquitto.ts'
import { eventually } from '../support/programs.ts'
import { ledgerOf, measureOf } from '../support/traffic.ts'

const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms))

/** All beside a Mosquitto on the port where this machine's broker would be. */
async function start(
  portOffset: number,
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
  { lines = [] as string[], version = 5 } = {},
) {
  const broker = mosquittoOf({ port: 1883 + portOffset, lines, onTestFinished })
  await broker.start()
  const settings = `protocol_version: ${version}, ack_timeout: 3s`
  const fleet = fleetOf({
    portOffset,
    aggregator: `mqtt: { external: { urls: ['${broker.url}'], protocol_version: ${version} } }\n`,
    collector: [
      'sources: { otlp: { type: otlp } }',
      `exporters: { fleet: { type: mqtt, urls: ['${broker.url}'], ${settings} } }`,
      'pipelines: { all: { sources: [otlp], exporters: [fleet] } }',
      '',
    ].join('\n'),
    onTestFinished,
  })
  await fleet.startBoth()
  const sender = startSender(portOffset, { name: 'steady', perRequest: 10, everyMs: 20 })
  await eventually('records are stored', 20, async () => (await ledgerOf(portOffset)).stored > 300)
  return { broker, fleet, sender }
}

/** What the broker told collectors that it has. */
const confirmed = (broker: Mosquitto): number => broker.count('Sending PUBACK to dpulse-')

/** Nothing is on its way any more, the books agree, and every record that was sent is there as often as it was sent. */
async function allIsStored(
  fleet: Fleet,
  sender: ReturnType<typeof startSender>,
  expect: TestContext['expect'],
) {
  await sender.stop()
  const wrong = async () => wrongOf(await storedOf(fleet.portOffset, 'steady'), sender.sends)
  // The last ones may be spilled, and known to nobody but the collector. What never comes is told below.
  await eventually('every record', 60, async () => (await wrong()).lost.length === 0).catch(() => undefined)
  const ledger = await fleet.settled(60, (found) => found.stored >= sender.sends.length)
  expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {} })
  expect(await wrong()).toEqual({ lost: [], multiplied: [] })
}

const title = (what: string): string => (mosquittoIsHere ? what : `${what} (${whyNoMosquitto})`)

describe.skipIf(!mosquittoIsHere)(title('a Mosquitto that loses what it confirmed'), () => {
  test.concurrent('killed with messages that it had confirmed and not delivered: nothing is lost', async ({
    onTestFinished,
    expect,
  }) => {
    const lines = ['max_queued_messages 0', 'max_inflight_messages 0']
    const { broker, fleet, sender } = await start(18_500, { onTestFinished }, { lines })
    fleet.freeze('aggregator')
    const before = confirmed(broker)
    await eventually('the broker holds what it confirmed', 20, () => confirmed(broker) > before + 5)
    await broker.kill('SIGKILL')
    fleet.thaw('aggregator')
    await broker.start()
    await allIsStored(fleet, sender, expect)
    expect(await measureOf(18_500, 'dpulse_aggregator_broker_connects_total')).toBeGreaterThan(1)
  }, 150_000)

  test.concurrent('with room for ten messages, that drops what it confirmed and acks alike: all is stored once', async ({
    onTestFinished,
    expect,
  }) => {
    // A client of MQTT 5 would tell the broker how many it takes.
    const lines = ['max_queued_messages 10', 'max_inflight_messages 2', 'queue_qos0_messages false']
    const { broker, fleet, sender } = await start(18_800, { onTestFinished }, { lines, version: 4 })
    for (let round = 0; round < 3; round++) {
      fleet.freeze('aggregator')
      await pause(3000)
      fleet.thaw('aggregator')
      await pause(2000)
      // The way back: acks to a collector that does not read are dropped.
      fleet.freeze('collector')
      await pause(1000)
      fleet.thaw('collector')
    }
    expect(broker.count('Outgoing messages are being dropped for client dpulse-')).toBeGreaterThan(0)
    await allIsStored(fleet, sender, expect)
    expect(await measureOf(18_800, 'dpulse_aggregator_ingest_duplicates_total')).toBeGreaterThan(0)
  }, 150_000)
})

describe.skipIf(!mosquittoIsHere)(title('a Mosquitto that does not answer'), () => {
  test.concurrent('away for 10 s: the collector goes on acknowledging from its disk, and all comes when it is back', async ({
    onTestFinished,
    expect,
  }) => {
    const { broker, fleet, sender } = await start(18_600, { onTestFinished })
    await broker.kill('SIGTERM')
    const health = await eventually('health says so', 5, async () => {
      const answer = await fetch(`http://127.0.0.1:${8600 + 18_600}/api/health`)
      return !answer.ok && (await answer.text())
    })
    expect(health).toContain('no connection to the MQTT broker')
    const fromMs = performance.now()
    await pause(10_000)
    const during = sender.answers.filter(({ atMs }) => atMs > fromMs + 2000)
    expect(during.length).toBeGreaterThan(200)
    await broker.start()
    await fleet.aggregatorAnswers()
    await allIsStored(fleet, sender, expect)
    expect(fleet.output()).toContain('no connection to the MQTT broker')
  }, 150_000)

  test.concurrent('frozen for 20 s: what waits in its sockets comes once, and the collector waits for no one', async ({
    onTestFinished,
    expect,
  }) => {
    const { broker, fleet, sender } = await start(18_700, { onTestFinished })
    broker.freeze()
    const fromMs = performance.now()
    await pause(20_000)
    const during = sender.answers.filter(({ atMs }) => atMs > fromMs + 2000)
    broker.thaw()
    expect(during.length).toBeGreaterThan(400)
    await allIsStored(fleet, sender, expect)
  }, 150_000)
})
