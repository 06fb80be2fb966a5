// Everything at scale, with real servers: a collector, Mosquitto, two aggregators in one group on Kafka, InfluxDB. One
// aggregator is killed and another frozen; either answers for all, and every acknowledged record is stored once.
import { describe, expect, test } from 'vitest'
import { ulid } from 'ulid'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import { Influxd, influxToken, influxdPath } from '../support/influxd.ts'
import { brokers, kafkaPlace, noKafka } from '../support/kafka.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { ledgerOf } from '../support/traffic.ts'

const mqtt = process.env.MQTT_URL
const influxd = influxdPath()
const why =
  noKafka ??
  (mqtt === undefined ? 'MQTT_URL names no broker' : undefined) ??
  (influxd === undefined ? '../shared/services has no influxd here' : undefined)
process.env.INFLUX_TOKEN = influxToken
const partitions = 6

/** How many partitions an aggregator has. */
async function ownedBy(portOffset: number): Promise<number> {
  const text = await (await fetch(`${apiUrl(portOffset)}/metrics`)).text()
  return Number(/^dpulse_aggregator_journal_partitions (\d+)$/m.exec(text)?.[1] ?? Number.NaN)
}

describe('two aggregators on Mosquitto, Kafka and InfluxDB', () => {
  test('store every acknowledged record once while one is killed and one frozen, and either answers for all', async ({
    onTestFinished,
    skip,
  }) => {
    if (why !== undefined) skip(why)
    const store = await Influxd.start(influxd ?? '')
    onTestFinished(() => store[Symbol.asyncDispose]())
    const place = kafkaPlace()
    const root = `fleet-${ulid().toLowerCase()}`
    const aggregator = `
mqtt: { root: ${root} }
metrics: { interval: 0 }
journal: { kafka: { prefix: ${place.prefix}, group: ${place.group}, partitions: ${partitions} } }`
    const collector = `
collector: { id: relay }
sources: { programs: { type: otlp, http: '127.0.0.1:24518', grpc: false } }
exporters: { fleet: { type: mqtt, urls: ['${mqtt}'], root: ${root} } }
pipelines: { all: { sources: [programs], exporters: [fleet] } }`
    const servers = [
      '--broker',
      mqtt ?? '',
      '--journal',
      `kafka://${brokers.join(',')}`,
      '--store',
      store.store('fleet'),
    ]
    const [one, two] = [20_200, 20_300]
    const first = fleetOf({ portOffset: one, aggregator, collector, arguments: servers, onTestFinished })
    const second = fleetOf({ portOffset: two, aggregator, arguments: servers, onTestFinished })
    await first.startBoth()
    second.start('aggregator')
    await second.aggregatorAnswers()
    const half = partitions / 2
    await eventually(
      'both have half',
      60,
      async () => (await ownedBy(one)) === half && (await ownedBy(two)) === half,
    )

    const sender = startSender(one, { name: 'fleet', perRequest: 10, everyMs: 20, devices: 24 })
    const more = (count: number) => {
      const from = sender.acknowledged
      return eventually(`${count} more records acknowledged`, 60, () => sender.acknowledged >= from + count)
    }
    await more(2000)
    await second.kill('aggregator')
    await eventually('the first has all', 15, async () => (await ownedBy(one)) === partitions)
    await more(1000)
    second.start('aggregator')
    await second.aggregatorAnswers()
    await eventually('both have half again', 60, async () => (await ownedBy(one)) === half)
    second.freeze('aggregator')
    await eventually('the first has all again', 15, async () => (await ownedBy(one)) === partitions)
    await more(1000)
    second.thaw('aggregator')
    await eventually('it takes part again', 60, async () => (await ownedBy(two)) === half)
    await more(1000)
    await sender.stop()

    const ledger = await first.settled(90, ({ stored }) => stored >= sender.acknowledged)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0 })
    expect(wrongOf(await storedOf(one, 'fleet'), sender.sends)).toEqual({ lost: [], multiplied: [] })
    expect(wrongOf(await storedOf(two, 'fleet'), sender.sends)).toEqual({ lost: [], multiplied: [] })
    const other = await eventually('the other has the same ledger', 20, async () => {
      const found = await ledgerOf(two)
      return found.stored === ledger.stored && found
    })
    expect(other).toMatchObject({ balanced: true, produced: ledger.produced, unknown: 0 })
    const devicesOf = async (portOffset: number): Promise<string[]> => {
      const answer = await fetch(`${apiUrl(portOffset)}/api/devices`)
      return ((await answer.json()) as { device: string }[]).map(({ device }) => device)
    }
    expect(await devicesOf(one)).toEqual(await devicesOf(two))
  }, 400_000)
})
