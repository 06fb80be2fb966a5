// The commands that ask: real processes against the real HTTP server over a sample fleet.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { serveSample } from '../support/api-server.ts'
import { dpulse, root } from '../support/command-line.ts'
import { createFleetSample, createSample } from '../support/sample-queries.ts'

interface Printed {
  body: string
  device: string
}

function parsed(text: string): unknown {
  return JSON.parse(text)
}

describe('dpulse logs', () => {
  test('-o json prints one array with the fields that programs rely on, oldest first', async () => {
    const sample = createFleetSample()
    const url = await serveSample(sample)
    const { stdout, code } = await dpulse(['logs', '-o', 'json', '--limit', '3'], { url })
    expect(code).toBe(0)
    expect(parsed(stdout)).toEqual(sample.records.slice(-3))
    const fields = [
      'time',
      'observedTime',
      'device',
      'severityNumber',
      'severityText',
      'body',
      'attributes',
      'resource',
    ]
    expect(Object.keys((parsed(stdout) as object[])[0] ?? {})).toEqual(
      expect.arrayContaining([...fields, 'eventName']),
    )
  })

  test('pages until the limit is filled, however large', async () => {
    const sample = createSample()
    for (let index = 0; index < 12_345; index += 1) sample.add({ body: `n${index}` })
    const url = await serveSample(sample)
    const { stdout } = await dpulse(['logs', '-o', 'json', '--limit', '11000'], { url })
    const bodies = (parsed(stdout) as Printed[]).map(({ body }) => body)
    expect(bodies).toEqual(Array.from({ length: 11_000 }, (_, index) => `n${index + 1345}`))
  })

  test('filters by text, device, severity, attribute and time', async () => {
    const sample = createFleetSample()
    sample.add({
      body: 'Link DOWN on p0',
      device: 'mt2150x00002',
      severityNumber: 17,
      attributes: { port: 'p0' },
    })
    sample.add({
      body: 'link down on p1',
      device: 'mt2150x00002',
      severityNumber: 9,
      attributes: { port: 'p1' },
    })
    const url = await serveSample(sample)
    const line = [
      'logs',
      'link down',
      '--device',
      'mt2150x00002',
      '--severity',
      'error',
      '--where',
      'port=p0',
    ]
    const { stdout } = await dpulse([...line, '--since', '1m', '--until', 'now', '-o', 'json'], { url })
    expect((parsed(stdout) as Printed[]).map(({ body }) => body)).toEqual(['Link DOWN on p0'])
  })

  test('a table shows no control character that a device sent', async () => {
    const sample = createSample()
    sample.add({ body: 'a\u001b]0;owned\u0007b\nc\u202ed', device: 'dev\u001b[2J' })
    const url = await serveSample(sample)
    const { stdout } = await dpulse(['logs'], { url })
    // oxlint-disable-next-line no-control-regex
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/)
    expect(stdout).toContain('a\\x1b]0;owned\\x07b\\nc\\u202ed')
    expect(stdout.trimEnd().split('\n')).toHaveLength(1)
  })

  test('nothing that fits is an empty array and success', async () => {
    const url = await serveSample(createFleetSample())
    const { stdout, stderr, code } = await dpulse(['logs', 'absent', '-o', 'json'], { url })
    expect([parsed(stdout), code]).toEqual([[], 0])
    expect(stderr).toContain('no records fit')
  })

  test('--follow shows what is there and what comes, each once, one object a line', async () => {
    const sample = createFleetSample()
    const url = await serveSample(sample)
    const timer = setInterval(() => {
      if (sample.followers > 0) sample.add({ body: 'fresh' })
    }, 20)
    onTestFinished(() => clearInterval(timer))
    const until = (text: string) => text.split('"fresh"').length > 6
    const { stdout } = await dpulse(['logs', '--follow', '--limit', '4', '-o', 'json'], { url, until })
    const ids = stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => (parsed(line) as { id: string }).id)
    expect(ids.length).toBeGreaterThanOrEqual(6)
    expect(new Set(ids).size).toBe(ids.length)
  })

  test('a reader that closes early is no failure', async () => {
    const sample = createSample()
    for (let index = 0; index < 5000; index += 1) sample.add({ body: 'x'.repeat(200) })
    const url = await serveSample(sample)
    const script = 'set -o pipefail; node dpulse.ts logs --limit 5000 | head -n 1'
    const shell = spawn('bash', ['-c', script], { cwd: root, env: { ...process.env, DPULSE_URL: url } })
    let stderr = ''
    shell.stderr.on('data', (text: Buffer) => (stderr += text.toString()))
    shell.stdout.resume()
    expect([await once(shell, 'close'), stderr]).toEqual([[0, null], ''])
  })
})

