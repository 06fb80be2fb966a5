// The program that a message names, read before anything is done with it: for whoever counts by service. Where it stands
// is told by `SyslogParser` in full; this finds it in what most senders write.
import { isDigit } from './header.ts'

const longest = 64

/** APP-NAME of RFC 5424, TAG of RFC 3164; undefined where there is none. */
export function serviceOf(bytes: Buffer, start: number, end: number, local: boolean): string | undefined {
  const behind = bytes[start] === 0x3c ? bytes.indexOf(0x3e, start) + 1 : start
  if (behind === 0 || behind >= end) return undefined
  if (isDigit(bytes[behind]) && bytes[behind + 1] === 0x20) {
    const at = skipTokens(bytes, behind, end, 3)
    return textOf(bytes, at, tokenEnd(bytes, at, end))
  }
  // `Mmm dd hh:mm:ss `, and the host unless a program of this machine wrote it.
  const hasTime = bytes[behind + 3] === 0x20 && bytes[behind + 6] === 0x20 && bytes[behind + 15] === 0x20
  let at = hasTime ? behind + 16 : behind
  if (hasTime && !local) at = skipTokens(bytes, at, end, 1)
  return textOf(bytes, at, tagEnd(bytes, at, end))
}

function skipTokens(bytes: Buffer, start: number, end: number, count: number): number {
  let at = start
  for (let token = 0; token < count && at < end; token++) {
    while (at < end && bytes[at] !== 0x20) at++
    at++
  }
  return at
}

function tokenEnd(bytes: Buffer, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at] !== 0x20) at++
  return at
}

/** Of `sshd[412]:` or `sshd:` the name. */
function tagEnd(bytes: Buffer, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at] !== 0x20 && bytes[at] !== 0x3a && bytes[at] !== 0x5b) at++
  return at
}

const textOf = (bytes: Buffer, start: number, end: number): string | undefined =>
  end <= start || end - start > longest || (end - start === 1 && bytes[start] === 0x2d)
    ? undefined
    : bytes.toString('latin1', start, end)
