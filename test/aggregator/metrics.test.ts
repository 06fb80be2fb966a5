// What the aggregator tells about itself is stored like any other metric, whatever its listeners ask of senders.
import { expect, onTestFinished, test } from 'vitest'
import { feedMetrics } from '../../aggregator/metrics.ts'
import { requestToJson } from '../../plugins/protocols/otlp/json.ts'
import { createAuthority } from '../support/certificates.ts'
import { FakeClock } from '../support/clock.ts'
import { testContext } from '../support/context.ts'
import { fleetOf } from '../support/fleet.ts'
import { apiUrl, eventually } from '../support/programs.ts'

const shape = { unit: '1', description: '' }
const second = 1_000_000_000n

test('a reading that the journal does not take is no harm to the next, and a counter tells since when it counts', async () => {
  const clock = new FakeClock()
  const over = new AbortController()
  let lag = 3
  const measures = [
    { ...shape, name: 'test.taken', kind: 'counter' as const, read: () => 7 },
    { ...shape, name: 'test.lag', kind: 'gauge' as const, read: () => [[{ topic: 'a' }, lag++]] as const },
  ]
  const taken: string[] = []
  let attempts = 0
  const took = Promise.withResolvers<void>()
  const take = async (bytes: Uint8Array) => {
    if (++attempts === 1) throw new Error('the journal is away')
    taken.push(requestToJson('metrics', bytes))
    took.resolve()
  }
  const resource = { 'host.id': 'dpu-1' }
  const { log } = testContext()
  const began = clock.nowUnixNano()
  const options = { measures, intervalMs: 15_000, resource, log, take, clock, signal: over.signal }
  const feeding = feedMetrics(options)
  await clock.advance(30_000)
  await took.promise
  over.abort()
  await feeding
  expect(attempts).toBe(2)
  expect(taken[0]).toContain('"stringValue":"dpu-1"')
  expect(taken[0]).toContain('"key":"topic","value":{"stringValue":"a"}')
  expect(taken[0]).toContain('"asDouble":4')
  expect(taken[0]).toContain(`"startTimeUnixNano":"${began}","timeUnixNano":"${began + 30n * second}"`)
})

test('own metrics are stored where the OTLP listener asks for TLS and is not on the usual port', async () => {
  const portOffset = 20_250
  const authority = createAuthority()
  onTestFinished(() => authority.remove())
  const { cert, key } = authority.certificate('aggregator')
  const fleet = fleetOf({
    portOffset,
    aggregator: `
otlp: { grpc: ['127.0.0.1:0'], http: ['127.0.0.1:0'], tls: { cert: ${cert}, key: ${key} } }
metrics: { interval: 1s }`,
    onTestFinished,
  })
  fleet.start('aggregator')
  await fleet.aggregatorAnswers()
  const found = await eventually('they are there', 20, async () => {
    const answer = await fetch(`${apiUrl(portOffset)}/api/query?metric=dpulse.aggregator.ingest.records`)
    const [series] = (await answer.json()) as { points: [string, number][] }[]
    return (series?.points.length ?? 0) > 2 && series
  })
  expect(found).toMatchObject({ kind: 'counter', unit: '{record}' })
  expect(found.points.at(-1)?.[1]).toBeGreaterThan(found.points[0]?.[1] ?? Infinity)
}, 60_000)
