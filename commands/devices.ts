// `dpulse get devices` and `dpulse delete device D`.
import process from 'node:process'
import { createInterface } from 'node:readline/promises'
import { Devices } from './answers.ts'
import { ask, remove } from './asking.ts'
import type { AskOptions } from './asking.ts'
import { CommandFailure } from './failure.ts'
import { ago, note, pairs, print, printJson, printable, styled, table, terminalWidth } from './terminal.ts'
import type { Cell, Column } from './terminal.ts'

export interface ChoiceOptions extends AskOptions {
  output: 'table' | 'json'
  device?: readonly string[]
  selector?: readonly string[]
}

export async function getDevices(options: ChoiceOptions): Promise<void> {
  const { device, selector } = options
  const devices = await ask(options, '/api/devices', { device, selector }, Devices)
  if (options.output === 'json') return printJson(devices)
  if (devices.length === 0) return note('no devices; a collector that reports makes one appear')
  return print(devicesTable(devices, Date.now(), terminalWidth()))
}

export function devicesTable(devices: Devices, nowMs: number, width: number | undefined): string {
  const columns: Column[] = [
    { title: 'DEVICE' },
    { title: 'NAME', flexible: true, optional: true },
    { title: 'STATE' },
    { title: 'SEEN', align: 'right' },
    { title: 'COLLECTOR', flexible: true, optional: true },
    { title: 'VERSION', optional: true },
    { title: 'LABELS', flexible: true },
  ]
  const rows = devices.map((one): Cell[] => [
    one.device,
    one.name,
    { text: one.state, style: one.state === 'online' ? 'green' : 'yellow' },
    `${ago(one.lastSeen, nowMs)} ago`,
    one.collector ?? '',
    one.version ?? '',
    pairs(one.labels),
  ])
  const conflicts = devices.flatMap((one) =>
    (one.conflicts ?? []).map(({ collectors, detail }) => {
      const text = `conflict: ${collectors.join(' and ')} both claim ${one.device}. ${detail}`
      return styled('red', printable(text))
    }),
  )
  return [table(columns, rows, width), ...conflicts].join('\n')
}

export async function deleteDevice(device: string, options: AskOptions & { yes?: boolean }): Promise<void> {
  if (!/^[a-z0-9-]{1,64}$/.test(device)) {
    throw new CommandFailure(
      `${JSON.stringify(device)} is no name of a device; \`dpulse get devices\` lists them`,
      2,
    )
  }
  if (options.yes !== true)
    await confirm(`Forget device ${device}? Its stored records stay until they expire.`)
  if (await remove(options, `/api/devices/${device}`)) return print(`forgot ${device}`)
  throw new CommandFailure(`there is no device ${device}; \`dpulse get devices\` lists them`, 1)
}

async function confirm(question: string): Promise<void> {
  if (!process.stdin.isTTY) throw new CommandFailure(`${question} Say so with --yes.`, 2)
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await prompt.question(`${question} [y/N] `)
    if (!/^y(es)?$/i.test(answer.trim())) throw new CommandFailure('nothing was changed', 1)
  } finally {
    prompt.close()
  }
}
