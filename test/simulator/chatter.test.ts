// What devices write to their logs: how much, how varied, in bursts, and never more than there is room for.
import { describe, expect, test } from 'vitest'
import { kinds } from '../../simulator/kinds/index.ts'
import type { Device, Line } from '../../simulator/model.ts'
import { step } from '../../simulator/physics/index.ts'
import { kindOf, makeDevice } from '../support/simulated.ts'

/** Lines of so many seconds, taken each second as a source does. */
function linesOf(device: Device, seconds: number): Line[][] {
  return Array.from({ length: seconds }, () => {
    step(device)
    return device.state.lines.splice(0)
  })
}

const skeleton = ({ service, text }: Line): string => `${service} ${text.replace(/[0-9a-f]{2,}|\d/g, '#')}`

describe('chatter', () => {
  test('comes from many templates with many values, and leaves no hole unfilled', () => {
    for (const kind of kinds) {
      const lines = linesOf(makeDevice(kind, 8), 4 * 3600).flat()
      expect(lines.filter(({ text }) => /[{}]/.test(text) || text.includes('undefined'))).toEqual([])
      expect(new Set(lines.map(skeleton)).size).toBeGreaterThan(15)
      expect(new Set(lines.map(({ text }) => text)).size).toBeGreaterThan(0.7 * lines.length)
      expect(lines.every(({ pid, atMs }) => pid >= 0 && atMs > 0)).toBe(true)
    }
  })

  test('is as much as the templates of a kind say, within what rows of one line add', () => {
    const kind = kindOf('bluefield-2')
    const rest = kind.chatter
      .filter(({ service }) => service !== 'kernel')
      .reduce((sum, one) => sum + one.perHour, 0)
    let quietest = Infinity
    for (let seed = 1; seed <= 8; seed++)
      quietest = Math.min(quietest, linesOf(makeDevice(kind, seed), 3600).flat().length)
    expect(quietest).toBeGreaterThan(0.7 * rest)
    expect(quietest).toBeLessThan(6 * rest)
  })

  test('is more when there is more to do', () => {
    const [idle, busy] = [makeDevice(kindOf('bluefield-3'), 5), makeDevice(kindOf('bluefield-3'), 5)]
    let [few, many] = [0, 0]
    for (let second = 0; second < 2 * 3600; second++) {
      busy.state.strain.network = 0.8
      step(idle)
      step(busy)
      few += idle.state.lines.splice(0).length
      many += busy.state.lines.splice(0).length
    }
    expect(many).toBeGreaterThan(1.5 * few)
  })

  test('comes in bursts: there are seconds with ten lines, and most have none', () => {
    const seconds = linesOf(makeDevice(kindOf('octeon'), 3), 6 * 3600).map((lines) => lines.length)
    expect(Math.max(...seconds)).toBeGreaterThanOrEqual(10)
    expect(seconds.filter((count) => count === 0).length).toBeGreaterThan(seconds.length / 2)
  })

  test('is the same from the same seed and another from another', () => {
    const texts = (seed: number) =>
      linesOf(makeDevice(kindOf('ipu-e2100'), seed), 3600)
        .flat()
        .map(({ text }) => text)
    expect(texts(1)).toEqual(texts(1))
    expect(texts(1)).not.toEqual(texts(2))
  })

  test('of a service that is down is none', () => {
    const device = makeDevice(kindOf('octeon'), 3)
    const index = device.state.services.findIndex(({ name }) => name === 'vpp')
    const found = linesOf(device, 3600)
      .flat()
      .filter(({ service }) => service === 'vpp')
    expect(found.length).toBeGreaterThan(5)
    for (let second = 0; second < 3600; second++) {
      const service = device.state.services[index]
      const own = device.state.inner.services[index]
      if (service) service.isActive = false
      if (own) own.startsAtMs = Infinity
      step(device)
      expect(device.state.lines.splice(0).filter((line) => line.service === 'vpp')).toEqual([])
    }
  })

  test('that nobody takes is dropped when there is no room, and how much is told once there is', () => {
    const device = makeDevice(kindOf('bluefield-3'), 3)
    const loud = () => device.state.strain.lines.fill(500, 0, 1)
    for (let second = 0; second < 60; second++) {
      loud()
      step(device)
    }
    expect(device.state.lines).toHaveLength(2000)
    device.state.lines.length = 0
    const told = linesOf(device, 600)
      .flat()
      .filter(({ service }) => service === 'systemd-journald')
    expect(told[0]?.text).toMatch(/^Suppressed \d{4,} messages from ovs-vswitchd\.service$/)
  })
})
