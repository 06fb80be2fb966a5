// A collector as a program beside a BMC that speaks IPMI, a DPDK program, and others that send to it: what each of them
// tells arrives in a file as OTLP, and a change of it too.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ports } from '../../plugins/contract/options.ts'
import { jsonToRequest } from '../../plugins/protocols/otlp/json.ts'
import { startTestpmd, testpmdProblem } from '../support/dpdk.ts'
import { ipmiUser, startIpmiSim, whyNoIpmi } from '../support/ipmi-sim.ts'
import { freeOffset } from '../support/ports.ts'
import { eventually, startProgram } from '../support/programs.ts'
import { collectLogs, collectPoints } from '../support/records.ts'

const problem = whyNoIpmi ?? testpmdProblem()

/** What is whole of a file of OTLP/JSON. */
function requestsIn(file: string, signal: 'logs' | 'metrics'): Uint8Array[] {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  const whole = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
  const member = signal === 'logs' ? '"resourceLogs"' : '"resourceMetrics"'
  return whole.filter((line) => line.includes(member)).map((line) => jsonToRequest(signal, line))
}

test.skipIf(problem !== undefined)(
  `a collector tells what a BMC over IPMI, a DPDK program and senders tell it, and what changes${problem === undefined ? '' : ` (${problem})`}`,
  { timeout: 180_000 },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'dpulse-hardware-'))
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
    const portOffset = await freeOffset()
    const bmc = await startIpmiSim()
    onTestFinished(() => bmc.stop())
    await using dpdk = await startTestpmd()
    const [file, config] = [join(directory, 'out.jsonl'), join(directory, 'collector.yaml')]
    const login = { username: ipmiUser.name, password: { env: 'DPULSE_TEST_IPMI' }, cipher_suite: 3 }
    const [statsdPort, syslogPort] = [ports.statsd + portOffset, ports.syslog + portOffset]
    const sources = {
      bmc: { type: 'ipmi', host: bmc.host, port: bmc.port, ...login, interval: '1s' },
      dpdk: { type: 'dpdk', sockets: [dpdk.socket], interval: '1s' },
      statsd: { type: 'statsd', tcp: `127.0.0.1:${statsdPort}`, interval: '1s' },
      syslog: { type: 'syslog', tcp: `127.0.0.1:${syslogPort}`, kernel_events: 'all' },
    }
    const exporters = { out: { type: 'file', path: file } }
    const pipelines = { hardware: { sources: Object.keys(sources), exporters: ['out'] } }
    writeFileSync(config, JSON.stringify({ sources, exporters, pipelines }))
    process.env.DPULSE_TEST_IPMI = ipmiUser.password
    const data = join(directory, 'data')
    const collector = startProgram('collector', { data, portOffset, arguments: ['--config', config] })
    onTestFinished(() => collector.stop())

    const newest = (name: string, attributes: Record<string, unknown>) =>
      collectPoints(requestsIn(file, 'metrics')).findLast(
        (one) =>
          one.name === name &&
          Object.entries(attributes).every(([key, value]) => one.attributes[key] === value),
      )?.value
    const send = async (port: number, text: string) => {
      const socket = connect(port, '127.0.0.1')
      await once(socket, 'connect')
      socket.end(text)
      await once(socket, 'close')
    }
    const failed = { 'hw.name': 'PS1_Status', 'hw.state': 'failed' }
    await eventually('readings of both', 60, () =>
      Promise.resolve(newest('hw.status', failed) === 0n && newest('dpu.dpdk.up', {}) === 1n),
    )
    bmc.command('sensor_set_bit 0x20 0 5 3 1 1')
    bmc.command('sensor_set_value 0x20 0 1 0x6a 0')
    await send(statsdPort, 'jobs:2|c\njobs:3|c\n')
    execFileSync('logger', [
      '-n',
      '127.0.0.1',
      '-P',
      `${syslogPort}`,
      '-T',
      '--rfc3164',
      '-p',
      'user.info',
      'hi',
    ])
    await send(syslogPort, '<2>Nov 21 20:00:00 dpu7 kernel: mlx5_core 0000:03:00.0 p0: Link down\n')
    await eventually('what changed', 60, () =>
      Promise.resolve(
        newest('hw.status', failed) === 1n &&
          newest('hw.temperature', { 'hw.name': 'DPU_Temp' }) === 106 &&
          newest('jobs', {}) === 5,
      ),
    )
    const packets = { 'dpu.dpdk.port': 'net_null0', 'network.io.direction': 'receive' }
    expect(newest('dpu.dpdk.port.packets', packets)).toBeGreaterThan(0n)
    const logs = () => collectLogs(requestsIn(file, 'logs'))
    await eventually('the lines of logger and of a kernel', 30, () => {
      const found = logs().map(({ body, eventName }) => [body, eventName])
      return Promise.resolve(
        found.some(([body]) => body === 'hi') && found.some(([, name]) => name === 'dpu.kernel.link'),
      )
    })
  },
)
