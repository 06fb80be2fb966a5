// An input for every source, captured or real, as its tests have it: what `bench sources` measures them with, and what a
// collector with all of them at once reads in its test.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { recordedProblem, startRecorded } from '../../test/support/dpdk.ts'
import { ipmiUser, startIpmiSim, whyNoIpmi } from '../../test/support/ipmi-sim.ts'
import { capturesAreHere, redfishService, whyNoCaptures } from '../../test/support/redfish.ts'
import { fixture, fixtures, linesOf } from './captured.ts'
import { senders } from './senders.ts'

/** What a source is run with; what it opened goes with the stack. */
export interface Input {
  config: Record<string, unknown>
  /** For sources to which records come: makes that many come. */
  feed?: (count: number, address: string) => Promise<void>
}

/** The environment variable that holds the password of the BMC that ipmi_sim plays. */
const passwordName = 'DPULSE_BENCH_IPMI'

/** A tree of files: path to content, `-> target` for a link. */
function plant(root: string, ...names: string[]): string {
  for (const name of names) {
    for (const [path, content] of Object.entries(JSON.parse(fixture(name)) as Record<string, string>)) {
      const at = join(root, path)
      mkdirSync(dirname(at), { recursive: true })
      if (content.startsWith('-> ')) {
        if (!existsSync(at)) symlinkSync(content.slice(3), at)
      } else writeFileSync(at, `${content}\n`)
    }
  }
  return root
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void
async function serveHttp(answer: Answer, open: AsyncDisposableStack, path?: string): Promise<string> {
  const server = createHttpServer(answer)
  open.defer(() => {
    server.closeAllConnections()
    server.close()
  })
  if (path === undefined) server.listen(0, '127.0.0.1')
  else server.listen(path)
  await once(server, 'listening')
  return path ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A Podman with one container, as it answered. */
async function podman(path: string, open: AsyncDisposableStack): Promise<string> {
  const of = (name: string): Buffer => readFileSync(join(fixtures, 'containers', name))
  const [list, stats, inspect, logs, events] = [
    'list.json',
    'stats.json',
    'inspect.json',
    'logs.bin',
    'events.txt',
  ].map(of)
  const answer: Answer = ({ url = '' }, response) => {
    if (url.startsWith('/containers/json')) response.end(list)
    else if (url === '/version') response.end('{}')
    else if (url.includes('/stats')) response.end(stats)
    else if (url.includes('/logs')) response.write(logs ?? '')
    else if (url.startsWith('/events')) response.write(events ?? '')
    else if (url.endsWith('/json')) response.end(inspect)
    else response.writeHead(404).end()
  }
  return serveHttp(answer, open, path)
}

/** An SPDK program with the answers that its documentation has. */
async function spdk(path: string, open: AsyncDisposableStack): Promise<string> {
  const results = JSON.parse(fixture('spdk/answers.json')) as Record<string, unknown>
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (bytes) => {
      const { method, id } = JSON.parse(bytes.toString()) as { method: string; id: number }
      const result = results[method]
      const unknown = { error: { code: -32_601, message: 'Method not found' } }
      socket.write(JSON.stringify({ jsonrpc: '2.0', id, ...(result === undefined ? unknown : { result }) }))
    })
  }).listen(path)
  open.defer(() => void server.close())
  await once(server, 'listening')
  return path
}

const journalRemote = ['/usr/lib/systemd/systemd-journal-remote', '/lib/systemd/systemd-journal-remote'].find(
  existsSync,
)

/** A journal in a folder of its own, that grows by entries of a real one. */
function journal(directory: string): Input {
  const entry = (
    /\n\n?(__CURSOR=[^]*?\n)\n/.exec(`\n${fixture('journald/export.bin')}`)?.[1] ?? ''
  ).replaceAll(/^__(CURSOR|SEQNUM|SEQNUM_ID)=.*\n/gm, '')
  let made = 0
  const add = (input: string): void => {
    const line = ['-o', join(directory, 'bench.journal'), '--split-mode=none', '-']
    execFileSync(journalRemote ?? '', line, { input, stdio: ['pipe', 'ignore', 'ignore'] })
  }
  add(fixture('journald/export.bin'))
  return {
    config: { directory },
    feed: async (count) => {
      const times = Array.from({ length: count }, () => 1_795_300_000_000_000 + ++made)
      const stamped = times.map((time) =>
        entry
          .replace(/^__REALTIME_TIMESTAMP=.*$/m, `__REALTIME_TIMESTAMP=${time}`)
          .replace(/^__MONOTONIC_TIMESTAMP=.*$/m, `__MONOTONIC_TIMESTAMP=${time - 1_795_000_000_000_000}`),
      )
      add(`${stamped.join('\n')}\n`)
    },
  }
}

