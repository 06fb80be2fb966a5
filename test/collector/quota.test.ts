import { describe, expect, test } from 'vitest'
import { limitsSettings } from '../../collector/limits.ts'
import { Quotas } from '../../collector/quota.ts'
import { FakeClock } from '../support/clock.ts'

function quotasOf(senders: object) {
  const clock = new FakeClock()
  const quotas = new Quotas(clock)
  quotas.configure(limitsSettings.parse({ senders }).senders)
  return { clock, quotas }
}

describe('the quota of a sender', () => {
  test('admits its burst, then its rate, and counts what is beyond under its name', async () => {
    const { clock, quotas } = quotasOf({ records: 100, burst: '2s' })
    const noisy = quotas.sender('10.0.0.7')
    const admitted = () =>
      Array.from({ length: 1000 }, () => noisy.admits('log', 1, 50)).filter(Boolean).length
    expect(admitted()).toBe(200)
    await clock.advance(1000)
    expect(admitted()).toBe(100)
    expect(quotas.counts()).toMatchObject([{ sender: '10.0.0.7', records: 300, dropped: 1700 }])
  })

  test('counts bytes as well as records', () => {
    const { quotas } = quotasOf({ bytes: '1kB', burst: '1s' })
    const one = quotas.sender('a')
    expect(one.admits('log', 1, 999)).toBe(true)
    expect(one.admits('log', 1, 100)).toBe(true)
    expect(one.admits('log', 1, 1)).toBe(false)
  })

  test('leaves others what is theirs', () => {
    const { quotas } = quotasOf({ records: 10, burst: '1s' })
    const [noisy, quiet] = [quotas.sender('noisy'), quotas.sender('quiet')]
    for (let turn = 0; turn < 100; turn++) noisy.admits('log', 1, 1)
    expect(noisy.admits('log', 1, 1)).toBe(false)
    expect(quiet.admits('log', 1, 1)).toBe(true)
  })

  test('lets an event go ahead of what log may not', () => {
    const { quotas } = quotasOf({ records: 10, burst: '1s' })
    const one = quotas.sender('a')
    for (let turn = 0; turn < 20; turn++) one.admits('log', 1, 1)
    expect(one.admits('log', 1, 1)).toBe(false)
    expect(one.admits('event', 1, 1)).toBe(true)
  })

  test('tells one that can wait for how long it owes', async () => {
    const { clock, quotas } = quotasOf({ records: 100, burst: '1s' })
    const one = quotas.sender('a')
    one.charge(400, 1)
    expect(one.owedMs).toBeCloseTo(3000)
    await clock.advance(3000)
    expect(one.owedMs).toBe(0)
  })

  test('has rates of its own where it is named', () => {
    const { quotas } = quotasOf({ records: 10, burst: '1s', names: { 'nginx.service': { records: 1000 } } })
    const one = quotas.sender('nginx.service')
    for (let turn = 0; turn < 900; turn++) expect(one.admits('log', 1, 1)).toBe(true)
  })

  test('is remembered for so many senders and no more; those beyond share one', () => {
    const { quotas } = quotasOf({ records: 10, burst: '1s' })
    for (let index = 0; index < 5000; index++)
      quotas.sender(`10.0.${index >> 8}.${index & 255}`).admits('log', 1, 1)
    const counts = quotas.counts()
    expect(counts.length).toBeLessThanOrEqual(257)
    expect(counts.find(({ sender }) => sender === 'others')?.dropped).toBeGreaterThan(4000)
  })

  test('limits nobody where none is configured', () => {
    const quotas = new Quotas(new FakeClock())
    const one = quotas.sender('a')
    for (let turn = 0; turn < 1000; turn++) expect(one.admits('log', 1, 1)).toBe(true)
    expect(quotas.counts()).toEqual([])
  })

  test('holds those that are known already when it is configured later', () => {
    const { quotas } = quotasOf({ records: 1, burst: '1s' })
    const one = quotas.sender('a')
    quotas.configure(limitsSettings.parse({ senders: { records: 1000, burst: '1s' } }).senders)
    for (let turn = 0; turn < 1000; turn++) expect(one.admits('log', 1, 1)).toBe(true)
    expect(one.admits('log', 1, 1)).toBe(false)
  })
})
