// Every command that asks, against real programs with known records in them; the HTTP API says the same under the same
// names.
import { spawnSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { askingOf } from '../support/asking.ts'
import type { Logged, Queried } from '../support/asking.ts'
import { dpulse } from '../support/command-line.ts'
import { apiUrl, childrenOf, eventually } from '../support/programs.ts'
import { post } from '../support/senders.ts'
import { inBothWorlds, startInWorld } from '../support/world.ts'

const portOffset = 9_500
const url = apiUrl(portOffset)
const collectorUrl = `http://127.0.0.1:${8601 + portOffset}`
const minuteNano = 60_000_000_000n
/** A whole minute, half an hour ago. */
const start = (BigInt(Date.now()) * 1_000_000n) / minuteNano - 30n
const at = (minutes: number): bigint => (start + BigInt(minutes)) * minuteNano
const iso = (nano: bigint): string => new Date(Number(nano / 1_000_000n)).toISOString()
const lines = 12_345

const attribute = (key: string, value: object) => ({ key, value })
const resource = (host: string, rack: string) => ({
  attributes: [attribute('host.id', { stringValue: host }), attribute('dpu.rack', { stringValue: rack })],
})
async function send(path: string, request: object): Promise<void> {
  expect((await post(4318 + portOffset, path, JSON.stringify(request))).status).toBe(200)
}

async function sendLogs(): Promise<void> {
  const logRecords = Array.from({ length: lines }, (_, index) => ({
    timeUnixNano: String(at(0) + BigInt(index) * 100_000_001n),
    severityNumber: (index % 4) * 4 + 5,
    body: { stringValue: `line ${index}${index % 1000 === 7 ? ' Needle' : ''}` },
    attributes: [
      attribute('number', { intValue: String(index) }),
      attribute('even', { boolValue: index % 2 === 0 }),
      attribute('half', { doubleValue: index / 2 }),
    ],
  }))
  await send('/v1/logs', {
    resourceLogs: [{ resource: resource('alpha', 'r1'), scopeLogs: [{ logRecords }] }],
  })
}

async function sendMetrics(): Promise<void> {
  const points = (values: readonly number[], mode: string) =>
    values.map((asInt, index) => ({
      timeUnixNano: String(at(index)),
      asInt,
      attributes: [attribute('mode', { stringValue: mode })],
    }))
  const series = (base: number) => Array.from({ length: 10 }, (_, index) => base + index)
  const level = (dataPoints: object[]) => ({ name: 'q.level', unit: 'Cel', gauge: { dataPoints } })
  const total = (values: number[]) => ({
    name: 'q.total',
    unit: 'By',
    sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: points(values, 'x') },
  })
  await send('/v1/metrics', {
    resourceMetrics: [
      {
        resource: resource('alpha', 'r1'),
        scopeMetrics: [
          {
            metrics: [
              level([...points(series(0), 'user'), ...points(series(50), 'system')]),
              total([10, 20, 5, 15]),
            ],
          },
        ],
      },
      {
        resource: resource('beta', 'r2'),
        scopeMetrics: [{ metrics: [level(points(series(100), 'user'))] }],
      },
    ],
  })
}

