// The store on InfluxDB with real processes: it is killed, frozen and back, and so is the aggregator that writes to it.
// What was acknowledged is stored once, and the ledger balances.
import { describe, expect, test } from 'vitest'
import { fleetOf, startSender, storedOf, wrongOf } from '../support/fleet.ts'
import { Influxd, influxToken, influxdPath } from '../support/influxd.ts'
import { killRun } from '../support/kill-run.ts'
import { apiUrl, eventually } from '../support/programs.ts'

const path = influxdPath()
const why = path === undefined ? ' (../shared/services has no influxd here)' : ''
process.env.INFLUX_TOKEN = influxToken

describe.skipIf(path === undefined)(`an aggregator that stores in InfluxDB${why}`, () => {
  test('waits while InfluxDB is killed and frozen, and then stores every acknowledged record once', async ({
    onTestFinished,
  }) => {
    const influxd = await Influxd.start(path ?? '')
    onTestFinished(() => influxd[Symbol.asyncDispose]())
    const portOffset = 19_500
    const fleet = fleetOf({ portOffset, arguments: ['--store', influxd.store('down')], onTestFinished })
    await fleet.startBoth()
    const sender = startSender(portOffset, { name: 'down', perRequest: 20, everyMs: 20 })
    const more = (count: number) => {
      const from = sender.acknowledged
      return eventually(`${count} more records acknowledged`, 40, () => sender.acknowledged >= from + count)
    }
    await more(1000)
    await influxd.kill()
    await more(2000)
    await influxd.start()
    await more(1000)
    influxd.freeze()
    await more(2000)
    influxd.thaw()
    await more(500)
    // Killed again, and meanwhile the aggregator too: it comes back before its store does.
    await influxd.kill()
    await more(500)
    await fleet.kill('aggregator')
    fleet.start('aggregator')
    // It is up, and says from the start what it lacks.
    await eventually('health names InfluxDB', 90, async () => {
      const answer = await fetch(`${apiUrl(portOffset)}/api/health`)
      return answer.status === 503 && (await answer.text()).includes('InfluxDB')
    })
    await more(500)
    await influxd.start()
    await fleet.aggregatorAnswers()
    await sender.stop()
    const ledger = await fleet.settled(60, ({ stored }) => stored >= sender.acknowledged)
    expect(ledger).toMatchObject({ balanced: true, unknown: 0 })
    expect(wrongOf(await storedOf(portOffset, 'down'), sender.sends)).toEqual({ lost: [], multiplied: [] })
  }, 180_000)

  test('and its collector, killed at random, lose no acknowledged record and store none more often than sent', async ({
    onTestFinished,
  }) => {
    const influxd = await Influxd.start(path ?? '')
    onTestFinished(() => influxd[Symbol.asyncDispose]())
    const result = await killRun({
      seed: 7,
      records: 40_000,
      kills: 4,
      under: 'alone',
      portOffset: 19_600,
      pauseMs: 2500,
      store: influxd.store('kills'),
    })
    expect(result).toMatchObject({ lost: [], multiplied: [], invented: [], balanced: true })
    expect(result.acknowledged).toBe(40_000)
    expect(result.kills).toEqual({ collector: 4, aggregator: 4 })
  }, 180_000)
})