type Maker = (folder: string, open: AsyncDisposableStack) => Promise<Input | string> | Input | string

const makers: Readonly<Record<string, Maker>> = {
  ...senders,
  containers: async (folder, open) => ({ config: { socket: await podman(join(folder, 's'), open) } }),
  dpdk: async (_, open) => {
    const problem = recordedProblem()
    if (problem !== undefined) return problem
    return {
      config: { sockets: [open.use(await startRecorded(join(fixtures, 'dpdk/testpmd.json'))).socket] },
    }
  },
  exec: () => ({ config: { command: ['/bin/cat', join(fixtures, 'influx/telegraf.lp')], interval: '10s' } }),
  file: (folder) => {
    const path = join(folder, 'service.log')
    writeFileSync(path, '')
    const text = fixture('file/service.log')
    return {
      config: { paths: path },
      feed: async (count) => appendFileSync(path, `${linesOf(text, count).join('\n')}\n`),
    }
  },
  hardware_errors: (folder) => {
    const root = plant(folder, 'sys/pci.json', 'sys/errors.json')
    return { config: { root: { sys: join(root, 'sys'), dev: join(root, 'dev') } } }
  },
  hwmon: (folder) => {
    const root = plant(folder, 'hwmon/bluefield.json')
    return { config: { root: { sys: join(root, 'sys'), bluefield: join(root, 'run/emu_param') } } }
  },
  ipmi: async (_, open) => {
    if (whyNoIpmi !== undefined) return whyNoIpmi
    const sim = await startIpmiSim()
    open.defer(() => sim.stop())
    process.env[passwordName] = ipmiUser.password
    const login = { username: ipmiUser.name, password: { env: passwordName }, cipher_suite: 3 }
    return { config: { host: sim.host, port: sim.port, ...login } }
  },
  journald: (folder) =>
    journalRemote === undefined ? 'systemd-journal-remote is not installed' : journal(folder),
  kmsg: (folder) => {
    const path = join(folder, 'kmsg')
    writeFileSync(path, '')
    const text = fixture('kernel/kmsg.txt').replaceAll('\n ', '\u0000')
    let sequence = 0
    const one = (line: string): string => line.replace(/^(\d+),\d+/, (_, level) => `${level},${++sequence}`)
    return {
      config: { path },
      feed: async (count) =>
        appendFileSync(path, `${linesOf(text, count).map(one).join('\n').replaceAll('\u0000', '\n ')}\n`),
    }
  },
  nic: (folder) => ({ config: { root: { sys: join(plant(folder, 'sys/nic.json'), 'sys') } } }),
  pci: (folder) => ({ config: { root: { sys: join(plant(folder, 'sys/pci.json'), 'sys') } } }),
  process: (folder) => {
    const proc = join(plant(folder, 'process/vm.json'), 'proc')
    const processes = [
      { name: 'inventory', cgroup: '/system.slice/inventory*' },
      { name: 'waiting', executable: 'sleep' },
    ]
    return { config: { processes, root: { proc } } }
  },
  prometheus: async (_, open) => {
    const text = fixture('prometheus/influxdb.txt')
    const head = { 'Content-Type': 'text/plain; version=0.0.4' }
    const url = await serveHttp((_request, response) => response.writeHead(200, head).end(text), open)
    return { config: { targets: [url], interval: '15s' } }
  },
  redfish: async (_, open) => {
    if (!capturesAreHere) return whyNoCaptures
    const service = await redfishService({ capture: 'bluefield3-bf23.10' })
    open.defer(() => service.close())
    return { config: { endpoint: service.url } }
  },
  smbios: (folder) => {
    const tables = join(folder, 'sys/firmware/dmi/tables')
    mkdirSync(tables, { recursive: true })
    writeFileSync(join(tables, 'DMI'), readFileSync(join(fixtures, 'smbios/SuperMicro-Dual-Xeon.dmi')))
    return { config: { root: { sys: join(folder, 'sys') } } }
  },
  spdk: async (folder, open) => ({ config: { socket: await spdk(join(folder, 's'), open) } }),
  system: () => ({ config: {} }),
  systemd: (folder) => {
    plant(folder, 'systemd/hybrid.json')
    const program = join(folder, 'systemctl')
    writeFileSync(program, `#!/bin/sh\nexec cat ${join(fixtures, 'systemd/show.txt')}\n`)
    chmodSync(program, 0o755)
    return { config: { program, root: { cgroup: join(folder, 'cgroup') } } }
  },
}

/** The input of a source, in a folder that is its own; or why there is none on this machine. */
export async function inputOf(
  name: string,
  folder: string,
  open: AsyncDisposableStack,
): Promise<Input | string> {
  const make = makers[name]
  if (!make) return 'bench/measure/inputs.ts has none'
  mkdirSync(folder, { recursive: true })
  return make(folder, open)
}
