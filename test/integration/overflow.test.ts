// More than the buffer may hold, from a source that cannot wait: what is dropped is counted to the record, and the
// least precious goes first.
import { createSocket } from 'node:dgram'
import { expect, onTestFinished, test } from 'vitest'
import { fleetOf } from '../support/fleet.ts'
import { eventually } from '../support/programs.ts'
import { inBothWorlds } from '../support/world.ts'

const portOffset = 7300
const configuration = `
sources: { lines: { type: syslog, udp: '127.0.0.1:${5514 + portOffset}' }, precious: { type: otlp } }
exporters: { aggregator: { type: mqtt, buffer: { memory: 4MiB, disk: 8MiB } } }
pipelines: { all: { sources: [lines, precious], exporters: [aggregator] } }
`
const filler = 'x'.repeat(300)

/** What the collector says of the source and of its own buffer. */
async function told(): Promise<string> {
  const text = await (await fetch(`http://127.0.0.1:${8601 + portOffset}/metrics`)).text()
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
}

/** How many lines the source handed on or dropped. */
async function taken(): Promise<number> {
  const found = (await told()).matchAll(
    /^dpulse_collector_records_(?:out|dropped)_total\{dpulse_component="lines",.*\} (\d+)$/gm,
  )
  return [...found].reduce((sum, [, count]) => sum + Number(count), 0)
}

/** One datagram each; every hundredth an error. Never more under way than the kernel's buffer holds. */
async function sendDatagrams(count: number): Promise<{ log: number; log_error: number }> {
  const socket = createSocket('udp4')
  const sent = { log: 0, log_error: 0 }
  for (let index = 0; index < count; index++) {
    const name = index % 100 === 0 ? 'log_error' : 'log'
    sent[name]++
    const text = `<${name === 'log' ? 134 : 131}>1 ${new Date().toISOString()} dpu-7 flood - - - line ${index} ${filler}${Math.random()}`
    socket.send(text, 5514 + portOffset, '127.0.0.1')
    if (index % 200 === 199)
      await eventually('the source has read them', 60, async () => (await taken()) > index).catch(
        async (cause: unknown) => {
          throw new Error(`${index + 1} sent: ${await told()}`, { cause })
        },
      )
  }
  await new Promise<void>((resolve) => void socket.close(() => resolve()))
  return sent
}

async function sendEvents(count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const answer = await fetch(`http://127.0.0.1:${4318 + portOffset}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        resourceLogs: [
          {
            scopeLogs: [
              { logRecords: [{ eventName: 'link.down', body: { stringValue: `event ${index}` } }] },
            ],
          },
        ],
      }),
    })
    expect(answer.status).toBe(200)
    await new Promise((resume) => setTimeout(resume, 50))
  }
}

inBothWorlds('datagrams beyond the limits of the buffer while the aggregator is away', (world) => {
  test('are dropped and counted as overflow to the record, lines of log first, and events all arrive', async () => {
    const place = await world.open({ portOffset, onTestFinished })
    const fleet = fleetOf({ portOffset, ...place, collector: configuration, onTestFinished })
    fleet.start('collector')
    await fleet.collectorListens()
    const [sent] = await Promise.all([sendDatagrams(100_000), sendEvents(100)])
    fleet.start('aggregator')
    await fleet.aggregatorAnswers()
    const of = (name: string, ledger: { streams: { class: string; produced: number }[] }) =>
      ledger.streams
        .filter((stream) => stream.class === name)
        .reduce((sum, { produced }) => sum + produced, 0)
    // The totals of a stream that dropped its last records come by themselves.
    const ledger = await eventually('all that was sent is accounted for', 120, async () => {
      const found = await fleet.settled(120)
      const isThere = of('log', found) >= sent.log && of('log_error', found) >= sent.log_error
      return isThere && of('event', found) >= 100 && found
    }).catch(async (cause: unknown) => {
      throw new Error(JSON.stringify(await fleet.settled(5)), { cause })
    })
    process.stdout.write(
      `${JSON.stringify({ sent, ...ledger, streams: ledger.streams.map(({ class: name, produced, stored, dropped }) => ({ name, produced, stored, dropped })) })}\n`,
    )
    expect(ledger).toMatchObject({ balanced: true, unknown: 0 })
    expect(Object.keys(ledger.dropped)).toEqual(['overflow'])
    expect(of('log', ledger)).toBe(sent.log)
    expect(of('log_error', ledger)).toBe(sent.log_error)
    expect(ledger.produced).toBe(ledger.stored + (ledger.dropped.overflow ?? 0))
    for (const stream of ledger.streams) {
      if (stream.class === 'log') {
        expect(stream.dropped.overflow).toBeGreaterThan(0)
        // A class may fill 72 % of 8 MiB, at some 620 bytes a line. What making room takes at once (an eighth, and
        // whole segments) and what is ahead of it (1000 errors) never come to half of that.
        expect(stream.stored).toBeGreaterThan((8 * 1024 * 1024 * 0.72) / 620 / 2)
      } else expect(stream.dropped).toEqual({})
    }
  }, 400_000)
})
