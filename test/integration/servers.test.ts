// Two aggregators in one group between a Mosquitto, a Kafka of three brokers and an InfluxDB of the test's own: what each
// answers for the whole fleet, and the failures of every server and program under flow. After each failure every
// acknowledged record is stored once, and the ledger balances.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { Influxd, influxdPath } from '../support/influxd.ts'
import { plainKafka } from '../support/kafka.ts'
import { noCluster, startCluster } from '../support/kafka-cluster.ts'
import type { KafkaCluster } from '../support/kafka-cluster.ts'
import type { Mosquitto } from '../support/mosquitto.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { measureOf } from '../support/traffic.ts'
import { onServers } from '../support/world.ts'

const portOffset = 19_700
const otherOffset = portOffset + 20
const deviceCount = 12
/** How long all of Kafka is away; `npm run soak` makes it two minutes. */
const outageMs = Number(process.env.OUTAGE_SECONDS ?? '20') * 1000
const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms))

const get = async <T>(offset: number, path: string): Promise<T> => {
  const answer = await fetch(apiUrl(offset) + path)
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as T
}
const partitionsOf = (offset: number) => measureOf(offset, 'dpulse_aggregator_journal_partitions')
const bothHaveHalf = () =>
  eventually('both aggregators have half of the partitions', 60, async () => {
    const [one, other] = [await partitionsOf(portOffset), await partitionsOf(otherOffset)]
    return one === 3 && other === 3
  })