const numbers = (records: readonly Logged[]): number[] =>
  records.map(({ attributes }) => Number(attributes.number))
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, index) => from + index)
inBothWorlds('the commands', (world) => {
  const { get, command, settled } = askingOf(portOffset, world.seconds)
  let programs: Awaited<ReturnType<typeof startInWorld>>
  beforeAll(async () => {
    programs = await startInWorld(world, portOffset)
    await sendLogs()
    await sendMetrics()
    await eventually('all is stored', 90, async () => {
      const { stored } = await settled('alpha')
      return stored === lines + 24
    })
  })
  afterAll(() => programs.stop())

  const logs = (...line: string[]) => command<Logged[]>('logs', '--device', 'alpha', ...line)

  describe('dpulse logs', () => {
    test('pages beyond what one answer holds, oldest first, each record once and whole', async () => {
      const records = await logs('--limit', '11000')
      expect(numbers(records)).toEqual(range(lines - 11_000, lines))
      expect(records.at(-1)).toMatchObject({
        time: `${iso(at(0) + 1_234_400_000_000n).slice(0, 19)}.400012344Z`,
        observedTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/),
        device: 'alpha',
        severityNumber: 5,
        severityText: '',
        body: 'line 12344',
        attributes: { number: 12_344, even: true, half: 6172 },
        resource: { 'host.id': 'alpha', 'dpu.rack': 'r1' },
        eventName: '',
      })
      expect(await logs()).toHaveLength(1000)
    })

    test('takes times as durations, with zones, as dates and as now, and keeps their ends', async () => {
      const [from, to] = [iso(at(0) + 100_000_001_000n), iso(at(0) + 101_000_000_000n)]
      const exact = ['--since', from.replace('Z', '000Z'), '--until', to]
      expect(numbers(await logs(...exact))).toEqual(range(1000, 1010))
      const east = new Date(Date.parse(from) + 2 * 3_600_000).toISOString().replace('Z', '+02:00')
      expect(numbers(await logs('--since', east, '--until', to))).toEqual(range(1000, 1010))
      const nanos = `${iso(at(0) + 100_000_000_000n).slice(0, 19)}.000001001Z`
      expect(numbers(await logs('--since', nanos, '--until', to)).at(0)).toBe(1001)
      expect(numbers(await logs('needle', '--since', '1h30m', '--until', 'now'))).toHaveLength(13)
      expect(await logs('--since', 'now')).toEqual([])
      expect(await logs('--until', '2020-02-29')).toEqual([])
      const { records } = await get<{ records: Logged[] }>('/api/logs', {
        device: 'alpha',
        since: from,
        until: to,
      })
      expect(numbers(records)).toEqual(range(1000, 1010))
    })

    test('filters by text, severity, and attributes of record and Resource of every type', async () => {
      expect(numbers(await logs('NEEDLE'))).toEqual(range(0, 13).map((index) => index * 1000 + 7))
      expect(
        (await logs('--severity', 'error', '--limit', '9')).every(
          ({ severityNumber }) => severityNumber >= 17,
        ),
      ).toBe(true)
      expect(numbers(await logs('--where', 'number=77'))).toEqual([77])
      expect(numbers(await logs('--where', 'half=38.5'))).toEqual([77])
      expect(numbers(await logs('needle', '--where', 'even=true'))).toEqual([])
      expect(await logs('needle', '--where', 'even=false', '--where', 'dpu.rack=r1')).toHaveLength(13)
      expect(await logs('--where', 'dpu.rack=r2')).toEqual([])
      expect(await logs('--where', 'absent=')).toEqual([])
    })

    test('--local asks the collector of this machine', async () => {
      const environment = { DPULSE_COLLECTOR_URL: collectorUrl }
      const { stdout, code } = await dpulse(['logs', 'line 1234', '--local', '-o', 'json'], { environment })
      expect(code).toBe(0)
      // The ring holds the newest: at least the last hundred.
      expect(numbers(JSON.parse(stdout) as Logged[]).slice(-5)).toEqual(range(12_340, 12_345))
      const until = (text: string) => text.includes('line 12344')
      const tail = await dpulse(['logs', '--local', '--follow', '-o', 'json'], { environment, until })
      expect(tail.stdout).toContain('"line 12344"')
    })
  })

  describe('dpulse query', () => {
    const query = (...line: string[]) =>
      command<Queried[]>('query', ...line, '--since', iso(at(0)), '--until', iso(at(10)))
    const values = (series: readonly Queried[]) =>
      series.map(({ points }) => points.map(([, value]) => value))

    test('without a step gives the stored points of each series', async () => {
      const series = await query('q.level', '--device', 'alpha', '--where', 'mode=user')
      expect(series).toEqual([
        {
          metric: 'q.level',
          unit: 'Cel',
          kind: 'gauge',
          device: 'alpha',
          attributes: { mode: 'user' },
          points: range(0, 10).map((index) => [iso(at(index)).replace('Z', '000000Z'), index]),
        },
      ])
      expect(values(await query('q.level', '--where', 'dpu.rack=r2'))).toEqual([range(100, 110)])
    })

    test.each([
      ['mean', 4.5],
      ['min', 0],
      ['max', 9],
      ['sum', 45],
      ['last', 9],
      ['increase', 9],
      ['rate', 9 / 600],
    ])('--aggregate %s over all is %d', async (aggregate, value) => {
      const line = ['q.level', '--device', 'alpha', '--where', 'mode=user', '--aggregate', aggregate]
      expect(values(await query(...line))).toEqual([[value]])
    })

    test('an increase sees the reset of a counter, and a step divides it', async () => {
      expect(values(await query('q.total', '--aggregate', 'increase'))).toEqual([[25]])
      expect(values(await query('q.total', '--aggregate', 'increase', '--step', '1m'))).toEqual([[10, 5, 10]])
      const [rates] = values(await query('q.total', '--step', '1m'))
      expect(rates?.map((rate) => Number(rate) * 60)).toEqual(
        [10, 5, 10].map((value) => expect.closeTo(value, 9)),
      )
    })

    test('--by joins what is not named, over devices too', async () => {
      const joined = await query('q.level', '--by', 'mode', '--aggregate', 'max')
      const found = joined.map(({ device, attributes, points }) => [device, attributes, points[0]?.[1]])
      expect(found).toEqual(
        expect.arrayContaining([
          ['', { mode: 'user' }, 109],
          ['alpha', { mode: 'system' }, 59],
        ]),
      )
      const rows = await query('q.level', '--by', 'device', '--aggregate', 'sum', '--step', '1m')
      expect(new Map(rows.map(({ device, points }) => [device, points[3]?.[1]]))).toEqual(
        new Map([
          ['alpha', 56],
          ['beta', 103],
        ]),
      )
      const asked = { metric: 'q.level', by: 'device', aggregate: 'sum', step: '1m' }
      expect(await get('/api/query', { ...asked, since: iso(at(0)), until: iso(at(10)) })).toEqual(rows)
    })

    test('dpulse metrics lists name, unit, kind, attributes and how many series', async () => {
      const metrics = await command<{ name: string }[]>('metrics', '--device', 'alpha,beta')
      expect(metrics).toEqual([
        { name: 'q.level', unit: 'Cel', kind: 'gauge', attributes: ['mode'], series: 3 },
        { name: 'q.total', unit: 'By', kind: 'counter', attributes: ['mode'], series: 1 },
      ])
    })
  })

  describe('the other commands', () => {
    test('get devices and delete device show and forget', async () => {
      const devices = await command<{ device: string; state: string; lastSeen: string }[]>('get', 'devices')
      expect(devices.map(({ device }) => device)).toEqual(expect.arrayContaining(['alpha', 'beta']))
      for (const { state, lastSeen } of devices) {
        expect(['online', 'offline']).toContain(state)
        expect(lastSeen).toMatch(/^\d{4}-.*\.\d{9}Z$/)
      }
      expect(await dpulse(['delete', 'device', 'beta', '--yes'], { url })).toMatchObject({ code: 0 })
      const left = await command<{ device: string }[]>('get', 'devices', '--device', 'beta')
      expect(left).toEqual([])
      const again = await dpulse(['delete', 'device', 'beta', '--yes'], { url })
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('there is no device beta')])
    })

    test('ledger and top tell the account, of the aggregator and of the collector', async () => {
      const report = await command<{ produced: number; stored: number; balanced: boolean }>(
        'ledger',
        '--device',
        'alpha',
      )
      expect(report).toMatchObject({
        produced: lines + 24,
        stored: lines + 24,
        dropped: {},
        unknown: 0,
        balanced: true,
      })
      const environment = { DPULSE_COLLECTOR_URL: collectorUrl }
      for (const line of [['ledger'], ['top'], ['ledger', '--local'], ['top', '--local']]) {
        const { stdout, code } = await dpulse([...line, '-o', 'json'], { url, environment })
        expect([line, code]).toEqual([line, 0])
        expect(JSON.parse(stdout)).toBeTypeOf('object')
      }
    })

    test('completion scripts are taken by their shells', async () => {
      const { stdout, code } = await dpulse(['completion', 'bash'], {})
      expect(code).toBe(0)
      const ask = `${stdout}\nCOMP_WORDS=(dpulse logs --sev); COMP_CWORD=2; _dpulse; echo "\${COMPREPLY[*]}"`
      expect(spawnSync('bash', ['-c', ask], { encoding: 'utf8' }).stdout).toBe('--severity\n')
    })

    test.each([
      [['logs', '--severty', 'warn'], 2, 'Did you mean --severity'],
      [['logs', '--since', 'soon'], 2, '--since: takes a duration'],
      [['logs', '--limit', '0'], 2, 'whole number'],
      [['logs', '--device', 'No_Id'], 2, '--device: takes the name'],
      [['query'], 2, 'metric'],
      [['query', 'q.level', '--since', '1m', '--until', '2m'], 2, '--since: must be earlier'],
      [['get', 'nodes'], 2, "'get' knows no 'nodes'; there is devices"],
      [['nonsense'], 2, 'unknown command'],
      [['query', 'q.levle'], 0, 'did you mean q.level?'],
    ] as const)('%j ends with %d and says what to do', async (line, code, message) => {
      const ended = await dpulse(line, { url })
      expect([ended.code, ended.stderr]).toEqual([code, expect.stringContaining(message)])
    })
  })

  describe('the HTTP APIs', () => {
    // Whoever starts them alone watches them alone.
    if (world.name === 'embedded')
      test('/api/health is 200 only while the collector’s listeners are up', async () => {
        const health = async () => {
          const response = await fetch(`${url}/api/health`)
          return [response.status, ((await response.json()) as { ready: boolean }).ready]
        }
        expect(await health()).toEqual([200, true])
        const collector = childrenOf(programs.parent ?? 0).find(({ program }) => program === 'collector')
        process.kill(collector?.pid ?? 0, 'SIGKILL')
        await eventually('health tells it', 15, async () => (await health())[0] === 503)
        await eventually('health is good again', 90, async () => (await health())[0] === 200)
      })

    test('/openapi.json names every path of the API', async () => {
      const document = await get<{ openapi: string; paths: Record<string, object> }>('/openapi.json')
      expect(document.openapi).toMatch(/^3\.1/)
      const paths = ['health', 'devices', 'logs', 'metrics', 'query', 'ledger', 'live', 'latest'].map(
        (path) => `/api/${path}`,
      )
      expect(Object.keys(document.paths)).toEqual(
        expect.arrayContaining([...paths, '/metrics', '/api/devices/{device}']),
      )
    })

    test.each([
      ['aggregator', url],
      ['collector', collectorUrl],
    ])('/metrics of the %s is strict Prometheus text', async (_, base) => {
      const response = await fetch(`${base}/metrics`)
      expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
      expect(complaintsOf(await response.text())).toEqual([])
    })
  })
})

