// `dpulse label D dpu.rack=r12 dpu.slot-` and `dpulse label --from labels.csv`.
import { readFile } from 'node:fs/promises'
import { Labelled } from './answers.ts'
import { change, whoAmI } from './asking.ts'
import { CommandFailure } from './failure.ts'
import { settle, theRevision } from './settling.ts'
import type { WaitOptions } from './settling.ts'
import { note } from './terminal.ts'

type Labels = Record<string, string | null>

/** Rows that are sent at once. */
const batch = 2000

export async function label(
  device: string | undefined,
  pairs: readonly string[],
  options: WaitOptions & { from?: string },
): Promise<void> {
  if ((device === undefined) === (options.from === undefined)) {
    throw new CommandFailure('takes a device with its labels, or --from with a CSV file', 2)
  }
  const given = options.from === undefined ? one(device ?? '', pairs) : await fromFile(options.from)
  const known: string[] = []
  const online: string[] = []
  for (let at = 0; at < given.length; at += batch) {
    const devices = Object.fromEntries(given.slice(at, at + batch))
    const answer = await change(options, 'POST', '/api/labels', {}, { devices, by: whoAmI() }, Labelled)
    if (options.from === undefined && answer.unknown.length > 0) {
      note(`${device} was not heard of yet; it gets its labels when it comes`)
    } else if (answer.unknown.length > 0) {
      note(
        `not heard of yet, they get their labels when they come: ${answer.unknown.slice(0, 20).join(', ')}`,
      )
    }
    const unknown = new Set(answer.unknown)
    online.push(...answer.online)
    known.push(...answer.devices.filter((name) => !unknown.has(name)))
  }
  await settle(options, { devices: known, online }, theRevision('take their labels'))
}

function one(device: string, pairs: readonly string[]): [string, Labels][] {
  if (pairs.length === 0) throw new CommandFailure('takes labels: dpu.rack=r12 sets, dpu.rack- takes away', 2)
  const labels = pairs.map((pair): [string, string | null] => {
    const at = pair.indexOf('=')
    if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)]
    if (/^[^=]+-$/.test(pair)) return [pair.slice(0, -1), null]
    throw new CommandFailure(`${JSON.stringify(pair)}: dpu.rack=r12 sets, dpu.rack- takes away`, 2)
  })
  return [[device.toLowerCase(), Object.fromEntries(labels)]]
}

async function fromFile(file: string): Promise<[string, Labels][]> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CommandFailure(`${file} cannot be read (${(cause as NodeJS.ErrnoException).code})`, 2, {
      cause,
    })
  })
  return labelsOfCsv(text, file)
}

/** @throws CommandFailure that names the line. */
export function labelsOfCsv(text: string, file: string): [string, Labels][] {
  const [head, ...rows] = rowsOf(text, file)
  const names = head?.cells.map((cell) => cell.trim()) ?? []
  const at = names.indexOf('device')
  if (at < 0 || names.length < 2) {
    throw new CommandFailure(`${file}:1: expected columns device,dpu.site,dpu.rack,…`, 2)
  }
  const seen = new Map<string, number>()
  return rows.map(({ cells, line }) => {
    if (cells.length !== names.length) {
      throw new CommandFailure(`${file}:${line}: ${cells.length} cells, expected ${names.length}`, 2)
    }
    const device = (cells[at] ?? '').trim().toLowerCase()
    if (!/^[a-z0-9-]{1,64}$/.test(device)) {
      throw new CommandFailure(`${file}:${line}: ${JSON.stringify(device)} is no name of a device`, 2)
    }
    const before = seen.get(device)
    if (before !== undefined)
      throw new CommandFailure(`${file}:${line}: ${device} is in line ${before} too`, 2)
    seen.set(device, line)
    const labels: Labels = {}
    for (const [index, cell] of cells.entries()) {
      const value = cell.trim()
      if (index === at || value === '') continue
      labels[names[index] ?? ''] = value === '-' ? null : value
    }
    return [device, labels]
  })
}

interface Row {
  cells: string[]
  line: number
}

/** RFC 4180: cells may be quoted, and hold commas, quotes (doubled) and line breaks then. */
function rowsOf(text: string, file: string): Row[] {
  const rows: Row[] = []
  let cells: string[] = []
  let line = 1
  let began = 1
  const cell = /\s*"((?:[^"]|"")*)"[^\S\n]*(,|\r?\n|$)|([^",\n]*?)(,|\r?\n|$)/gy
  const plain = text.replace(/^\uFEFF/, '')
  while (cell.lastIndex < plain.length) {
    const found = cell.exec(plain)
    if (!found)
      throw new CommandFailure(`${file}:${line}: a quote that does not end, or one within a cell`, 2)
    const [whole, quoted, quotedEnd, bare, bareEnd] = found
    cells.push(quoted === undefined ? (bare ?? '') : quoted.replaceAll('""', '"'))
    line += whole.split('\n').length - 1
    if ((quotedEnd ?? bareEnd) === ',') {
      if (cell.lastIndex >= plain.length) cells.push('')
      else continue
    }
    if (cells.some((one) => one.trim() !== '')) rows.push({ cells, line: began })
    cells = []
    began = line
  }
  return rows
}
