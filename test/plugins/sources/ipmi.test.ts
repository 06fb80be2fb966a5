// The ipmi source against Debian's ipmi_sim through Debian's ipmitool, and what ipmitool prints, as it was recorded.
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type * as z from 'zod'
import { RetryableError } from '../../../plugins/contract/index.ts'
import type { Records } from '../../../plugins/contract/index.ts'
import { conditionsOf } from '../../../plugins/protocols/ipmi/discrete.ts'
import { deviceOf, frusOf } from '../../../plugins/protocols/ipmi/fru.ts'
import { readingsOf } from '../../../plugins/protocols/ipmi/sdr.ts'
import { parseMeaning, recordOf } from '../../../plugins/protocols/ipmi/sel.ts'
import ipmi from '../../../plugins/sources/ipmi.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { ipmiUser, startIpmiSim, whyNoIpmi } from '../../support/ipmi-sim.ts'
import type { IpmiSim } from '../../support/ipmi-sim.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'

type Config = z.input<typeof ipmi.config>
process.env.DPULSE_TEST_IPMI = ipmiUser.password
const now = 1_795_260_000_000_000_000n

const configOf = (sim: IpmiSim, more: Partial<Config> = {}): Config => ({
  host: sim.host,
  port: sim.port,
  username: ipmiUser.name,
  password: { env: 'DPULSE_TEST_IPMI' },
  cipher_suite: 3, // ipmi_sim knows no better
  interval: '10s',
  timeout: '10s',
  ...more,
})

async function simulate(): Promise<IpmiSim> {
  const sim = await startIpmiSim()
  onTestFinished(() => sim.stop())
  return sim
}

interface Options {
  config?: Partial<Config>
  saved?: string | undefined
  onEmit?: (records: Records) => Promise<void> | void
}

function watch(sim: IpmiSim, options: Options = {}) {
  const clock = new FakeClock(now)
  const context = testContext({ clock })
  context.saved = options.saved
  const stop = new AbortController()
  const received: Records[] = []
  const stopped = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(new RetryableError('STOPPING', 'the end')))
  })
  stopped.catch(() => undefined)
  const parsed = ipmi.config.parse(configOf(sim, options.config))
  const run = ipmi.create(parsed, context).run(async (records) => {
    await Promise.race([options.onEmit?.(records), stopped])
    received.push(records)
  }, stop.signal)
  run.catch(() => undefined)
  const end = async () => {
    stop.abort()
    await run.catch(() => undefined)
  }
  onTestFinished(end)
  const rest = () =>
    Promise.race([vi.waitFor(() => expect(clock.waiting).toBeGreaterThan(0), { timeout: 30_000 }), run])
  const next = async (ms = 60_000) => {
    received.length = 0
    await clock.advance(ms)
    await rest()
  }
  return { clock, context, received, run, end, rest, next }
}
const pointsOf = (received: readonly Records[]) =>
  collectPoints(received.filter(({ signal }) => signal === 'metrics'))
const eventsOf = (received: readonly Records[]) =>
  collectLogs(received.filter(({ signal }) => signal === 'logs'))
const valuesOf = (received: readonly Records[], name: string) =>
  Object.fromEntries(
    pointsOf(received)
      .filter((one) => one.name === name)
      .map(({ attributes, value }) => [attributes['hw.name'], value]),
  )

/** A record of the SEL: Upper Critical going high of sensor 1, at a time. */
const crossing = (seconds: number): string => {
  const time = Buffer.alloc(4)
  time.writeUInt32LE(seconds)
  const bytes = [...time, 0x20, 0x00, 0x04, 0x01, 0x01, 0x01, 0x59, 0x80, 0x70]
  return `sel_add 0x20 0x02 ${bytes.map((one) => `0x${one.toString(16)}`).join(' ')}`
}

const needed = whyNoIpmi === undefined ? '' : ` (${whyNoIpmi})`

