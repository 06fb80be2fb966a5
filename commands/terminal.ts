// What people see: tables that fit the terminal, colours where it has them (NO_COLOR is honoured), and nothing that a
// device could have put into a text to steer the terminal.
import process from 'node:process'
import { styleText } from 'node:util'

export type Style = Parameters<typeof styleText>[0]
export type Cell = string | { text: string; style: Style }

export interface Column {
  title: string
  align?: 'right'
  /** Gives way first where the terminal is narrow. */
  flexible?: boolean
  /** Left out where even that is not enough, the last first. */
  optional?: boolean
}

/** Styled for stdout, or plain where it takes no colours. */
export function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout })
}

// Control characters and those that turn the direction of text: shown as escapes, so that a log line cannot move the
// cursor, change the title or disguise itself.
// oxlint-disable-next-line no-control-regex
const unprintable = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

export function printable(text: string): string {
  return text.replace(unprintable, (character) => {
    if (character === '\n') return '\\n'
    if (character === '\t') return '  '
    const code = character.charCodeAt(0)
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`
  })
}

const wide =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u
const plain = /^[\x20-\x7e]*$/

/** Columns that a text takes on a terminal. */
export function widthOf(text: string): number {
  if (plain.test(text)) return text.length
  let width = 0
  for (const character of text)
    width += /\p{Mn}|\p{Me}|\u200d/u.test(character) ? 0 : wide.test(character) ? 2 : 1
  return width
}

/** Cut to a width, with an ellipsis when something is gone. */
export function fitted(text: string, width: number): string {
  if (widthOf(text) <= width) return text
  let kept = ''
  let used = 0
  for (const character of text) {
    used += widthOf(character)
    if (used > width - 1) break
    kept += character
  }
  return `${kept}…`
}

/** Columns of the terminal; undefined where nobody looks and nothing is cut. */
export function terminalWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined
}

/** Fits into `width` where it can: flexible columns give way, then optional ones go; a number is never cut. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  width: number | undefined,
): string {
  const all = columns.map((column, index) => {
    const cells = rows.map((row) => shownOf(row[index] ?? ''))
    const wanted = cells.reduce((most, { text }) => Math.max(most, widthOf(text)), column.title.length)
    return { column, cells, wanted, given: wanted }
  })
  const kept = width === undefined ? all : fit(all, width)
  const line = (cellOf: (one: Fitted) => Shown) =>
    kept
      .map((one, index) => {
        const { text, style } = cellOf(one)
        const shown = fitted(text, one.given)
        const right = one.column.align === 'right'
        const gap = ' '.repeat(
          index === kept.length - 1 && !right ? 0 : Math.max(0, one.given - widthOf(shown)),
        )
        const painted = style === undefined || shown === '' ? shown : styled(style, shown)
        return right ? gap + painted : painted + gap
      })
      .join('  ')
      .trimEnd()
  const head = line(({ column }) => ({ text: column.title, style: 'dim' }))
  return [head, ...rows.map((_, row) => line(({ cells }) => cells[row] ?? { text: '' }))].join('\n')
}

interface Shown {
  text: string
  style?: Style
}

interface Fitted {
  column: Column
  cells: Shown[]
  wanted: number
  given: number
}

function shownOf(cell: Cell): Shown {
  return typeof cell === 'string' ? { text: printable(cell) } : { ...cell, text: printable(cell.text) }
}

function fit(all: readonly Fitted[], width: number): Fitted[] {
  const least = ({ column, wanted }: Fitted) => (column.flexible === true ? Math.min(wanted, 10) : wanted)
  const total = (list: readonly Fitted[], of: (one: Fitted) => number) =>
    list.reduce((sum, one) => sum + of(one) + 2, -2)
  let kept = [...all]
  while (total(kept, least) > width) {
    const last = kept.findLastIndex(({ column }) => column.optional === true)
    if (last < 0) break
    kept = kept.toSpliced(last, 1)
  }
  let excess = total(kept, ({ wanted }) => wanted) - width
  for (const one of kept) {
    if (excess <= 0) break
    const less = Math.min(excess, one.wanted - least(one))
    one.given = one.wanted - less
    excess -= less
  }
  return kept
}

const thousands = new Intl.NumberFormat('en-US')

export function counted(value: number): string {
  return thousands.format(value)
}

/** `3 s`, `12 min`, `4 h`, `2 d`. */
export function ago(time: string, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(time)) / 1000))
  if (Number.isNaN(seconds)) return time
  if (seconds < 100) return `${seconds} s`
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}

/** `key=value` pairs, sorted. */
export function pairs(attributes: Record<string, unknown>): string {
  return Object.entries(attributes)
    .map(([key, value]) => `${key}=${textOf(value)}`)
    .sort()
    .join(' ')
}

/** A JSON value as one would read it: text as it is, all else as JSON. */
export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}

/** One JSON document for programs; indented where a person looks. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, undefined, process.stdout.isTTY ? 2 : undefined)}\n`)
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Beside the answer, never in it: on stderr. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}
