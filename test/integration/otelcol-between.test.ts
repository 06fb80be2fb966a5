// An OpenTelemetry Collector between our collector and our aggregator. It writes every request anew, so the header with
// the account is gone, whether it joins batches or not: the aggregator keeps an account of what it took in, as a stream
// of that sender, and what happened before is the other's business.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import type { Fleet } from '../support/fleet.ts'
import { apiUrl, eventually } from '../support/programs.ts'
import { sendOverTcp, syslogLines } from '../support/traffic.ts'

const services = resolve(import.meta.dirname, '../../../shared/services/services')
const found = existsSync(services)
  ? spawnSync(services, ['path', 'otelcol'], { encoding: 'utf8' })
  : undefined
const binary = found?.status === 0 ? found.stdout.trim() : ''
const why = 'no OpenTelemetry Collector: ../shared/services can install it'

/** Takes OTLP/HTTP on one port, and hands it to the aggregator over gRPC; it answers when the aggregator has. */
async function startOtelcol(directory: string, port: number, aggregator: number, processors: object) {
  const file = join(directory, `otelcol-${port}.yaml`)
  const names = Object.keys(processors)
  const pipeline = { receivers: ['otlp'], processors: names, exporters: ['otlp_grpc'] }
  // YAML takes JSON.
  const config = {
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    processors,
    exporters: {
      otlp_grpc: {
        endpoint: `127.0.0.1:${aggregator}`,
        tls: { insecure: true },
        sending_queue: { enabled: false },
        retry_on_failure: {
          enabled: true,
          initial_interval: '200ms',
          max_interval: '1s',
          max_elapsed_time: '0s',
        },
      },
    },
    service: {
      telemetry: { metrics: { level: 'none' }, logs: { level: 'warn' } },
      pipelines: { logs: pipeline, metrics: pipeline },
    },
  }
  writeFileSync(file, JSON.stringify(config))
  const child = spawn(binary, ['--config', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-20_000)))
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    await once(child, 'exit')
  })
  await eventually('the OpenTelemetry Collector listens', 20, async () => {
    if (child.exitCode !== null) throw new Error(`it ended: ${said}`)
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return true
    } finally {
      socket.destroy()
    }
  })
}

async function start(portOffset: number, otelcolPort: number, processors: object): Promise<Fleet> {
  const fleet = fleetOf({
    portOffset,
    aggregator: 'aggregator: { id: the-aggregator }\nmetrics: { interval: 0 }\n',
    collector: [
      'collector: { id: dpu-9 }',
      'sources: { lines: { type: syslog }, otlp: { type: otlp } }',
      `exporters: { between: { type: otlp, endpoint: 'http://127.0.0.1:${otelcolPort}', protocol: http } }`,
      'pipelines: { all: { sources: [lines, otlp], exporters: [between] } }',
      '',
    ].join('\n'),
    onTestFinished: (task) => onTestFinished(task),
  })
  await startOtelcol(fleet.data, otelcolPort, 4327 + portOffset, processors)
  await fleet.startBoth()
  return fleet
}

/** Lines of a class of their own, from the collector's own device. */
const errors = (count: number): Buffer =>
  Buffer.from(
    Array.from({ length: count }, (_, index) => {
      const text = `<131>1 - dpu-9 failing 1 - - failure ${index}`
      return `${text.length} ${text}`
    }).join(''),
  )

const ofOtelcol = 'otlp-127-0-0-1'
const lines = 20_000
const failures = 300

/**
 * Once everything that was sent is stored, however often. What the collector still holds the aggregator cannot know: its
 * headers do not come.
 */
async function judge({ portOffset, settled }: Fleet, sender: ReturnType<typeof startSender>) {
  await sender.stop()
  const once = (count: number) => Array.from({ length: count }, () => 1)
  const wrong = await eventually('everything is stored', 60, async () => {
    const found = [
      wrongOf(await storedOf(portOffset, 'flood', 'syslog.appname'), once(lines)),
      wrongOf(await storedOf(portOffset, 'failing', 'syslog.appname'), once(failures)),
      wrongOf(await storedOf(portOffset, 'steady'), sender.sends),
    ]
    return found.every(({ lost }) => lost.length === 0) && found
  })
  const ledger = await settled()
  expect(ledger).toMatchObject({ balanced: true, unknown: 0, dropped: {}, produced: ledger.stored })
  expect(new Set(ledger.streams.map(({ collector }) => collector))).toEqual(new Set([ofOtelcol]))
  return {
    ledger,
    total: sender.sends.length + lines + failures,
    multiplied: wrong.map((of) => of.multiplied),
  }
}