onServers('two aggregators, a broker, a Kafka of three and an InfluxDB', (world) => {
  const tasks: (() => Promise<void>)[] = []
  const onTestFinished = (task: () => Promise<void>) => void tasks.unshift(task)
  let cluster: KafkaCluster
  let influxd: Influxd
  let broker: Mosquitto
  let one: Fleet
  let other: Fleet

  beforeAll(async () => {
    if (noCluster !== undefined) throw new Error(noCluster)
    cluster = startCluster(3, 19_200)
    onTestFinished(async () => cluster.down())
    influxd = await Influxd.start(influxdPath() ?? '')
    onTestFinished(() => influxd[Symbol.asyncDispose]())
    const own = { kafka: cluster.brokers, influxdb: influxd.url }
    const place = await world.open({ portOffset, onTestFinished, ...own })
    if (!place.broker || place.aggregator === undefined) throw new Error('no servers')
    broker = place.broker
    const collector = [
      'sources: { otlp: { type: otlp } }',
      'exporters: { aggregator: { type: mqtt, protocol_version: 5, ack_timeout: 5s } }',
      'pipelines: { all: { sources: [otlp], exporters: [aggregator] } }',
    ].join('\n')
    one = fleetOf({ portOffset, ...place, collector, onTestFinished })
    other = fleetOf({ portOffset: otherOffset, ...place, onTestFinished })
    await one.startBoth()
    other.start('aggregator')
    await other.aggregatorAnswers()
    await bothHaveHalf()
  }, 180_000)
  afterAll(async () => {
    for (const task of tasks) await task()
  })

  /** A flow about all devices, and what must be true of it in the end. */
  function startFlow(name: string) {
    const sender = startSender(portOffset, { name, perRequest: 10, everyMs: 25, devices: deviceCount })
    const more = (count: number, seconds = 40) => {
      const from = sender.acknowledged
      return eventually(
        `${count} more acknowledged records`,
        seconds,
        () => sender.acknowledged >= from + count,
      )
    }
    return {
      sender,
      more,
      /** Devices with a stored record that was sent after so many. */
      async served(from: number, offset: number) {
        const query = `since=2m&limit=10000&where=service.name=${name}`
        const page = await get<{ records: { device: string; body: string }[] }>(offset, `/api/logs?${query}`)
        const fresh = page.records.filter(({ body }) => Number(body.split(' ')[1]) >= from)
        return new Set(fresh.map(({ device }) => device)).size
      },
      async allStoredOnce() {
        await sender.stop()
        for (const fleet of [one, other]) {
          const ledger = await fleet.settled(60)
          expect(ledger).toMatchObject({ balanced: true, dropped: {} })
          expect(wrongOf(await storedOf(fleet.portOffset, name), sender.sends)).toEqual({
            lost: [],
            multiplied: [],
          })
        }
      },
    }
  }

  test('each answers for the whole fleet: devices, logs, ledger and retained state are the same on both', async () => {
    const flow = startFlow('alike')
    await flow.more(1000)
    await flow.allStoredOnce()
    const alike = async (path: string, pick: (answer: never) => unknown) => {
      const [here, there] = await Promise.all([
        get<never>(portOffset, path).then(pick),
        get<never>(otherOffset, path).then(pick),
      ])
      expect(here).toEqual(there)
      return here
    }
    const devices = await eventually('both know the same devices', 30, () =>
      alike('/api/devices', (list: { device: string; collector: string; state: string }[]) =>
        list
          .map(({ device, collector, state }) => `${device} ${collector} ${state}`)
          .toSorted((a, b) => (a < b ? -1 : 1)),
      ),
    )
    expect(devices).toHaveLength(deviceCount + 1)
    const streams = await alike('/api/ledger', (ledger: { streams: Record<string, unknown>[] }) =>
      ledger.streams.map(({ device, session, class: name, produced, stored, lastSeq }) => ({
        device,
        session,
        name,
        produced,
        stored,
        lastSeq,
      })),
    )
    expect(streams).not.toEqual([])
    const logs = await alike(
      '/api/logs?limit=1000&where=service.name=alike',
      (page: { records: unknown[] }) => page.records,
    )
    expect(logs).toHaveLength(1000)
  })

  test('the broker is killed and back', async () => {
    const flow = startFlow('broker')
    await flow.more(500)
    await broker.kill('SIGKILL')
    await flow.more(1000)
    await broker.start()
    await flow.more(500)
    await flow.allStoredOnce()
  })

  test('a broker of Kafka that leads partitions is killed and back', async () => {
    const flow = startFlow('leader')
    await flow.more(500)
    const admin = plainKafka(cluster.brokers).admin()
    await admin.connect()
    const { controller } = await admin.describeCluster()
    await admin.disconnect()
    const leader = controller ?? 1
    await cluster.kill(leader)
    const from = flow.sender.sends.length
    await eventually(
      'all devices are served without it',
      60,
      async () => (await flow.served(from, otherOffset)) === deviceCount,
    )
    cluster.revive(leader)
    await flow.more(500)
    await flow.allStoredOnce()
  }, 180_000)

  test('all of Kafka is away, and back', async () => {
    const flow = startFlow('kafka')
    await flow.more(500)
    for (const number of [1, 2, 3]) await cluster.kill(number)
    const until = performance.now() + outageMs
    const before = flow.sender.acknowledged
    await pause(Math.max(0, until - performance.now()))
    // The collector goes on, on its disk.
    expect(flow.sender.acknowledged).toBeGreaterThan(before + 1000)
    for (const number of [1, 2, 3]) cluster.revive(number)
    const from = flow.sender.sends.length
    await eventually(
      'all devices are served again',
      90,
      async () => (await flow.served(from, portOffset)) === deviceCount,
    )
    await flow.allStoredOnce()
  }, 400_000)

  test('InfluxDB is killed and back, then frozen', async () => {
    const flow = startFlow('influxdb')
    await flow.more(500)
    await influxd.kill()
    await flow.more(2000)
    await influxd.start()
    await flow.more(500)
    influxd.freeze()
    await flow.more(2000)
    influxd.thaw()
    await flow.allStoredOnce()
  }, 180_000)

  test('the collector is frozen, then killed', async () => {
    const flow = startFlow('collector')
    await flow.more(500)
    one.freeze('collector')
    await pause(10_000)
    one.thaw('collector')
    await flow.more(500)
    await one.kill('collector')
    one.start('collector')
    await one.collectorListens()
    await flow.more(500)
    await flow.allStoredOnce()
  }, 180_000)
})
