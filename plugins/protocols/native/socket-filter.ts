// A filter that the kernel runs on each datagram of a UDP socket (classic BPF, socket(7) SO_ATTACH_FILTER): in a flood a
// part of the syslog messages below severity "err" is thrown away before it costs a system call. The kernel counts what
// it threw away with the drops of the socket, so nothing is lost unseen.
//
//   datagram   8 bytes of UDP header | < PRI > …          PRI = 1*3DIGIT, its low three bits are the severity

// Instructions of classic BPF; A is its accumulator, X its index register.
const loadByte = 0x30
const loadWord = 0x20
const loadLength = 0x80
const shiftLeft = 0x64
const addX = 0x0c
const andConstant = 0x54
const copyToX = 0x07
const jump = 0x05
const jumpEqual = 0x15
const jumpAbove = 0x25
const jumpAtLeast = 0x35
const giveBack = 0x06

const first = 9
const [opening, closing] = [0x3c, 0x3e]
/** `err`; what is worse is less. */
const leastKept = 3
/** SKF_AD_OFF + SKF_AD_RANDOM: 32 random bits. */
const random = 0xffff_f000 + 56
const whole = 0xffff_ffff

/** Labels stand before the instruction that they name; jumps name a label, or go on with the next. */
type Line = string | readonly [code: number, k: number, then?: string | undefined, otherwise?: string]

const keepOrShed = (part: number): Line[] => [
  // A load beyond the end of a datagram would drop it: what is too short for this is kept.
  [loadLength, 0],
  [jumpAtLeast, first + 4, undefined, 'keep'],
  [loadByte, first - 1],
  [jumpEqual, opening, undefined, 'perhaps'], // without PRI it is a notice
  [loadByte, first + 1],
  [jumpEqual, closing, 'one digit'],
  [loadByte, first + 2],
  [jumpEqual, closing, 'two digits'],
  [loadByte, first + 3],
  [jumpEqual, closing, undefined, 'perhaps'],
  // Of 100 a + 10 b + c the low three bits are those of 4 a + 2 b + c, and `0` has none of them set.
  [loadByte, first],
  [shiftLeft, 2],
  [copyToX, 0],
  [loadByte, first + 1],
  [shiftLeft, 1],
  [addX, 0],
  [copyToX, 0],
  [loadByte, first + 2],
  [addX, 0],
  [jump, 0, 'severity'],
  'two digits',
  [loadByte, first],
  [shiftLeft, 1],
  [copyToX, 0],
  [loadByte, first + 1],
  [addX, 0],
  [jump, 0, 'severity'],
  'one digit',
  [loadByte, first],
  'severity',
  [andConstant, 7],
  [jumpAbove, leastKept, undefined, 'keep'],
  'perhaps',
  [loadWord, random],
  [jumpAtLeast, Math.min(whole, Math.round(part * 2 ** 32)), undefined, 'shed'],
  'keep',
  [giveBack, whole],
  'shed',
  [giveBack, 0],
]

/** The program that throws away the part (0 to 1) of what is not an error; struct sock_filter, 8 bytes each. */
export function shedProgram(part: number): Uint8Array {
  const at = new Map<string, number>()
  const code: Exclude<Line, string>[] = []
  for (const line of keepOrShed(part)) {
    if (typeof line === 'string') at.set(line, code.length)
    else code.push(line)
  }
  const bytes = Buffer.alloc(code.length * 8)
  for (const [index, [operation, k, then, otherwise]] of code.entries()) {
    // Jumps count from the instruction behind.
    const distance = (label: string | undefined) =>
      label === undefined ? 0 : (at.get(label) ?? 0) - index - 1
    const isJump = operation === jump
    bytes.writeUInt16LE(operation, index * 8)
    bytes.writeUInt8(isJump ? 0 : distance(then), index * 8 + 2)
    bytes.writeUInt8(isJump ? 0 : distance(otherwise), index * 8 + 3)
    bytes.writeUInt32LE(isJump ? distance(then) : k >>> 0, index * 8 + 4)
  }
  return bytes
}