describe('dpulse query and metrics', () => {
  test('metrics lists name, unit, kind, attributes and series', async () => {
    const url = await serveSample(createFleetSample())
    const { stdout } = await dpulse(['metrics', '-o', 'json'], { url })
    expect((parsed(stdout) as object[])[0]).toEqual({
      name: 'hw.temperature',
      unit: 'Cel',
      kind: 'gauge',
      attributes: ['hw.name'],
      series: 2,
    })
  })

  test('query gives points as pairs, stepped and aggregated', async () => {
    const url = await serveSample(createFleetSample())
    const line = [
      'query',
      'system.network.io',
      '--device',
      'mt2150x00001',
      '--where',
      'network.io.direction=receive',
    ]
    const { stdout } = await dpulse([...line, '--step', '10m', '--aggregate', 'increase', '-o', 'json'], {
      url,
    })
    const [series, ...others] = parsed(stdout) as { points: [string, number][]; device: string }[]
    expect([others, series?.device]).toEqual([[], 'mt2150x00001'])
    expect(series?.points[2]).toEqual([expect.stringMatching(/:\d0:00\.000000000Z$/), 60_000_000])
  })

  test('an unknown metric is named with those that are close, an empty array and success', async () => {
    const url = await serveSample(createFleetSample())
    const { stdout, stderr, code } = await dpulse(['query', 'hw.temprature', '-o', 'json'], { url })
    expect([parsed(stdout), code]).toEqual([[], 0])
    expect(stderr).toContain('did you mean hw.temperature?')
  })
})

describe('dpulse ledger, get, delete and top', () => {
  test('ledger says the verdict and the sum', async () => {
    const url = await serveSample(createFleetSample())
    const table = await dpulse(['ledger'], { url })
    expect(table.stdout).toContain(
      'balanced: 20,640 produced = 20,000 stored + 100 dropped + 40 in flight + 500 unknown',
    )
    const { stdout } = await dpulse(['ledger', '--device', 'mt2150x00002', '-o', 'json'], { url })
    expect(parsed(stdout)).toMatchObject({ produced: 10_000, stored: 10_000, balanced: true, dropped: {} })
  })

  test('a ledger that does not balance says so, names a stream and exits with 1', async () => {
    const sample = createFleetSample()
    for (const stream of sample.streams) Object.assign(stream, { balanced: false, stored: 1 })
    const url = await serveSample(sample)
    const table = await dpulse(['ledger'], { url })
    expect(table.stdout).toContain('NOT BALANCED')
    expect(table.stdout).toContain('≠')
    const [first] = sample.streams
    const reason = `does not balance: ${first?.class} of ${first?.device} by ${first?.collector}, session`
    expect([table.code, table.stderr]).toEqual([1, expect.stringContaining(reason)])
    const json = await dpulse(['ledger', '-o', 'json'], { url })
    expect(parsed(json.stdout)).toMatchObject({ balanced: false })
    expect([json.code, json.stderr]).toEqual([1, expect.stringContaining(reason)])
  })

  test('get devices selects by label, and shows conflicts', async () => {
    const sample = createFleetSample()
    const [first] = sample.fleet
    first?.conflicts.push({ collectors: ['east', 'west'], since: first.lastSeen, detail: 'Both are alive.' })
    const url = await serveSample(sample)
    const { stdout } = await dpulse(['get', 'devices', '--selector', 'rack=r2', '-o', 'json'], { url })
    expect(parsed(stdout)).toMatchObject([
      { device: 'mt2150x00002', state: 'offline', labels: { rack: 'r2' } },
    ])
    expect((await dpulse(['get', 'devices'], { url })).stdout).toContain(
      'east and west both claim mt2150x00001',
    )
  })

  test('delete device asks first, and fails where there is none', async () => {
    const sample = createFleetSample()
    const url = await serveSample(sample)
    expect(await dpulse(['delete', 'device', 'mt2150x00002'], { url })).toMatchObject({ code: 2 })
    expect(sample.fleet).toHaveLength(2)
    expect(await dpulse(['delete', 'device', 'mt2150x00002', '--yes'], { url })).toMatchObject({ code: 0 })
    expect(sample.fleet).toHaveLength(1)
    const again = await dpulse(['delete', 'device', 'mt2150x00002', '--yes'], { url })
    expect(again).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no device mt2150x00002'),
    })
  })

  test('top gives rates by class as one snapshot where nobody looks', async () => {
    const sample = createFleetSample()
    const [event] = sample.streams
    const timer = setInterval(() => {
      if (event === undefined) return
      event.produced += 10
      event.stored += 10
    }, 10)
    onTestFinished(() => clearInterval(timer))
    const url = await serveSample(sample)
    const { stdout, code } = await dpulse(['top', '-o', 'json'], { url })
    const top = parsed(stdout) as { ready: boolean; flows: { class: string; producedPerSecond: number }[] }
    expect([code, top.ready]).toEqual([0, true])
    expect(top.flows.map((flow) => flow.class)).toEqual(['event', 'environment', 'resource', 'log'])
    expect(top.flows[0]?.producedPerSecond).toBeGreaterThan(100)
    expect(top.flows[1]?.producedPerSecond).toBe(0)
  })
})

