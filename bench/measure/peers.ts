// The peers of `bench servers`, each as its files in bench/peers say: two Telegrafs with Kafka between them, and an
// OpenTelemetry Collector before it.
import { join } from 'node:path'
import kafkajs from 'kafkajs'
import { connectAsync } from 'mqtt'
import type { Influx } from './influx.ts'
import { measured } from './ours.ts'
import { answered, programOf, root, startProgram } from './real.ts'
import type { Path, Setting } from './real.ts'
import { linesOf, perRequest, postRequests } from './traffic.ts'
import type { Kind } from './traffic.ts'

const settingsOf = (name: string): string => join(root, 'bench/peers', name)
const partitions = 12

async function makeTopics({ servers }: Setting, topics: readonly string[]): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers: [servers.kafka], logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  await admin.createTopics({ topics: topics.map((topic) => ({ topic, numPartitions: partitions })) })
  await admin.disconnect()
}

async function messagesIn({ servers }: Setting, topic: string): Promise<number> {
  const admin = new kafkajs.Kafka({ brokers: [servers.kafka], logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  const offsets = await admin.fetchTopicOffsets(topic)
  await admin.disconnect()
  return offsets.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0)
}

/** MQTT → Telegraf → Kafka → Telegraf → InfluxDB. Undefined where it is not installed. */
export async function createTelegraf(
  setting: Setting,
  influx: Influx,
  stack: AsyncDisposableStack,
): Promise<Path | undefined> {
  const program = programOf('telegraf')
  if (program === undefined) return undefined
  const { servers, name } = setting
  const topic = `${name}-telegraf`
  const bucket = `${name}-telegraf`
  await makeTopics(setting, [topic])
  await influx.makeBucket(bucket)
  const env = {
    BENCH_NAME: topic,
    BENCH_MQTT: servers.mqtt.replace('mqtt:', 'tcp:'),
    BENCH_MQTT_TOPIC: `${topic}/lines`,
    BENCH_KAFKA: servers.kafka,
    BENCH_TOPIC: topic,
    BENCH_INFLUX: servers.influx.origin,
    BENCH_INFLUX_ORG: servers.org,
    BENCH_INFLUX_TOKEN: servers.token,
    BENCH_BUCKET: bucket,
  }
  const start = (label: string, file: string) => {
    const running = startProgram(label, program, ['--config', settingsOf(file)], env)
    stack.defer(() => running.stop())
    return running
  }
  const programs = [
    start('telegraf, MQTT → Kafka', 'telegraf-mqtt-kafka.conf'),
    start('telegraf, Kafka → InfluxDB', 'telegraf-kafka-influxdb.conf'),
  ]
  const client = await connectAsync(servers.mqtt)
  stack.defer(() => client.endAsync(true))
  // A line that arrives says that both are up: it waits in nobody's memory until they are.
  const probe = async () => {
    await client.publishAsync(env.BENCH_MQTT_TOPIC, 'probe gauge=1', { qos: 1 })
    return (await influx.count(bucket, 'points')) > 0 || undefined
  }
  await answered(probe, 60, 'the start of Telegraf', 1000)
  let before = -1
  await answered(
    async () => {
      const now = await influx.count(bucket, 'points')
      const isStill = now === before
      before = now
      return isStill || undefined
    },
    30,
    'the end of the probes',
    2000,
  )
  const sent: Record<Kind, number> = { logs: 0, points: before }
  return {
    name: 'Telegraf: MQTT → Kafka → InfluxDB',
    run: (kind, base, range) =>
      measured(programs, async () => {
        sent[kind] += (range.to - range.from) * perRequest
        let next = range.from
        await Promise.all(
          Array.from({ length: 16 }, async () => {
            while (next < range.to)
              await client.publishAsync(env.BENCH_MQTT_TOPIC, linesOf(kind, base, next++), { qos: 1 })
          }),
        )
        const isThere = async () => (await influx.count(bucket, kind)) >= sent[kind] || undefined
        await answered(isThere, 300, `Telegraf storing ${sent[kind]} ${kind}`, 500)
      }),
    async check() {
      const stored = (await influx.count(bucket, 'logs')) + (await influx.count(bucket, 'points')) - before
      return `Telegraf: ${stored} of ${sent.logs + sent.points - before} records stored`
    },
  }
}

/** OTLP → OpenTelemetry Collector → Kafka. Undefined where it is not installed. */
export async function createOtelcol(
  setting: Setting,
  stack: AsyncDisposableStack,
): Promise<Path | undefined> {
  const program = programOf('otelcol')
  if (program === undefined) return undefined
  const { servers, name, portOffset } = setting
  const topic = `${name}-otelcol`
  const port = 4319 + portOffset
  await makeTopics(setting, [`${topic}-logs`, `${topic}-metrics`])
  const otelcol = startProgram(
    'otelcol, OTLP → Kafka',
    program,
    ['--config', settingsOf('otelcol-kafka.yaml')],
    {
      BENCH_PORT: String(port),
      BENCH_KAFKA: servers.kafka,
      BENCH_TOPIC: topic,
    },
  )
  stack.defer(() => otelcol.stop())
  await answered(
    async () => (await fetch(`http://127.0.0.1:${port}/`)) && true,
    30,
    'the OpenTelemetry Collector',
  )
  let requests = 0
  return {
    name: 'OpenTelemetry Collector: OTLP → Kafka',
    run: (kind, base, range) =>
      measured([otelcol], async () => {
        requests += range.to - range.from
        await postRequests(port, kind, base, range)
      }),
    async check() {
      const messages =
        (await messagesIn(setting, `${topic}-logs`)) + (await messagesIn(setting, `${topic}-metrics`))
      return `OpenTelemetry Collector: ${messages} messages in Kafka for ${requests} requests`
    },
  }
}