describe.skipIf(whyNoIpmi !== undefined)(`ipmi with ipmi_sim${needed}`, () => {
  let shared: IpmiSim | undefined
  afterAll(() => shared?.stop())
  conformsToSource(ipmi, async () => configOf((shared ??= await startIpmiSim())))

  test('reports sensors, limits, power and units', async () => {
    const { received, rest } = watch(await simulate())
    await rest()
    await expect(golden(received)).toMatchFileSnapshot('../../golden/ipmi/sim.json')
    expect(new Set(received.map(({ device }) => device))).toEqual(new Set(['mt2334xz0abc']))
    expect(valuesOf(received, 'hw.temperature')).toEqual({ DPU_Temp: 44 })
    expect(valuesOf(received, 'hw.fan.speed')).toEqual({ FAN_1: 4200 })
    expect(valuesOf(received, 'hw.voltage')).toEqual({ '12V_ATX': 12.24 })
  })

  test('tells the state of what only says what is the case, and how it changes', async () => {
    const sim = await simulate()
    const { received, rest, next } = watch(sim)
    await rest()
    const stateOf = (name: string) =>
      pointsOf(received)
        .filter((one) => one.name === 'hw.status' && one.attributes['hw.name'] === name && one.value === 1n)
        .map(({ attributes }) => [attributes['hw.id'], attributes['hw.type'], attributes['hw.state']])
    expect(stateOf('PS1_Status')).toEqual([['PS1_Status@10.1', 'power_supply', 'ok']])
    expect(stateOf('PS_Redundancy')).toEqual([['PS_Redundancy@21.1', 'power_supply', 'ok']])
    sim.command('sensor_set_bit 0x20 0 5 3 1 1')
    sim.command('sensor_set_bit 0x20 0 6 0 0 1')
    sim.command('sensor_set_bit 0x20 0 6 2 1 1')
    await vi.waitFor(
      async () => {
        await next(10_000)
        expect(stateOf('PS1_Status')[0]?.[2]).toBe('failed')
        expect(stateOf('PS_Redundancy')[0]?.[2]).toBe('degraded')
      },
      { timeout: 20_000 },
    )
  })

  test('asks again through the same helper, and sees what changed', async () => {
    const sim = await simulate()
    const { received, rest, next } = watch(sim)
    await rest()
    sim.command('sensor_set_value 0x20 0 1 0x6a 0')
    await vi.waitFor(
      async () => {
        await next(10_000)
        expect(valuesOf(received, 'hw.temperature')).toEqual({ DPU_Temp: 106 })
      },
      { timeout: 20_000, interval: 10 },
    )
    const failed = pointsOf(received).find(
      ({ name, attributes, value }) =>
        name === 'hw.status' && attributes['hw.name'] === 'DPU_Temp' && value === 1n,
    )
    expect(failed?.attributes['hw.state']).toBe('failed')
  })

  test('tells each record of the event log once, over restarts and after it was cleared', async () => {
    const sim = await simulate()
    sim.command(crossing(1_763_719_200))
    const first = watch(sim)
    await first.rest()
    await vi.waitFor(
      async () => {
        if (eventsOf(first.received).length === 0) await first.next()
        expect(eventsOf(first.received)).toHaveLength(1)
      },
      { timeout: 20_000, interval: 10 },
    )
    const [event] = eventsOf(first.received)
    expect(event).toMatchObject({ eventName: 'dpu.sensor.alarm', severityNumber: 18 })
    expect(event?.body).toMatch(/^Temperature DPU_Temp: Upper Critical going high, reading 128/)
    await first.next()
    expect(eventsOf(first.received)).toEqual([])
    await first.end()

    sim.command('sel_add 0x20 0x02 0 0 0 0 0x20 0 0x04 0x0c 0x02 0x6f 0x01 0xff 0xff')
    const second = watch(sim, { saved: first.context.saved })
    await vi.waitFor(
      async () => {
        await second.rest()
        if (eventsOf(second.received).length === 0) await second.next()
        expect(eventsOf(second.received).map(({ eventName }) => eventName)).toEqual(['dpu.memory.error'])
      },
      { timeout: 20_000, interval: 10 },
    )
  })

  test('that nobody acknowledged is told again', async () => {
    const sim = await simulate()
    sim.command(crossing(1_763_719_200))
    const emitted = Promise.withResolvers<void>()
    const killed = watch(sim, {
      config: { log_interval: '1s', interval: '1s' },
      onEmit: async ({ signal }) => {
        if (signal !== 'logs') return
        emitted.resolve()
        await new Promise(() => undefined)
      },
    })
    const ticks = (async () => {
      for (;;) await killed.next(1000)
    })()
    ticks.catch(() => undefined)
    await Promise.race([emitted.promise, ticks])
    const { saved } = killed.context
    await killed.end()
    const again = watch(sim, { saved })
    await again.rest()
    expect(eventsOf(again.received)).toHaveLength(1)
  })

  test('comes back when the BMC hung', async () => {
    const sim = await simulate()
    const { received, rest, next, context, run } = watch(sim, { config: { timeout: '1s' } })
    await rest()
    sim.pause()
    await next(10_000)
    expect(context.logged.map(({ fields }) => fields.code)).toEqual(['PEER_TIMEOUT'])
    sim.resume()
    await Promise.race([next(10_000), run])
    expect(valuesOf(received, 'hw.temperature')).toEqual({ DPU_Temp: 44 })
  })

  test('says who was refused, and shows the password nowhere', async () => {
    process.env.DPULSE_TEST_IPMI_WRONG = 'wrong-secret'
    const sim = await simulate()
    const { run } = watch(sim, { config: { password: { env: 'DPULSE_TEST_IPMI_WRONG' } } })
    const error = await run.then(
      () => undefined,
      (reason: unknown) => reason as Error,
    )
    expect(error).toMatchObject({ code: 'PEER_REFUSED' })
    expect(error?.message).toContain('refuses the user ipmiusr')
    expect(error?.message).not.toContain('wrong-secret')
  })

  test('says when ipmitool is missing', async () => {
    const { run } = watch(await simulate(), { config: { program: 'no-such-ipmitool' } })
    await expect(run).rejects.toMatchObject({ code: 'LIBRARY_MISSING' })
  })
})

