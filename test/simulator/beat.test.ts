// When a device is read: at its interval, from its phase on, whatever steps are late.
import { describe, expect, test } from 'vitest'
import { Beat } from '../../simulator/beat.ts'

const never = new AbortController().signal

/** Steps of a second each, up to and with that one. */
function pass(beat: Beat, from: number, to: number): void {
  for (let second = from; second <= to; second++) beat.pass(second * 1000)
}

describe('the beat of a device', () => {
  test('reads at the interval, with the first step at or behind the time that is due', () => {
    const beat = new Beat()
    const read: number[] = []
    void beat.every(2500, 10_000, never, (atMs) => void read.push(atMs))
    pass(beat, 0, 25)
    expect(read).toEqual([3000, 13_000, 23_000])
  })

  test('keeps the time of each of its readers, and forgets one that ends', async () => {
    const beat = new Beat()
    const read: string[] = []
    const stop = new AbortController()
    const short = beat.every(0, 1000, stop.signal, (atMs) => void read.push(`a ${atMs}`))
    void beat.every(1000, 2000, never, (atMs) => void read.push(`b ${atMs}`))
    pass(beat, 0, 1)
    stop.abort()
    await short
    pass(beat, 2, 3)
    expect(read).toEqual(['a 0', 'a 1000', 'b 1000', 'b 3000'])
  })

  test('does not read one that ended before it began', async () => {
    const beat = new Beat()
    const read: number[] = []
    await beat.every(0, 1000, AbortSignal.abort(), (atMs) => void read.push(atMs))
    pass(beat, 0, 2)
    expect(read).toEqual([])
  })

  test('ends a reader that throws, tells its caller why, and reads the others', async () => {
    const beat = new Beat()
    const read: number[] = []
    const broken = beat.every(0, 1000, never, () => {
      throw new Error('no such sensor')
    })
    void beat.every(0, 1000, never, (atMs) => void read.push(atMs))
    beat.pass(0)
    await expect(broken).rejects.toThrow('no such sensor')
    pass(beat, 1, 2)
    expect(read).toEqual([0, 1000, 2000])
  })
})
