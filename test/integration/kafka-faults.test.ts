// Brokers of a real cluster of three that are killed: leaders move, or nothing answers for a while, and no batch that Kafka
// had confirmed is lost or counted twice.
import kafkajs from 'kafkajs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { kafkaPlace, plainKafka } from '../support/kafka.ts'
import { noCluster, startCluster } from '../support/kafka-cluster.ts'
import { allCountedOnce, startMemberProcess, startTraffic, storeFolder } from '../support/member-process.ts'
import { eventually } from '../support/programs.ts'

describe('a cluster of three brokers', () => {
  test('loses a leader, then all of them, and everything confirmed is stored and counted once', async ({
    skip,
  }) => {
    if (noCluster !== undefined) skip(noCluster)
    const cluster = startCluster(3, 19_000)
    onTestFinished(() => cluster.down())
    const { brokers } = cluster
    const place = kafkaPlace(brokers)
    const folder = storeFolder()
    const member = startMemberProcess(place, folder, brokers)
    await eventually('the member has all', 120, () => member.owned().length === 6)
    const traffic = startTraffic(place, brokers)
    await eventually('traffic flows', 120, () => traffic.seq() > 50)

    const admin = plainKafka(brokers).admin()
    await admin.connect()
    const name = `${place.prefix}otlp_logs`
    const { topics } = await admin.fetchTopicMetadata({ topics: [name] })
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames: ['min.insync.replicas'] }],
    })
    await admin.disconnect()
    expect(resources[0]?.configEntries).toMatchObject([{ configValue: '2' }])
    const leaders = topics[0]?.partitions.map(({ leader }) => leader) ?? []
    expect(new Set(leaders).size).toBeGreaterThan(1)
    expect(topics[0]?.partitions[0]?.replicas).toHaveLength(3)
    await cluster.kill(leaders[0] ?? 1)
    let seq = traffic.seq()
    await eventually('traffic flows without it', 120, () => traffic.seq() > seq + 50)
    cluster.revive(leaders[0] ?? 1)

    for (const broker of [1, 2, 3]) await cluster.kill(broker)
    const failures = traffic.failures()
    await eventually('senders are told', 120, () => traffic.failures() > failures + 1)
    for (const broker of [1, 2, 3]) cluster.revive(broker)
    seq = traffic.seq()
    await eventually('traffic flows again', 180, () => traffic.seq() > seq + 50)
    await traffic.stop()
    await allCountedOnce(place, brokers, folder, traffic)
  }, 700_000)
})