describe('what ipmitool prints', () => {
  test('of sensors is read with unit, state and limits; what is not measured is absent', () => {
    const lines = [
      // ipmitool 1.8.19, -c -v sdr elist full, of ipmi_sim 2.0.33
      'DPU_Temp,44,degrees C,ok,7.1,System Board,Temperature,,,,255.000,105.000,95.000,0.000,0.000,0.000,0.000,255.000',
      'p0_temp,,,ns,7.4,System Board,Temperature,,,,255.000,75.000,70.000,0.000,0.000,0.000,0.000,255.000',
      'DPU_Temp2,106,degrees C,Upper Critical,7.1,System Board,Temperature,,,,255.000,105.000,95.000,,,,,',
      // placeholders and oddities
      'Temp,-128,degrees C,ok,3.1,Processor,Temperature,,,,,,,,,,,',
      'Temp,na,degrees C,na,3.2,Processor,Temperature,,,,,,,,,,,',
      'Temp,41,degrees C,nc,3.1,Processor,Temperature,,,,,,,,,,,',
      'Inlet,77,degrees F,ok,64.1,Air Inlet,Temperature,,,,,,,,,,,',
      'Pwr,180,Watts,ok,10.1,Power Supply,Current,,,,,,,,,,,',
      'FAN,4200,RPM,cr,29.1,Fan Device,Fan,,,,,,,,300.000,500.000,,',
      'Status,0x00,discrete,0x0180,7.1,System Board,Power Unit',
      'garbage',
      '',
    ]
    const found = readingsOf(lines).map(({ id, kind, type, value, state, limits }) => ({
      id,
      kind,
      type,
      value,
      state,
      limits: limits.map((one) => `${one.type} ${one.value}`),
    }))
    expect(found).toEqual([
      {
        id: 'DPU_Temp@7.1',
        kind: 'temperature',
        type: 'temperature',
        value: 44,
        state: 'ok',
        limits: ['low.critical 0', 'low.degraded 0', 'high.degraded 95', 'high.critical 105'],
      },
      {
        id: 'p0_temp@7.4',
        kind: 'temperature',
        type: 'temperature',
        value: undefined,
        state: undefined,
        limits: ['low.critical 0', 'low.degraded 0', 'high.degraded 70', 'high.critical 75'],
      },
      {
        id: 'DPU_Temp2@7.1',
        kind: 'temperature',
        type: 'temperature',
        value: 106,
        state: 'failed',
        limits: ['high.degraded 95', 'high.critical 105'],
      },
      { id: 'Temp@3.1', kind: 'temperature', type: 'temperature', value: undefined, state: 'ok', limits: [] },
      {
        id: 'Temp@3.2',
        kind: 'temperature',
        type: 'temperature',
        value: undefined,
        state: undefined,
        limits: [],
      },
      {
        id: 'Temp@3.1#2',
        kind: 'temperature',
        type: 'temperature',
        value: 41,
        state: 'degraded',
        limits: [],
      },
      { id: 'Inlet@64.1', kind: 'temperature', type: 'temperature', value: 25, state: 'ok', limits: [] },
      { id: 'Pwr@10.1', kind: 'power', type: 'power_supply', value: 180, state: 'ok', limits: [] },
      {
        id: 'FAN@29.1',
        kind: 'fan',
        type: 'fan',
        value: 4200,
        state: 'failed',
        limits: ['low.critical 300', 'low.degraded 500'],
      },
    ])
  })

  test('of what is the case is read as a state, and nothing is made up of what says none', () => {
    const lines = [
      // `ipmitool -c sdr type "Power Supply"` of three servers, as a health check of JumpScale quotes it
      'PS1 Status,C8h,ok,10.1,Presence detected',
      'PSU1_Status,DEh,ok,10.1,Presence detected, Power Supply AC lost',
      'PSU2_Status,DFh,ns,10.2,No Reading',
      'PSU Redundancy,E6h,ok,21.1,Redundancy Lost',
      'PSU Alert,16h,ns,208.1,Event-Only',
      // ipmitool 1.8.19 of a Supermicro X11SSL-F, and names of IPMI's tables 42-2 and 42-3
      'Chassis Intru,AAh,ok,23.1,',
      'PS2 Status,c9h,cr,10.2,Presence detected, Failure detected',
      'FAN2,42h,ok,29.2,3500 RPM',
      'Drive 4,64h,ok,4.4,Drive Present, Predictive Failure',
      'Status,60h,ok,3.1,Presence detected',
      'Status,61h,ok,3.1,Presence detected, IERR',
      'PS3,62h,ok,10.3,AC out-of-range, but present',
      'DIMM,63h,ok,32.5,Memory Device Disabled, Presence Detected',
      'PWRGD,64h,ok,10.1,State Asserted',
      'DPU_Temp,44,degrees C,ok,7.1,System Board,Temperature,,,,,,,,,,,',
    ]
    expect(conditionsOf(lines).map(({ id, type, state }) => [id, type, state])).toEqual([
      ['PS1 Status@10.1', 'power_supply', 'ok'],
      ['PSU1_Status@10.1', 'power_supply', 'failed'],
      ['PSU Redundancy@21.1', 'power_supply', 'failed'],
      ['Chassis Intru@23.1', 'enclosure', 'ok'],
      ['PS2 Status@10.2', 'power_supply', 'failed'],
      ['Drive 4@4.4', 'physical_disk', 'degraded'],
      ['Status@3.1', 'cpu', 'ok'],
      ['Status@3.1#2', 'cpu', 'failed'],
      ['PS3@10.3', 'power_supply', 'degraded'],
    ])
  })

  test('of a record gives time, direction and meaning; before its clock was set it has no time', () => {
    const raw = Buffer.from('010002e3680000200004010101598070', 'hex')
    expect(recordOf(raw)).toMatchObject({ id: 1, timeUnixNano: undefined, isAsserted: true })
    raw.writeUInt32LE(1_763_719_200, 3)
    raw[12] = 0x81
    expect(recordOf(raw)).toMatchObject({ timeUnixNano: 1_763_719_200_000_000_000n, isAsserted: false })
    expect(
      parseMeaning([
        'SEL Record ID          : 0001',
        ' Sensor Type           : Temperature',
        ' Sensor Number         : 01',
        ' Event Type            : Threshold',
        ' Description           : Upper Critical going high',
        'DPU_Temp,44.000,degrees C,ok,0.000,0.000,0.000,95.000,105.000,255.000',
      ]),
    ).toMatchObject({
      sensorType: 'Temperature',
      sensorName: 'DPU_Temp',
      description: 'Upper Critical going high',
    })
  })

  test('of units names the device by its serial number, never by a placeholder', () => {
    const units = (serial: string) =>
      frusOf([
        'FRU Device Description : Builtin FRU Device (ID 0)',
        ' Product Name          : X',
        ` Product Serial        : ${serial}`,
      ])
    const guid = 'a1b2c3d4-0000-1111-2222-333344445555'
    expect(deviceOf(units('MT2334XZ0ABC'), guid)).toBe('mt2334xz0abc')
    expect(deviceOf(units('To be filled by O.E.M.'), guid)).toBe(guid)
    expect(deviceOf(units('N/A'), undefined)).toBeUndefined()
    expect(
      frusOf(['FRU Device Description : SLOT (ID 3)', ' Device not present (Requested sensor not present)']),
    ).toEqual([])
  })
})
