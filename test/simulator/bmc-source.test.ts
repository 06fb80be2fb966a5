// Our own redfish source against simulated BMCs: it reads all that the device is, and nothing else.
import { describe, expect, test, vi } from 'vitest'
import { kinds } from '../../simulator/kinds/index.ts'
import type { Kind } from '../../simulator/model.ts'
import { readSensor } from '../../simulator/physics/index.ts'
import { collectPoints } from '../support/records.ts'
import type { PlainPoint } from '../support/records.ts'
import { login, logsOf, metricsOf, watch } from '../support/redfish-source.ts'
import type { WatchOptions } from '../support/redfish-source.ts'
import { fast, flavours, simulatedBmc } from '../support/simulated-bmc.ts'
import type { SimulatedBmc } from '../support/simulated-bmc.ts'
import { run } from '../support/simulated.ts'

const metrics = {
  temperature: 'hw.temperature',
  voltage: 'hw.voltage',
  power: 'hw.power',
  current: 'dpu.current',
  fan: 'hw.fan.speed',
} as const

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')
const sensorOf = ({ attributes }: PlainPoint): string => textOf(attributes['hw.id']).split('/').at(-1) ?? ''

/** What sensors tell, by metric and sensor. */
const readings = (points: readonly PlainPoint[]): Record<string, unknown> =>
  Object.fromEntries(
    points
      .filter(({ name }) => (Object.values(metrics) as string[]).includes(name))
      .map((one) => [`${one.name} ${sensorOf(one)}`, one.value]),
  )

/** What the device's own sensors say at this moment. */
function expected({ device }: SimulatedBmc): Record<string, unknown> {
  const entries = device.kind.sensors.flatMap((sensor) => {
    const value = readSensor(device, sensor)
    return value === undefined ? [] : [[`${metrics[sensor.kind]} ${sensor.id}`, value]]
  })
  return Object.fromEntries(entries) as Record<string, unknown>
}

const stateOf = (points: readonly PlainPoint[], name: string): string[] =>
  points.filter((one) => one.name === name && one.value === 1n).map((one) => textOf(one.attributes[name]))

const watched = (bmc: SimulatedBmc, options: WatchOptions = {}) =>
  watch({ url: bmc.url }, { ...options, config: { ...login, ...options.config } })

const forms = [...Object.entries<Kind>(flavours), ...kinds.map((kind) => [kind.name, fast(kind)] as const)]

describe.each(forms)('the BMC of a device (%s)', (_, kind) => {
  test('is read completely, with the right values and none beside them', async () => {
    const bmc = await simulatedBmc(kind)
    const points = await watched(bmc).reading()
    expect(readings(points)).toEqual(expected(bmc))
    const installed = points.filter((one) => one.name === 'dpu.firmware.info')
    expect(
      Object.fromEntries(installed.map((one) => [sensorOf(one), one.attributes['hw.firmware_version']])),
    ).toEqual(
      Object.fromEntries(Object.entries(bmc.device.state.firmware).filter(([part]) => part !== 'DPU_BOARD')),
    )
    expect(stateOf(points, 'dpu.boot.state')).toEqual(['ready'])
    const up = points.filter((one) => one.name === 'hw.network.up').map((one) => one.value)
    expect(up).toEqual(bmc.device.state.ports.map(({ isUp }) => (isUp ? 1n : 0n)))
    const keys = points.map((one) => `${one.name} ${JSON.stringify(one.attributes)}`)
    expect(new Set(keys).size).toBe(keys.length)
  })

  test('shows what happens to its device, and lets one session do for all of it', async () => {
    const bmc = await simulatedBmc(kind)
    const { reading, next, end } = watched(bmc)
    await reading()
    run(bmc.device, 600)
    expect(readings(await next())).toEqual(expected(bmc))
    expect(bmc.bmcs.held(0)?.sessions).toBe(1)
    await end()
    expect(bmc.bmcs.held(0)?.sessions).toBe(0)
  })

  test('tells entries of its log once each, those that come while it is watched too', async () => {
    const bmc = await simulatedBmc(kind)
    const say = (text: string) => {
      const { bmc: state, elapsedMs } = bmc.device.state
      state.log.push({
        id: state.nextEntry++,
        severity: 'Warning',
        message: text,
        messageId: 'OpenBMC.0.1.X',
        atMs: elapsedMs,
      })
    }
    say('the first')
    const { rest, received } = watched(bmc)
    await rest()
    const said = () =>
      logsOf(received)
        .map(({ body }) => body)
        .filter((body) => typeof body === 'string' && /^the (first|second)$/.test(body))
    expect(said()).toEqual(['the first'])
    say('the second')
    // The stream brings it at once: the clock stands still.
    await vi.waitFor(() => expect(said()).toEqual(['the first', 'the second']), { timeout: 20_000 })
  })
})

describe('a BMC that is not well', () => {
  test('says nothing while it hangs, and all again afterwards', async () => {
    const bmc = await simulatedBmc(flavours.bluefield)
    const source = watched(bmc, { config: { timeout: '300ms' } })
    await source.reading()
    bmc.device.state.bmc.hung = true
    await source.clock.advance(30_000)
    const told = () => source.context.logged.map(({ message }) => message)
    await vi.waitFor(() => expect(told()).toContain('a reading failed'), { timeout: 20_000 })
    bmc.device.state.bmc.hung = false
    run(bmc.device, 60)
    await vi.waitFor(
      async () => {
        await source.clock.advance(30_000)
        expect(readings(collectPoints(metricsOf(source.received.splice(0))))).toEqual(expected(bmc))
      },
      { timeout: 20_000, interval: 200 },
    )
  })

  test('answers late, and is read all the same', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    bmc.device.state.bmc.delayMs = 30
    expect(readings(await watched(bmc).reading())).toEqual(expected(bmc))
  })

  test('errs now and then: what it does tell is true', async () => {
    const bmc = await simulatedBmc(flavours.bluefield)
    const source = watched(bmc)
    await source.reading()
    bmc.device.state.bmc.errorRate = 0.2
    const statuses = await Promise.all(
      Array.from({ length: 60 }, async () =>
        bmc.ask('GET', '/redfish/v1').then(
          ({ status }) => status,
          () => 'broken',
        ),
      ),
    )
    expect(new Set(statuses)).toEqual(new Set([200, 500, 503, 'broken']))
  })

  test('tells absurd values when it is out of its mind, which the source does not believe', async () => {
    const bmc = await simulatedBmc(flavours.bluefield)
    bmc.device.state.bmc.wrong = true
    const got = readings(await watched(bmc).reading())
    expect(got).not.toEqual(expected(bmc))
    // What no thermometer can mean is left out.
    const temperatures = Object.entries(got).filter(([name]) => name.startsWith('hw.temperature'))
    expect(temperatures.filter(([, value]) => Number(value) > 200 || Number(value) < -60)).toEqual([])
  })

  test('shows a sensor that is gone as one without a reading, and one that lies as it lies', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    bmc.device.state.sensorLies.set('asic_temp', 'absent').set('vdd', 1.25)
    const got = readings(await watched(bmc).reading())
    expect(got['hw.temperature asic_temp']).toBeUndefined()
    expect(got['hw.voltage vdd']).toBe(1.25)
  })
})
