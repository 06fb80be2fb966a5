// Debian's ipmi_sim as a BMC: a temperature, a fan, a voltage, an empty slot, a log and a FRU, on a free port of loopback.
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const isHere = (program: string, ...given: string[]): boolean => spawnSync(program, given).error === undefined
export const whyNoIpmi = !isHere('ipmitool', '-V')
  ? 'ipmitool is not installed (Debian: ipmitool)'
  : !isHere('ipmi_sim', '-h')
    ? 'ipmi_sim is not installed (Debian: openipmi)'
    : undefined

export const ipmiUser = { name: 'ipmiusr', password: 'test' }

export interface IpmiSim {
  readonly host: string
  readonly port: number
  /** A command of ipmi_sim's console, such as `sensor_set_value 0x20 0 1 0x30 1`. */
  command(text: string): void
  stop(): Promise<void>
  /** As a BMC that hangs: nothing answers until `resume`. */
  pause(): void
  resume(): void
}

interface SensorSpec {
  number: number
  name: string
  /** Of IPMI's table 42-3: 1 temperature, 2 voltage, 4 fan. */
  type: number
  /** Base unit of table 43-15: 1 degrees C, 4 volts, 18 rpm. */
  unit: number
  /** Reading = M × raw × 10^exponent. */
  m: number
  exponent: number
  raw: number
  upper: readonly [critical: number, nonCritical: number]
}

const sensors: readonly SensorSpec[] = [
  { number: 1, name: 'DPU_Temp', type: 1, unit: 1, m: 1, exponent: 0, raw: 44, upper: [0x69, 0x5f] },
  { number: 2, name: 'FAN_1', type: 4, unit: 18, m: 100, exponent: 0, raw: 42, upper: [0xfe, 0xfa] },
  { number: 3, name: '12V_ATX', type: 2, unit: 4, m: 8, exponent: -2, raw: 153, upper: [0xaf, 0xaa] },
  // In the repository, but nobody measures: the slot is empty.
  { number: 4, name: 'p0_temp', type: 1, unit: 1, m: 1, exponent: 0, raw: 0, upper: [0x4b, 0x46] },
]

interface DiscreteSpec {
  number: number
  name: string
  /** Of IPMI's table 42-3: 8 power supply, 9 power unit. */
  type: number
  /** Of table 42-1: 0x6f of that type, 0x0b redundancy. */
  eventType: number
  /** Of table 43-13: 10 power supply, 21 power management. */
  entity: number
}

const discrete: readonly DiscreteSpec[] = [
  { number: 5, name: 'PS1_Status', type: 8, eventType: 0x6f, entity: 10 },
  { number: 6, name: 'PS_Redundancy', type: 9, eventType: 0x0b, entity: 21 },
]

/** A compact sensor record (IPMI 2.0, table 43-2). */
function compactOf({ number, name, type, eventType, entity }: DiscreteSpec): number[] {
  const parts = [
    [0x20, 0x00, number, entity, 0x01, 0x63, 0x40, type, eventType],
    [0xff, 0x7f, 0xff, 0x7f, 0xff, 0x7f, 0xc0, 0x00, 0x00],
    [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xc0 | name.length, ...Buffer.from(name)],
  ]
  const body = parts.flat()
  return [0x00, 0x00, 0x51, 0x02, body.length, ...body]
}

const hex = (bytes: readonly number[]): string =>
  bytes.map((one) => `0x${one.toString(16).padStart(2, '0')}`).join(' ')

/** A full sensor record (IPMI 2.0, table 43-1). */
function sdrOf({
  number,
  name,
  type,
  unit,
  m,
  exponent,
  upper: [critical, nonCritical],
}: SensorSpec): number[] {
  const parts = [
    [0x20, 0x00, number, 0x07, number, 0x7f, 0x68, type, 0x01],
    [0x00, 0x7a, 0x00, 0x7a, 0x3f, 0x3f], // upper and lower thresholds are readable
    [0x00, unit, 0x00, 0x00, m & 0xff, 0x00, 0x00, 0x00, 0x00, (exponent & 0x0f) << 4],
    [0x00, 0x00, 0x00, 0x00, 0xff, 0x00, 0xff, critical, nonCritical, 0x00, 0x00, 0x00, 0x01, 0x01],
    [0x00, 0x00, 0x00, 0xc0 | name.length, ...Buffer.from(name)],
  ]
  const body = parts.flat()
  return [0x00, 0x00, 0x51, 0x01, body.length, ...body]
}