describe('what goes wrong', () => {
  test.for([
    [['logs', '--severity', 'loud'], 2, '--severity: takes trace'],
    [['logs', '--since', 'soon'], 2, '--since: takes a duration'],
    [['logs', '--limit', '0'], 2, 'It takes a whole number from 1'],
    [['logs', '--follow', '--until', 'now'], 2, 'leave out --until'],
    [['logz'], 2, 'Did you mean logs?'],
    [['logs', '--sevrity', 'warn'], 2, 'Did you mean --severity?'],
    [['query'], 2, "missing required argument 'metric'"],
    [['query', 'm', '--aggregate', 'median'], 2, 'Allowed choices are mean'],
    [['get'], 2, 'devices'],
    [['up', '--max-disk', 'ten'], 2, 'such as 512MiB or 10GiB'],
    [['up', '--broker', 'http://x'], 2, 'A broker is embedded or mqtt://host:port'],
    [[], 2, 'Examples:'],
  ] as const)('%j ends with %i and says: %s', async ([line, code, message]) => {
    const url = await serveSample(createFleetSample())
    const ended = await dpulse([...line], { url })
    expect(ended.code).toBe(code)
    expect(ended.stderr).toContain(message)
    expect(ended.stdout).toBe('')
  })

  test('no aggregator: says where it asked and how to start one', async () => {
    const { code, stderr, stdout } = await dpulse(['logs'], {})
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain('no aggregator answers at http://127.0.0.1:9')
    expect(stderr).toContain('`dpulse up`')
  })

  test('--local asks the collector and says so', async () => {
    const environment = { DPULSE_COLLECTOR_URL: 'http://127.0.0.1:9' }
    const { code, stderr } = await dpulse(['ledger', '--local'], { environment })
    expect(code).toBe(1)
    expect(stderr).toContain('no collector answers at http://127.0.0.1:9')
  })

  test('something else that answers there is told apart', async () => {
    const server = createServer((_, response) => response.end('<html>hello</html>')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    const { code, stderr } = await dpulse(['get', 'devices'], { url: `http://127.0.0.1:${port}` })
    expect(code).toBe(1)
    expect(stderr).toContain('is no dpulse')
  })

  test('a failure of the aggregator is passed on', async () => {
    const sample = createFleetSample()
    sample.before = () => Promise.reject(new Error('broken'))
    const { code, stderr } = await dpulse(['logs'], { url: await serveSample(sample) })
    expect(code).toBe(1)
    expect(stderr).toContain('its log says why')
  })
})