/** What promtool would say of a Prometheus text. */
function complaintsOf(text: string): string[] {
  const complaints: string[] = text.endsWith('\n') ? [] : ['no newline at the end']
  const types = new Map<string, string>()
  const seen = new Set<string>()
  let family = ''
  for (const line of text.split('\n').slice(0, -1)) {
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line) ?? []
    if (kind === 'HELP') {
      if (types.has(name)) complaints.push(`a second family ${name}`)
      family = name
    } else if (kind === 'TYPE') {
      if (family !== name) complaints.push(`TYPE without HELP: ${name}`)
      types.set(name, rest)
      if (rest === 'counter' && !name.endsWith('_total')) complaints.push(`counter ${name} without _total`)
      if (/(_[a-z]+)\1(_total)?$/.test(name)) complaints.push(`stuttering ${name}`)
    } else {
      const label = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\[\\\\"n])*"'
      const sample = new RegExp(
        `^([a-zA-Z_:][a-zA-Z0-9_:]*)(\\{${label}(?:,${label})*\\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$`,
      )
      const [whole, metric = '', labels = ''] = sample.exec(line) ?? []
      if (whole === undefined) complaints.push(`no sample: ${line}`)
      else if (metric !== family) complaints.push(`${metric} outside its family`)
      if (seen.has(metric + labels)) complaints.push(`twice: ${metric}${labels}`)
      seen.add(metric + labels)
    }
  }
  return complaints
}
