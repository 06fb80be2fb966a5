// How counters of devices count: whole numbers that wrap where their register ends.

const limit32 = 2 ** 32

/** The counter after `by` more, rounded to whole ones; a register of 32 bits begins again at 0. */
export function counted(value: number, by: number, bits: 32 | 64): number {
  const next = value + Math.round(by)
  return bits === 32 && next >= limit32 ? next % limit32 : next
}

/** Whole events of a mean that is below one mostly: what is over is a matter of chance. */
export function wholes(mean: number, chance: number): number {
  const whole = Math.floor(mean)
  return whole + (chance < mean - whole ? 1 : 0)
}
