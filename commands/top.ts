// `dpulse top`: a live view of devices, flow by class, drops and what is in flight. Rates are differences of the
// ledger's totals. Where stdout is no terminal it prints one snapshot.
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { Devices, Health, Inside, Ledger } from './answers.ts'
import { ask, askAnyStatus, baseUrl } from './asking.ts'
import type { AskOptions } from './asking.ts'
import { devicesTable } from './devices.ts'
import { CommandFailure } from './failure.ts'
import { dropsOf, verdict } from './ledger.ts'
import { counted, print, printJson, printable, styled, table } from './terminal.ts'
import type { Cell, Column } from './terminal.ts'

export interface TopOptions extends AskOptions {
  output: 'table' | 'json'
}

interface Reading {
  atMs: number
  ledger: Ledger
  devices: Devices
  health: Health
  inside: Inside | undefined
}

interface Flow {
  class: string
  /** Records a second that sources handed over. */
  producedPerSecond: number
  storedPerSecond: number
  produced: number
  stored: number
  inFlight: number
  dropped: Record<string, number>
  unknown: number
}

export interface Snapshot {
  time: string
  ready: boolean
  parts: Health['parts']
  devices: Devices
  flows: Flow[]
  ledger: Ledger
  /** With --local: the collector's components and buffers. */
  inside: Inside | undefined
}

const refreshMs = 2000

export async function top(options: TopOptions): Promise<void> {
  if (options.output === 'json' || !process.stdout.isTTY) {
    const first = await read(options)
    await delay(1000)
    const snapshot = compare(first, await read(options))
    const { ledger: _, ...printed } = snapshot
    return options.output === 'json' ? printJson(printed) : print(screen(snapshot, options, undefined))
  }
  return watch(options)
}

async function watch(options: TopOptions): Promise<void> {
  const { stdin, stdout } = process
  const stop = new AbortController()
  const leave = () => stop.abort()
  const onKey = (key: Buffer) => {
    if (key.includes('q') || key[0] === 3 || key[0] === 4) leave()
  }
  let previous = await read(options)
  let shown = compare(previous, previous)
  const draw = (trouble: string) => {
    const lines = screen(shown, options, stdout.columns).split('\n')
    const fitting = lines.slice(0, Math.max(1, stdout.rows - 2))
    stdout.write(`\u001b[H\u001b[2J${[...fitting, styled('dim', trouble || 'q leaves')].join('\n')}`)
  }
  process.once('SIGTERM', leave).once('SIGINT', leave)
  if (stdin.isTTY) stdin.setRawMode(true).on('data', onKey).resume()
  stdout.write('\u001b[?1049h\u001b[?25l')
  try {
    draw('')
    while (!stop.signal.aborted) {
      await delay(refreshMs, undefined, { signal: stop.signal }).catch(() => undefined)
      if (stop.signal.aborted) break
      try {
        const now = await read(options)
        shown = compare(previous, now)
        previous = now
        draw('')
      } catch (error) {
        // The view outlives a restart of what it watches.
        if (!(error instanceof CommandFailure)) throw error
        draw(error.message)
      }
    }
  } finally {
    stdout.write('\u001b[?25h\u001b[?1049l')
    if (stdin.isTTY) stdin.setRawMode(false).pause()
  }
}

async function read(options: TopOptions): Promise<Reading> {
  const local = options.local === true
  const [ledger, devices, health, inside] = await Promise.all([
    ask(options, '/api/ledger', {}, Ledger),
    local ? [] : ask(options, '/api/devices', {}, Devices),
    askAnyStatus(options, '/api/health', Health),
    local ? ask(options, '/api/top', {}, Inside) : undefined,
  ])
  return { atMs: performance.now(), ledger, devices, health, inside }
}

function compare(before: Reading, now: Reading): Snapshot {
  const seconds = Math.max(0.001, (now.atMs - before.atMs) / 1000)
  const earlier = new Map(byClass(before.ledger).map((flow) => [flow.class, flow]))
  const flows = byClass(now.ledger).map((flow) => {
    const past = earlier.get(flow.class)
    const rate = (total: number, pastTotal: number) => Math.max(0, Math.round((total - pastTotal) / seconds))
    return {
      ...flow,
      producedPerSecond: rate(flow.produced, past?.produced ?? 0),
      storedPerSecond: rate(flow.stored, past?.stored ?? 0),
    }
  })
  const { health, devices, ledger, inside } = now
  return {
    time: new Date().toISOString(),
    ready: health.ready,
    parts: health.parts,
    devices,
    flows,
    ledger,
    inside,
  }
}

// From the most to the least precious, as everywhere.
const order = ['event', 'usage', 'error', 'log_error', 'capability', 'environment', 'resource', 'log']

