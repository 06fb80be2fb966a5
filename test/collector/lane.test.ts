// What a lane of the buffer still lists of batches that left it: in thousands of collectors it was most of the memory.
import { describe, expect, test } from 'vitest'
import { hold, letGo } from '../../collector/held.ts'
import type { Held } from '../../collector/held.ts'
import { Lane } from '../../collector/lane.ts'
import { Stream } from '../../collector/stream.ts'
import { sealBatch } from '../../plugins/contract/index.ts'

const stream = new Stream({ collector: 'dpu-1', session: 'S', device: 'dpu-1', class: 'log' }, true)
const batch = (): Held => hold(sealBatch(stream.seal(1, 1n, 1n, 'logs'), 'logs', []), stream, 0, {})

function send(lane: Lane): Held {
  const held = lane.take(0)
  if (!held) throw new Error('nothing to send')
  held.state = 'sending'
  return held
}

describe('a lane', () => {
  test('lists nothing any more once all are delivered and it was looked at', () => {
    const lane = new Lane()
    const all = [batch(), batch()]
    for (const held of all) lane.add(held)
    const sent = all.map(() => send(lane))
    for (const held of sent) letGo(held)
    expect(lane.hasNext(0)).toBe(false)
    expect(lane.isEmpty).toBe(true)
    lane.add(batch())
    expect(send(lane).batch.header.seq).toBe(3)
  })

  test('keeps one that is under way or failed, whatever was delivered around it', () => {
    const lane = new Lane()
    for (let count = 0; count < 3; count++) lane.add(batch())
    const [first, second, third] = [send(lane), send(lane), send(lane)]
    letGo(first)
    letGo(third)
    expect(lane.hasNext(0)).toBe(false)
    expect(lane.isEmpty).toBe(false)
    lane.giveBack(second)
    expect(lane.hasNext(0)).toBe(true)
    expect(lane.take(0)).toBe(second)
  })

  test('offers to the log what comes after all that was there has gone to it', () => {
    const lane = new Lane()
    const spilled = (): Held[] => {
      const offered: Held[] = []
      lane.eachToSpill(Infinity, (held) => offered.push(held) > 0)
      return offered
    }
    const first = batch()
    lane.add(first)
    expect(spilled()).toEqual([first])
    first.offset = 1
    lane.eachToEvict(Infinity, (held) => {
      letGo(held)
      lane.hasNext(0) // whoever hears of it looks for more to send
    })
    expect(lane.isEmpty).toBe(true)
    const second = batch()
    lane.add(second)
    expect(spilled()).toEqual([second])
    second.offset = 2
    const evicted: Held[] = []
    lane.eachToEvict(Infinity, (held) => void evicted.push(held))
    expect(evicted).toEqual([second])
  })
})
