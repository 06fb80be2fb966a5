// Two aggregators in one group between a Mosquitto, a Kafka of three brokers and an InfluxDB of the test's own: what each
// answers for the whole fleet, and under a flow about twelve devices the failure of every server and every program. After
// each of them every acknowledged record is stored once, both ledgers balance, and both aggregators answer alike.
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dpulse } from '../support/command-line.ts'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { Influxd, influxdPath } from '../support/influxd.ts'
import { plainKafka } from '../support/kafka.ts'
import { noCluster, startCluster } from '../support/kafka-cluster.ts'
import type { KafkaCluster } from '../support/kafka-cluster.ts'
import type { Mosquitto } from '../support/mosquitto.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { measureOf } from '../support/traffic.ts'
import type { Ledger } from '../support/traffic.ts'
import { onServers } from '../support/world.ts'

const portOffset = 19_700
const otherOffset = portOffset + 20
const partitions = 6
const deviceCount = 12
const kafkaIsAwayMs = 120_000
const pause = (ms: number) => new Promise((resume) => setTimeout(resume, ms))

async function get<T>(offset: number, path: string): Promise<T> {
  const answer = await fetch(apiUrl(offset) + path)
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as T
}

const lagOf = (offset: number) => measureOf(offset, 'dpulse_aggregator_journal_lag\\{topic="otlp_logs"\\}')
const ownedBy = (offset: number) => measureOf(offset, 'dpulse_aggregator_journal_partitions')

/** Asks both, until they say the same and it is what is wanted. */
const alike = <T>(path: string, pick: (answer: never) => T, isWanted: (answer: T) => boolean): Promise<T> =>
  eventually(`both answer ${path} alike`, 30, async () => {
    const answers = await Promise.all(
      [portOffset, otherOffset].map((offset) => get<never>(offset, path).then(pick)),
    )
    const [one, other] = answers.map((answer) => JSON.stringify(answer))
    return one === other && answers[0] !== undefined && isWanted(answers[0]) && answers[0]
  })

type Listed = {
  device: string
  name: string
  state: string
  collector: string
  version: string
  labels: object
}
const devicesAlike = () =>
  alike(
    '/api/devices',
    (list: Listed[]) =>
      list
        .filter(({ collector }) => collector === 'relay')
        .map(({ device, name, state, version, labels }) => ({ device, name, state, version, labels })),
    (list) => list.length === deviceCount + 1 && list.every(({ state }) => state === 'online'),
  )

/** The devices about which that aggregator's live tail shows a record of that name. */
async function heardLive(
  offset: number,
  name: string,
  signal: AbortSignal,
  heard: Set<string>,
): Promise<void> {
  const answer = await fetch(`${apiUrl(offset)}/api/live?where=service.name=${name}`, { signal })
  let rest = ''
  for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('data: {"id"')) heard.add((JSON.parse(line.slice(6)) as { device: string }).device)
    }
  }
}

/** The same servers, chosen by options and not by the file. */
function byCommandLine(aggregator: string): { aggregator: string; arguments: string[] } {
  const { mqtt, journal, store } = JSON.parse(aggregator) as {
    mqtt: { external: { urls: string[] } }
    journal: { kafka: { brokers?: string[] } }
    store: { influxdb: { url: string; org: string; bucket: string } }
  }
  const { brokers = [], ...kafka } = journal.kafka
  const { url, org, bucket } = store.influxdb
  const influxdb = `${url.replace('http:', 'influxdb:')}/${org}/${bucket}`
  return {
    aggregator: JSON.stringify({ journal: { kafka }, store: { influxdb: { downsampled: 0 } } }),
    arguments: [
      '--broker',
      mqtt.external.urls[0] ?? '',
      '--journal',
      `kafka://${brokers.join()}`,
      '--store',
      influxdb,
    ],
  }
}