function byClass({ streams }: Ledger): Flow[] {
  const flows = new Map<string, Flow>()
  for (const stream of streams) {
    const flow = flows.get(stream.class) ?? {
      class: stream.class,
      producedPerSecond: 0,
      storedPerSecond: 0,
      produced: 0,
      stored: 0,
      inFlight: 0,
      dropped: {},
      unknown: 0,
    }
    flow.produced += stream.produced
    flow.stored += stream.stored
    flow.inFlight += stream.inFlight
    flow.unknown += stream.unknown
    for (const [reason, count] of Object.entries(stream.dropped)) {
      flow.dropped[reason] = (flow.dropped[reason] ?? 0) + count
    }
    flows.set(stream.class, flow)
  }
  return [...flows.values()].sort((a, b) => order.indexOf(a.class) - order.indexOf(b.class))
}

function screen(snapshot: Snapshot, options: TopOptions, width: number | undefined): string {
  const state = snapshot.ready ? styled('green', 'ready') : styled('yellow', 'not ready')
  const columns: Column[] = [
    { title: 'CLASS' },
    { title: 'IN/S', align: 'right' },
    { title: 'STORED/S', align: 'right' },
    { title: 'PRODUCED', align: 'right', optional: true },
    { title: 'STORED', align: 'right', optional: true },
    { title: 'IN FLIGHT', align: 'right' },
    { title: 'DROPPED', align: 'right' },
    { title: 'UNKNOWN', align: 'right' },
    { title: 'DROPPED BY', flexible: true },
  ]
  const rows = snapshot.flows.map((flow): Cell[] => [
    flow.class,
    { text: counted(flow.producedPerSecond), style: 'bold' },
    counted(flow.storedPerSecond),
    counted(flow.produced),
    counted(flow.stored),
    counted(flow.inFlight),
    counted(dropsOf(flow.dropped)),
    counted(flow.unknown),
    Object.entries(flow.dropped)
      .map(([reason, count]) => `${reason} ${counted(count)}`)
      .join(' '),
  ])
  const parts = snapshot.parts.map(({ name, ready, detail }) => {
    const text = printable(detail === '' ? name : `${name}: ${detail}`)
    return ready ? text : styled('yellow', text)
  })
  const sections = [
    `dpulse top  ${baseUrl(options)}  ${state}  ${snapshot.time.slice(11, 19)}Z`,
    parts.join('   '),
    verdict(snapshot.ledger),
    `\n${table(columns, rows, width)}`,
  ]
  if (snapshot.inside !== undefined) sections.push(...insideTables(snapshot.inside, width))
  if (snapshot.devices.length > 0) sections.push(`\n${devicesTable(snapshot.devices, Date.now(), width)}`)
  return sections.filter((section) => section !== '').join('\n')
}

function insideTables({ components, buffers, limits, senders }: Inside, width: number | undefined): string[] {
  const reasons = (counts: Record<string, number>) =>
    Object.entries(counts)
      .map(([reason, count]) => `${reason} ${counted(count)}`)
      .join(' ')
  const right = (title: string): Column => ({ title, align: 'right' })
  const flow = table(
    [
      { title: 'COMPONENT' },
      { title: 'TYPE' },
      right('IN'),
      right('OUT'),
      right('MISSED'),
      { title: 'DROPPED', flexible: true },
      { title: 'FAILURES', flexible: true },
      right('RESTARTS'),
    ],
    components.map((one) => [
      one.id,
      `${one.type} ${one.kind}`,
      counted(one.in),
      counted(one.out),
      counted(one.missed ?? 0),
      reasons(one.dropped),
      reasons(one.failures),
      counted(one.restarts),
    ]),
    width,
  )
  const held = table(
    [{ title: 'BUFFER OF' }, right('MEMORY'), right('DISK'), right('IN FLIGHT'), right('WAITING')],
    buffers.map((one) => [
      one.id,
      `${counted(Math.ceil(one.memoryBytes / 1024))} KiB`,
      `${counted(Math.ceil(one.diskBytes / 1024))} KiB`,
      counted(one.inFlight),
      counted(one.waiting),
    ]),
    width,
  )
  return [`\n${flow}`, `\n${held}`, ...limitTables({ limits, senders }, width)]
}

/** So many senders fit a screen. */
const mostShown = 20

function limitTables(
  { limits, senders }: Pick<Inside, 'limits' | 'senders'>,
  width: number | undefined,
): string[] {
  const found: string[] = []
  if (limits.length > 0) {
    const shares = limits.map(({ name, share }) => `${name} ${Math.max(0, Math.round(share * 100))} %`)
    found.push(`\nused of the limits: ${shares.join('   ')}`)
  }
  if (senders.length === 0) return found
  const right = (title: string): Column => ({ title, align: 'right' })
  const rows = senders
    .slice(0, mostShown)
    .map((one) => [
      printable(one.sender),
      counted(one.records),
      `${counted(Math.ceil(one.bytes / 1024))} KiB`,
      counted(one.dropped),
      `${one.slowedSeconds.toFixed(1)} s`,
    ])
  const columns = [
    { title: 'SENDER' },
    right('RECORDS'),
    right('BYTES'),
    right('BEYOND QUOTA'),
    right('HELD BACK'),
  ]
  return [...found, `\n${table(columns, rows, width)}`]
}
