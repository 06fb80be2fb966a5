// A collector that writes to Kafka itself, without a broker of MQTT between: the aggregator's ledger is the collector's own
// account all the same, since the header travels in the message.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { brokers, kafkaPlace, noKafka } from '../support/kafka.ts'
import { freePorts } from '../support/ports.ts'
import { eventually, healthy, startProgram } from '../support/programs.ts'
import { ledgerOf, sendOverTcp, syslogLines } from '../support/traffic.ts'

const portOffset = 18_700
const lines = 20_000

describe('a collector that writes to Kafka', () => {
  test('has every record stored, and its account told by the aggregator that reads there', async ({
    onTestFinished,
    skip,
  }) => {
    if (noKafka !== undefined) skip(noKafka)
    const { prefix, group } = kafkaPlace()
    const directory = mkdtempSync(join(tmpdir(), 'dpulse-kafka-exporter-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const [syslog = 0, influx = 0] = await freePorts(2)
    const start = async (name: 'aggregator' | 'collector', config: object, ...more: string[]) => {
      const file = join(directory, `${name}.yaml`)
      // YAML takes JSON.
      writeFileSync(file, JSON.stringify(config))
      const line = ['--config', file, ...more]
      const program = startProgram(name, { data: join(directory, name), portOffset, arguments: line })
      onTestFinished(() => program.stop())
      return program
    }
    const kafka = { prefix, group, partitions: 3 }
    await start(
      'aggregator',
      { journal: { kafka }, metrics: { interval: 0 } },
      '--journal',
      `kafka://${brokers.join(',')}`,
    )
    await eventually('the aggregator is up', 60, () => healthy(portOffset))
    await start('collector', {
      collector: { id: 'edge-1' },
      sources: {
        lines: { type: 'syslog', tcp: `127.0.0.1:${syslog}` },
        points: { type: 'influx', listen: `127.0.0.1:${influx}` },
      },
      exporters: { journal: { type: 'kafka', brokers, prefix } },
      pipelines: { all: { sources: ['lines', 'points'], exporters: ['journal'] } },
    })
    const write = (body: string) =>
      fetch(`http://127.0.0.1:${influx}/api/v2/write`, { method: 'POST', body }).then(({ status }) => status)
    await eventually('the collector takes points', 30, async () => (await write('a v=1')) === 204)
    expect(await write('a v=2\nbad\na v=3')).toBe(400)
    await sendOverTcp(syslog, [syslogLines(0, lines)])
    const ledger = await eventually('the books have all', 60, async () => {
      const found = await ledgerOf(portOffset)
      return found.stored === lines + 3 && found.inFlight === 0 && found
    })
    expect(ledger).toMatchObject({ produced: lines + 4, dropped: { invalid: 1 }, unknown: 0, balanced: true })
    expect(
      ledger.streams.map(({ collector, device, class: name, produced }) => [
        collector,
        device,
        name,
        produced,
      ]),
    ).toEqual(
      expect.arrayContaining([
        ['edge-1', 'edge-1', 'log', lines],
        ['edge-1', 'edge-1', 'resource', 4],
      ]),
    )
  }, 150_000)
})