onServers('two aggregators, a broker, a Kafka of three and an InfluxDB', (world) => {
  const tasks: (() => Promise<void>)[] = []
  const onTestFinished = (task: () => Promise<void>) => void tasks.unshift(task)
  let cluster: KafkaCluster
  let influxd: Influxd
  let broker: Mosquitto
  let one: Fleet
  let other: Fleet
  /** By all flows. */
  let sent = 0

  const bothHaveHalf = () =>
    eventually('both have half of the partitions', 90, async () => {
      const owned = await Promise.all([ownedBy(portOffset), ownedBy(otherOffset)])
      return owned.every((count) => count === partitions / 2)
    })

  beforeAll(async () => {
    if (noCluster !== undefined) throw new Error(noCluster)
    cluster = startCluster(3, 19_200)
    onTestFinished(async () => cluster.down())
    influxd = await Influxd.start(influxdPath() ?? '')
    onTestFinished(() => influxd[Symbol.asyncDispose]())
    const own = { kafka: cluster.brokers, influxdb: influxd.url, partitions }
    const place = await world.open({ portOffset, onTestFinished, ...own })
    if (!place.broker || place.aggregator === undefined) throw new Error('no servers')
    broker = place.broker
    const collector = `
collector: { id: relay, labels: { dpu.rack: r7 } }
sources: { otlp: { type: otlp } }
exporters: { aggregator: { type: mqtt, ack_timeout: 5s } }
pipelines: { all: { sources: [otlp], exporters: [aggregator] } }`
    one = fleetOf({ portOffset, ...place, collector, onTestFinished })
    other = fleetOf({ portOffset: otherOffset, ...byCommandLine(place.aggregator), onTestFinished })
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
    const sender = startSender(portOffset, { name, perRequest: 10, everyMs: 50, devices: deviceCount })
    const more = (count: number) => {
      const from = sender.acknowledged
      return eventually(`${count} more acknowledged`, 60, () => sender.acknowledged >= from + count)
    }
    /** Every device has a record in the store that was sent from now on. */
    const served = (offset: number, seconds: number) => {
      const from = sender.sends.length
      return eventually('records about all devices are stored again', seconds, async () => {
        const path = `/api/logs?since=2m&limit=10000&where=service.name=${name}`
        const { records } = await get<{ records: { device: string; body: string }[] }>(offset, path)
        const fresh = records.filter(({ body }) => Number(body.split(' ')[1]) >= from)
        return new Set(fresh.map(({ device }) => device)).size === deviceCount
      })
    }
    const allStoredOnce = async () => {
      await sender.stop()
      sent += sender.sends.length
      // Of what only the collector's buffer holds no ledger of an aggregator knows.
      const isThere = ({ streams }: Ledger) =>
        streams.reduce((sum, { device, stored }) => sum + (device.startsWith('dpu-') ? stored : 0), 0) >= sent
      for (const fleet of [one, other]) {
        const ledger = await fleet.settled(90, isThere)
        expect(ledger).toMatchObject({ balanced: true, dropped: {} })
        const stored = await storedOf(fleet.portOffset, name)
        expect(wrongOf(stored, sender.sends)).toEqual({ lost: [], multiplied: [] })
      }
    }
    return { sender, more, served, allStoredOnce }
  }

  test('each answers for the whole fleet: devices, logs, ledger and live tail, also after one started again', async () => {
    const over = new AbortController()
    const heard = [new Set<string>(), new Set<string>()]
    const listening = [portOffset, otherOffset].map((offset, index) =>
      heardLive(offset, 'alike', over.signal, heard[index] ?? new Set()).catch(() => undefined),
    )
    const flow = startFlow('alike')
    await eventually('both live tails show all devices', 60, () =>
      heard.every((devices) => devices.size === deviceCount),
    )
    const shows = (device: number) => (text: string) => text.includes(`"device":"dpu-${device}"`)
    for (const device of [1, 2, 3, 4]) {
      const line = ['logs', '--follow', '--device', `dpu-${device}`, '-o', 'json', '--since', 'now']
      const { stdout } = await dpulse(line, { url: apiUrl(otherOffset), until: shows(device) })
      expect(stdout).toContain(`"device":"dpu-${device}"`)
    }
    over.abort()
    await Promise.all(listening)
    await flow.more(200)
    await flow.allStoredOnce()
    const devices = await devicesAlike()
    expect(devices.find(({ device }) => device === 'relay')).toMatchObject({ labels: { 'dpu.rack': 'r7' } })
    const streamsAlike = () =>
      alike(
        '/api/ledger',
        ({ streams }: { streams: Record<string, unknown>[] }) =>
          streams.filter((stream) => String(stream.device).startsWith('dpu-')),
        (streams) => streams.length === deviceCount,
      )
    const streams = await streamsAlike()
    const path = '/api/logs?limit=1000&where=service.name=alike'
    const logsAlike = () =>
      alike(
        path,
        (page: { records: unknown[] }) => page.records,
        ({ length }) => length > 0,
      )
    const logs = await logsAlike()

    await other.of('aggregator').stop()
    other.start('aggregator')
    await other.aggregatorAnswers()
    expect(await devicesAlike()).toEqual(devices)
    expect(await streamsAlike()).toEqual(streams)
    expect(await logsAlike()).toEqual(logs)
    await bothHaveHalf()
  }, 240_000)

  test('the broker killed and back, InfluxDB killed and back and frozen', async () => {
    const flow = startFlow('broker-and-store')
    await flow.more(300)
    await broker.kill('SIGKILL')
    await flow.more(600)
    await broker.start()
    await flow.served(otherOffset, 60)
    await influxd.kill()
    await flow.more(1000)
    await influxd.start()
    await flow.served(portOffset, 60)
    influxd.freeze()
    await flow.more(1000)
    // What waits in Kafka is told by whoever owns its partition, and none of it once all is stored.
    const lags = () => Promise.all([portOffset, otherOffset].map(lagOf))
    await eventually('both tell their lag', 20, async () => (await lags()).every((lag) => lag > 0))
    influxd.thaw()
    await flow.allStoredOnce()
    await eventually('no lag is left', 20, async () => (await lags()).every((lag) => lag === 0))
  }, 240_000)

  test('the collector frozen and killed, an aggregator killed and frozen, and a rebalance under load each time', async () => {
    const flow = startFlow('programs')
    await flow.more(300)
    await other.kill('aggregator')
    await flow.served(portOffset, 15)
    expect(await ownedBy(portOffset)).toBe(partitions)
    other.start('aggregator')
    await other.aggregatorAnswers()
    await bothHaveHalf()
    await flow.more(300)
    other.freeze('aggregator')
    await eventually('the first has all again', 15, async () => (await ownedBy(portOffset)) === partitions)
    await flow.more(300)
    other.thaw('aggregator')
    await bothHaveHalf()
    one.freeze('collector')
    await pause(5000)
    one.thaw('collector')
    await flow.more(300)
    await one.kill('collector')
    one.start('collector')
    await one.collectorListens()
    await flow.more(300)
    await flow.allStoredOnce()
    await devicesAlike()
  }, 240_000)

  test('a leader of Kafka killed and back, then all three brokers away for two minutes, and the collector killed meanwhile', async () => {
    const flow = startFlow('kafka')
    await flow.more(300)
    const admin = plainKafka(cluster.brokers).admin()
    await admin.connect()
    const { controller } = await admin.describeCluster()
    await admin.disconnect()
    await cluster.kill(controller ?? 1)
    await flow.served(otherOffset, 60)
    cluster.revive(controller ?? 1)
    await flow.more(300)

    await Promise.all([1, 2, 3].map((number) => cluster.kill(number)))
    const until = performance.now() + kafkaIsAwayMs
    // The collector goes on, on its disk, and so does the next one on what that one left.
    await flow.more(2000)
    await one.kill('collector')
    one.start('collector')
    await one.collectorListens()
    await flow.more(2000)
    await pause(Math.max(0, until - performance.now()))
    for (const number of [1, 2, 3]) cluster.revive(number)
    await flow.served(portOffset, 240)
    await bothHaveHalf()
    await flow.allStoredOnce()
    await devicesAlike()
  }, 600_000)
})