describe.skipIf(binary === '')(
  `an OpenTelemetry Collector between${binary === '' ? ` (${why})` : ''}`,
  () => {
    test.each([
      ['passing each request on', 19_100, 20_960, {}],
      [
        'joining requests in its batch processor',
        20_500,
        20_961,
        { batch: { timeout: '200ms', send_batch_size: 5000 } },
      ],
    ])(
      '%s drops our header: every record is stored once, in streams of that sender',
      async (_, offset, port, processors) => {
        const fleet = await start(offset, port, processors)
        const sender = startSender(offset, { name: 'steady', perRequest: 10, everyMs: 20 })
        await sendOverTcp(5514 + offset, [...chunks(), errors(failures)])
        await eventually('some requests are acknowledged', 20, () => sender.acknowledged > 500)
        const { ledger, total, multiplied } = await judge(fleet, sender)
        expect(ledger.stored).toBe(total)
        expect(multiplied).toEqual([[], [], []])
        // Divided again by whom the records are about and by class.
        const accounts = ledger.streams.map(
          ({ device, class: name, produced }) => `${device} ${name} ${produced}`,
        )
        expect(accounts.toSorted()).toEqual([
          `dpu-9 log ${lines}`,
          `dpu-9 log_error ${failures}`,
          // What names no host.id was the collector's only by its header.
          `the-aggregator log ${sender.sends.length}`,
        ])
      },
      120_000,
    )

    test('that repeats what a killed aggregator did not answer: nothing acknowledged is lost, and the account balances', async () => {
      const fleet = await start(19_300, 20_962, {})
      const sender = startSender(19_300, { name: 'steady', perRequest: 10, everyMs: 20 })
      const sending = sendOverTcp(5514 + 19_300, [...chunks(), errors(failures)], 15)
      for (let round = 0; round < 3; round++) {
        const before = sender.acknowledged
        await eventually('more is acknowledged', 30, () => sender.acknowledged > before + 300)
        await fleet.kill('aggregator')
        fleet.start('aggregator')
        await fleet.aggregatorAnswers()
      }
      await sending
      const { ledger, total } = await judge(fleet, sender)
      // A request that was stored and whose answer was lost is one of its own when it comes again: nobody can tell.
      expect(ledger.stored).toBeGreaterThanOrEqual(total)
      expect(new Set(ledger.streams.map(({ session }) => session)).size).toBeGreaterThan(1)
    }, 150_000)
  },
)

test('without anything between, the same exporter keeps its header, and the streams are those of the collector', async () => {
  const portOffset = 19_400
  const fleet = fleetOf({
    portOffset,
    aggregator: 'aggregator: { id: the-aggregator }\nmetrics: { interval: 0 }\n',
    collector: [
      'collector: { id: dpu-9 }',
      'sources: { otlp: { type: otlp } }',
      `exporters: { direct: { type: otlp, endpoint: 'http://127.0.0.1:${4328 + portOffset}', protocol: http } }`,
      'pipelines: { all: { sources: [otlp], exporters: [direct] } }',
      '',
    ].join('\n'),
    onTestFinished,
  })
  await fleet.startBoth()
  const sender = startSender(portOffset, { name: 'steady', perRequest: 10, everyMs: 20 })
  await eventually('some requests are acknowledged', 20, () => sender.acknowledged > 200)
  await sender.stop()
  const ledger = await fleet.settled(30, ({ stored }) => stored >= sender.sends.length)
  expect(ledger.streams).toEqual([
    expect.objectContaining({
      collector: 'dpu-9',
      device: 'dpu-9',
      class: 'log',
      produced: sender.sends.length,
    }),
  ])
  const answer = await fetch(`${apiUrl(portOffset)}/api/logs?since=1h&limit=1`)
  expect(((await answer.json()) as { records: { device: string }[] }).records[0]?.device).toBe('dpu-9')
}, 60_000)

function* chunks(): Generator<Buffer> {
  for (let first = 0; first < lines; first += 200) yield syslogLines(first, 200)
}