/** A FRU with a product area (Platform Management FRU Information, §12). */
function fruOf(fields: readonly string[]): number[] {
  const texts = fields.flatMap((text) => [0xc0 | text.length, ...Buffer.from(text)])
  const area = [0x01, 0x00, 0x19, ...texts, 0xc1]
  while (area.length % 8 !== 7) area.push(0)
  area[1] = (area.length + 1) / 8
  const withSum = (bytes: number[]) => [
    ...bytes,
    (256 - (bytes.reduce((sum, one) => sum + one, 0) % 256)) % 256,
  ]
  return [...withSum([0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00]), ...withSum(area)]
}

function commands(): string {
  const fru = fruOf(['NVIDIA', 'BlueField-3', '900-9D3B6', 'A1', 'MT2334XZ0ABC', '', ''])
  const used = sensors.flatMap((one) => {
    const [critical, nonCritical] = one.upper
    const raw = one.number === 4 ? [] : [`sensor_set_value 0x20 0 ${one.number} ${one.raw} 0`]
    return [
      `sensor_add 0x20 0 ${one.number} ${one.type} 0x01`,
      ...raw,
      `sensor_set_threshold 0x20 0 ${one.number} settable 111111 0xff ${critical} ${nonCritical} 0 0 0`,
      `sensor_set_event_support 0x20 0 ${one.number} ${one.number === 4 ? 'disable no-scanning' : 'enable scanning'} per-state ` +
        '000111111000000 000111111000000 000111111000000 000111111000000',
      `main_sdr_add 0x20 ${hex(sdrOf(one))}`,
    ]
  })
  return [
    'mc_setbmc 0x20',
    'mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr',
    'sel_enable 0x20 1000 0x0a',
    ...used,
    ...discrete.flatMap((one) => [
      `sensor_add 0x20 0 ${one.number} ${one.type} 0x${one.eventType.toString(16)}`,
      `sensor_set_bit 0x20 0 ${one.number} 0 1 0`,
      `sensor_set_event_support 0x20 0 ${one.number} enable scanning per-state ` +
        '111111111111111 111111111111111 111111111111111 111111111111111',
      `main_sdr_add 0x20 ${hex(compactOf(one))}`,
    ]),
    `mc_add_fru_data 0x20 0 256 data ${hex(fru)}`,
    'mc_enable 0x20',
    '',
  ].join('\n')
}

const lan = (port: number): string => `name "dpu"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 ${port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  user 1 true "" "test" user 10 none md2 md5 straight
  user 2 true "${ipmiUser.name}" "${ipmiUser.password}" admin 10 none md2 md5 straight
`

async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  await once(socket, 'close')
  return port
}

/** An ASF presence ping (RMCP, DSP0136), until there is a pong. */
async function answersPing(port: number): Promise<void> {
  const ping = Buffer.from('0600ff06000011be80000000', 'hex')
  const socket = createSocket('udp4')
  const ask = () => socket.send(ping, port, '127.0.0.1')
  socket.on('error', () => undefined)
  const timer = setInterval(ask, 50)
  try {
    ask()
    await once(socket, 'message')
  } finally {
    clearInterval(timer)
    socket.close()
  }
}

export async function startIpmiSim(): Promise<IpmiSim> {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-ipmi-'))
  const port = await freePort()
  writeFileSync(join(directory, 'lan.conf'), lan(port))
  writeFileSync(join(directory, 'emu.cmd'), commands())
  mkdirSync(join(directory, 'state'))
  const given = [
    '-c',
    join(directory, 'lan.conf'),
    '-f',
    join(directory, 'emu.cmd'),
    '-s',
    join(directory, 'state'),
  ]
  const child: ChildProcess = spawn('ipmi_sim', given, { stdio: ['pipe', 'pipe', 'pipe'] })
  const ended = Promise.withResolvers<never>()
  let output = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.once('exit', () => ended.reject(new Error(`ipmi_sim ended: ${output.slice(-500)}`)))
  ended.promise.catch(() => undefined)
  await Promise.race([answersPing(port), ended.promise])
  return {
    host: '127.0.0.1',
    port,
    command: (text) => void child.stdin?.write(`${text}\n`),
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit')
        child.kill('SIGKILL')
        await ended
      }
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
