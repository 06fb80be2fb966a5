// Several aggregators on real Kafka, as processes that are killed and frozen: what moves is neither lost nor doubled.
import { describe, expect, test } from 'vitest'
import { brokers, kafkaPlace, noKafka } from '../support/kafka.ts'
import { allCountedOnce, startMemberProcess, startTraffic, storeFolder } from '../support/member-process.ts'
import { eventually } from '../support/programs.ts'

const all = [0, 1, 2, 3, 4, 5]

describe('a group of aggregators', () => {
  test('that grows divides the devices; one that is killed is replaced within 15 s', async ({ skip }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const folder = storeFolder()
    const first = startMemberProcess(place, folder, brokers)
    await eventually('the first has all', 30, () => first.owned().length === all.length)
    const traffic = startTraffic(place, brokers)
    const second = startMemberProcess(place, folder, brokers)
    await eventually('both have half', 30, () => first.owned().length === 3 && second.owned().length === 3)
    expect([...first.owned(), ...second.owned()].toSorted((a, b) => a - b)).toEqual(all)
    second.child.kill('SIGKILL')
    const killedMs = performance.now()
    await eventually('the first has all again', 15, () => first.owned().length === all.length)
    expect(performance.now() - killedMs).toBeLessThan(15_000)
    await traffic.stop()
    await allCountedOnce(place, brokers, folder, traffic)
  }, 120_000)

  test('one that sleeps for a minute and wakes up changes nothing of what others have taken over', async ({
    skip,
  }) => {
    if (noKafka !== undefined) skip(noKafka)
    const place = kafkaPlace()
    const folder = storeFolder()
    const first = startMemberProcess(place, folder, brokers)
    const second = startMemberProcess(place, folder, brokers)
    await eventually('both have half', 40, () => first.owned().length === 3 && second.owned().length === 3)
    const traffic = startTraffic(place, brokers)
    await eventually('traffic flows', 20, () => traffic.seq() > 50)
    second.child.kill('SIGSTOP')
    const began = performance.now()
    await eventually('the first has all', 15, () => first.owned().length === all.length)
    await eventually('a minute has passed', 70, () => performance.now() - began > 60_000)
    second.child.kill('SIGCONT')
    await eventually(
      'it takes part again',
      40,
      () => first.owned().length === 3 && second.owned().length === 3,
    )
    const seq = traffic.seq()
    await eventually('traffic flows on', 20, () => traffic.seq() > seq + 50)
    await traffic.stop()
    await allCountedOnce(place, brokers, folder, traffic)
  }, 240_000)
})
