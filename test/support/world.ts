// The two worlds in which programs are tested: with the embedded parts, and with Mosquitto, Kafka and InfluxDB in their
// places. Each fleet has a Mosquitto on the port where the embedded broker would be, topics and a group of its own in the
// Kafka and a bucket of its own in the InfluxDB that the environment names (test/run.ts brings both up).
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import kafkajs from 'kafkajs'
import { ulid } from 'ulid'
import { describe } from 'vitest'
import { fleetOf } from './fleet.ts'
import { mosquittoIsHere, mosquittoOf, whyNoMosquitto } from './mosquitto.ts'
import type { Mosquitto } from './mosquitto.ts'
import { eventually, healthy, startProgram } from './programs.ts'

type Tidy = (task: () => Promise<void>) => void

/** What a fleet of that world is given; spread into the options of `fleetOf`. */
export interface Place {
  /** YAML for the aggregator, where it is not on its own. */
  readonly aggregator?: string
  readonly broker?: Mosquitto
}

export interface PlaceOptions {
  portOffset: number
  onTestFinished: Tidy
  /** Servers of the test's own, that it may kill; otherwise those of the environment. */
  kafka?: readonly string[]
  influxdb?: string
  partitions?: number
  /** A broker that lets in who has a login: lines of its configuration, and the aggregators' own. */
  logins?: { lines: readonly string[]; aggregator: { username: string; password: { file: string } } }
}

export interface World {
  readonly name: 'embedded' | 'servers'
  /** Why it cannot be tested here. */
  readonly missing: string | undefined
  /** How long a record may take to its answer: other programs of this machine take their part of it. */
  readonly seconds: number
  open(options: PlaceOptions): Promise<Place>
}

const { KAFKA_BROKERS: kafkaOfEnvironment, INFLUX_URL: influxOfEnvironment } = process.env
const organisation = process.env.INFLUX_ORG ?? 'test'
const token = process.env.INFLUX_TOKEN ?? 'test-token'

const embedded: World = {
  name: 'embedded',
  missing: undefined,
  seconds: 2,
  open: () => Promise.resolve({}),
}

const servers: World = {
  name: 'servers',
  missing: missingServers(),
  seconds: 15,
  async open({ portOffset, onTestFinished, ...own }) {
    const name = `w${ulid().toLowerCase()}`
    const brokers = own.kafka ?? kafkaOfEnvironment?.split(',') ?? []
    const influxdb = own.influxdb ?? influxOfEnvironment ?? ''
    const { logins } = own
    const guarded = logins && { lines: logins.lines, anonymous: false }
    const broker = mosquittoOf({ port: 1883 + portOffset, ...guarded, onTestFinished })
    // Servers of a test's own go as a whole.
    if (!own.kafka) onTestFinished(() => dropTopics(brokers, `${name}.`))
    if (!own.influxdb) onTestFinished(() => dropBuckets(influxdb, name))
    await broker.start()
    const kafka = { brokers, prefix: `${name}.`, group: name, partitions: own.partitions ?? 6 }
    // Tasks of InfluxDB would run on behind the tests.
    const influx = { url: influxdb, org: organisation, bucket: name, downsampled: 0 }
    const configuration = {
      mqtt: { external: { urls: [broker.url], ...logins?.aggregator } },
      journal: { kafka },
      store: { influxdb: influx },
    }
    return { aggregator: JSON.stringify(configuration), broker }
  },
}

export const worlds: readonly World[] = [embedded, servers]

function missingServers(): string | undefined {
  if (!mosquittoIsHere) return whyNoMosquitto
  if (!kafkaOfEnvironment) return 'KAFKA_BROKERS names no Kafka; `npm test` starts one'
  if (!influxOfEnvironment) return 'INFLUX_URL names no InfluxDB; `npm test` starts one'
  process.env.INFLUX_TOKEN = token
  return undefined
}

/** The same tests once in each world. */
export function inBothWorlds(title: string, tests: (world: World) => void): void {
  for (const world of worlds) inWorld(world, title, tests)
}

/** Tests of what only real servers have. */
export function onServers(title: string, tests: (world: World) => void): void {
  inWorld(servers, title, tests)
}

function inWorld(world: World, title: string, tests: (world: World) => void): void {
  const why = world.missing === undefined ? '' : ` (${world.missing})`
  describe.skipIf(world.missing !== undefined)(`${title}, ${world.name}${why}`, () => {
    tests(world)
  })
}

/**
 * Both programs, until they answer, for all tests of a file: under `dpulse up` with embedded parts, and each alone with
 * servers. `collector` is YAML. `parent` is the process of `dpulse up`.
 */
export async function startInWorld(world: World, portOffset: number, collector?: string) {
  const tasks: (() => Promise<void>)[] = []
  const onTestFinished: Tidy = (task) => void tasks.unshift(task)
  const stop = async () => {
    for (const task of tasks) await task()
  }
  try {
    if (world.name === 'embedded') {
      const data = mkdtempSync(join(tmpdir(), 'dpulse-up-'))
      onTestFinished(async () => rmSync(data, { recursive: true, force: true }))
      const file = join(data, 'collector.yaml')
      if (collector !== undefined) writeFileSync(file, collector)
      const more = collector === undefined ? [] : ['--config', file]
      const up = startProgram('up', { data, portOffset, arguments: more })
      onTestFinished(() => up.stop())
      await eventually('dpulse up is healthy', 90, () => healthy(portOffset))
      return { stop, output: () => up.output(), parent: up.child.pid }
    }
    const place = await world.open({ portOffset, onTestFinished })
    const fleet = fleetOf({
      portOffset,
      ...place,
      ...(collector !== undefined && { collector }),
      onTestFinished,
    })
    await fleet.startBoth()
    return { stop, output: () => fleet.output(), parent: undefined }
  } catch (error) {
    await stop()
    throw error
  }
}

async function dropTopics(brokers: readonly string[], prefix: string): Promise<void> {
  const logLevel = kafkajs.logLevel.NOTHING
  const admin = new kafkajs.Kafka({ clientId: 'test', brokers: [...brokers], logLevel }).admin()
  await admin.connect()
  const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(prefix))
  if (topics.length > 0) await admin.deleteTopics({ topics })
  await admin.disconnect()
}

async function dropBuckets(url: string, prefix: string): Promise<void> {
  const headers = { authorization: `Token ${token}` }
  const answer = await fetch(`${url}/api/v2/buckets?limit=100&org=${organisation}`, { headers })
  const { buckets } = (await answer.json()) as { buckets: { id: string; name: string }[] }
  for (const { id, name } of buckets) {
    if (name.startsWith(prefix)) await fetch(`${url}/api/v2/buckets/${id}`, { method: 'DELETE', headers })
  }
}
