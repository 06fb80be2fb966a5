// The names of the log's files, all in one directory, so that one fsync makes any of them durable.
//
//   topic@<name>@<ordinal>-<first offset>-<salt>.log   a segment; a hole in the ordinals is a file that somebody removed
//   table@<name>@<generation>-0-<salt>.log             all changes of a table since its last rewriting
//   ….log.new                                          a rewriting under way; left behind by a crash, it is removed
//   reserve                                            room given up when the disk is full, so that deleting still works
//   lock.<n>                                           lock.ts
import { randomBytes } from 'node:crypto'

export interface FileName {
  kind: 'topic' | 'table'
  name: string
  /** Counts the files of a topic, and the rewritings of a table. */
  ordinal: number
  base: number
  salt: number
}

export const RESERVE = 'reserve'
export const NEW = '.new'

const PATTERN = /^(topic|table)@([$a-z0-9_.+-]{1,200})@([0-9]{1,16})-([0-9]{1,16})-([0-9a-f]{8})\.log$/

/** `+` is no character of a name, and stands for the slash. Figures are padded so that `ls` sorts them. */
export const format = (file: FileName): string =>
  `${file.kind}@${file.name.replaceAll('/', '+')}@${pad(file.ordinal, 6)}-${pad(file.base, 12)}-${hex(file.salt)}.log`

export function parse(file: string): FileName | undefined {
  const [, kind, name, ordinal, base, salt] = PATTERN.exec(file) ?? []
  if (name === undefined) return undefined
  return {
    kind: kind === 'topic' ? 'topic' : 'table',
    name: name.replaceAll('+', '/'),
    ordinal: Number(ordinal),
    base: Number(base),
    salt: Number.parseInt(salt ?? '', 16),
  }
}

export const newSalt = (): number => randomBytes(4).readUInt32LE()

const pad = (figure: number, digits: number): string => String(figure).padStart(digits, '0')
const hex = (figure: number): string => figure.toString(16).padStart(8, '0')
