// The redfish source against a service that serves captures of real BMCs and misbehaves as they do.
import { readFileSync } from 'node:fs'
import { X509Certificate } from 'node:crypto'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { Records } from '../../../plugins/contract/index.ts'
import redfish from '../../../plugins/sources/redfish.ts'
import { createAuthority } from '../../support/certificates.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { collectLogs, collectPoints } from '../../support/records.ts'
import type { PlainPoint } from '../../support/records.ts'
import { capturesAreHere, redfishService, whyNoCaptures } from '../../support/redfish.ts'
import type { Capture, RedfishService } from '../../support/redfish.ts'
import { login, metricsOf, serve, user, watch } from '../../support/redfish-source.ts'

/** One line a record, for review: whose it is, what it says, and its attributes; of states the one that holds. */
function linesOf(all: readonly Records[]): string {
  const attributes = (of: object) => JSON.stringify(of).replaceAll('"', '')
  const lines = all.flatMap((records) =>
    records.signal === 'metrics'
      ? collectPoints(records)
          .filter(({ unit, type, value }) => !(unit === '1' && type === 'sum' && value === 0n))
          .map(
            (one) =>
              `${one.time} ${records.class} ${one.name} ${one.value} ${one.unit} ${attributes(one.attributes)}`,
          )
      : collectLogs(records).map(
          (one) =>
            `${one.time} ${records.class} ${one.severityNumber} ${one.severityText} [${one.eventName}] ` +
            `${JSON.stringify(one.body)} ${attributes(one.attributes)}`,
        ),
  )
  const devices = [...new Set(all.map(({ device }) => device))].join(', ')
  return `${[`devices: ${devices}`, ...lines].join('\n')}\n`
}

const idOf = ({ attributes }: PlainPoint): string => {
  const id = attributes['hw.id']
  return typeof id === 'string' ? id.replace('/redfish/v1/', '') : ''
}
const valuesOf = (points: readonly PlainPoint[], name: string): Record<string, unknown> =>
  Object.fromEntries(points.filter((one) => one.name === name).map((one) => [idOf(one), one.value]))
const activeOf = (points: readonly PlainPoint[], name: string, key: string): Record<string, unknown> =>
  Object.fromEntries(
    points
      .filter((one) => one.name === name && one.value === 1n)
      .map((one) => [idOf(one), one.attributes[key]]),
  )
const needed = capturesAreHere ? '' : ` (${whyNoCaptures})`

describe.skipIf(!capturesAreHere)(`redfish${needed}`, () => {
  let shared: RedfishService | undefined
  const example = async () => {
    shared ??= await redfishService({ capture: 'bluefield3-bf23.10' })
    return { endpoint: shared.url, interval: '10s' }
  }
  afterAll(() => shared?.close())
  conformsToSource(redfish, example)

  test.each(['bluefield3-bf23.10', 'dmtf-smartnic', 'dmtf-telemetry'] as const)(
    'reports what %s shows as it did before',
    async (capture) => {
      const service = await serve({ capture })
      const { rest, received } = watch(service)
      await rest()
      await expect(linesOf(received)).toMatchFileSnapshot(`../../golden/redfish/${capture}.txt`)
    },
  )

  test.each<Capture>(['bluefield3-bf23.10', 'dmtf-smartnic', 'dmtf-telemetry'])(
    'stores no sensor of %s twice, whichever resources show it',
    async (capture) => {
      const points = await watch(await serve({ capture })).reading()
      const keys = points.map(({ name, time, attributes }) => `${name} ${time} ${JSON.stringify(attributes)}`)
      expect(new Set(keys).size).toBe(keys.length)
      const series = points.filter(({ name }) => name === 'hw.temperature').map(idOf)
      expect(new Set(series).size).toBe(series.length)
    },
  )

  test('leaves out what a BlueField-3 does not measure: null, nan, and firmware that names no version', async () => {
    const points = await watch(await serve()).reading()
    expect(valuesOf(points, 'hw.temperature')).toEqual({ 'Chassis/Card1/Sensors/bluefield_temp': 44 })
    expect(Object.keys(valuesOf(points, 'hw.voltage'))).toHaveLength(16)
    expect(valuesOf(points, 'hw.voltage')['Chassis/Card1/Sensors/12V_ATX']).toBe(12.28)
    expect(valuesOf(points, 'hw.power')).toEqual({})
    expect(Object.keys(activeOf(points, 'dpu.firmware.info', 'hw.firmware_version')).toSorted()).toEqual(
      ['BMC_Firmware', 'Bluefield_FW_ERoT', 'DPU_ATF', 'DPU_NIC', 'DPU_OFED', 'DPU_UEFI'].map(
        (id) => `UpdateService/FirmwareInventory/${id}`,
      ),
    )
    expect(points.filter(({ name }) => name === 'dpu.boot.state')).toEqual([])
  })

  test('takes a sensor from itself rather than from its copies, and walks to chassis that no collection lists', async () => {
    const points = await watch(await serve({ capture: 'dmtf-smartnic' })).reading()
    const temperatures = valuesOf(points, 'hw.temperature')
    expect(temperatures['Chassis/1U/Sensors/CPU1Temp']).toBe(37)
    expect(temperatures['Chassis/Card2/Sensors/CardTemp']).toBe(37)
    expect(valuesOf(points, 'hw.fan.speed')['Chassis/1U/Sensors/FanBay1']).toBe(2200)
    expect(valuesOf(points, 'hw.power')['Chassis/1U/Sensors/CPU1Power']).toBe(90)
    expect(valuesOf(points, 'hw.energy')['Chassis/1U/Sensors/PS1Energy']).toBe(7855 * 3_600_000)
    expect(Object.keys(valuesOf(points, 'hw.voltage')).filter((id) => id.includes('PS2'))).toEqual([])
    expect(activeOf(points, 'hw.status', 'hw.state')['Chassis/1U/PowerSubsystem/PowerSupplies/Bay1']).toBe(
      'degraded',
    )
  })

  test('speaks of the systems that a BMC manages, each by its serial number', async () => {
    const { rest, received } = watch(await serve({ capture: 'dmtf-smartnic' }))
    await rest()
    const devices = new Map(
      metricsOf(received).flatMap((one) => collectPoints(one).map((point) => [idOf(point), one.device])),
    )
    expect(devices.get('Chassis/Card1/Sensors/CardTemp')).toBe('637xr7568r4')
    expect(devices.get('Chassis/1U/Sensors/IntakeTemp')).toBe('437xr1138r2')
    expect(devices.get('Chassis/Card2/Sensors/CardTemp')).toBe('437xr1138r2')
  })

  test('keeps a device when its BMC forgets the serial number, and takes the one that the configuration names', async () => {
    const service = await serve()
    const system = service.read('/redfish/v1/Systems/Bluefield') ?? {}
    const { reading, next, context } = watch(service, { config: { discovery: '30s' } })
    const devicesOf = (points: readonly PlainPoint[]) => [
      ...new Set(points.map(({ resource }) => resource['host.id'])),
    ]
    expect(devicesOf(await reading())).toEqual(['mt2313xz0l2p'])
    service.changed.set('/redfish/v1/Systems/Bluefield', { ...system, SerialNumber: 'NA' })
    for (const one of ['Card1', 'Bluefield_BMC']) {
      const path = `/redfish/v1/Chassis/${one}`
      service.changed.set(path, { ...service.read(path), SerialNumber: 'NA' })
    }
    expect(devicesOf(await next())).toEqual(['mt2313xz0l2p'])
    service.faults.status = { path: /Systems$/, status: 404 }
    expect(devicesOf(await next())).toEqual(['mt2313xz0l2p'])
    expect(devicesOf(await watch(service, { saved: context.saved }).reading())).toEqual(['mt2313xz0l2p'])
    expect(devicesOf(await watch(service, { config: { device: 'dpu-7' } }).reading())).toEqual(['dpu-7'])
  })

  test.each(['ignored', 'refused'] as const)('reads the same where $expand is %s', async (fault) => {
    const plain = await watch(await serve()).reading()
    const service = await serve()
    service.faults.expand = fault
    const { reading, next } = watch(service)
    const strip = (points: readonly PlainPoint[]) =>
      points.map(({ name, value, attributes }) => ({ name, value, attributes }))
    expect(strip(await reading())).toEqual(strip(plain))
    const after = strip(await next())
    expect(after.filter(({ name }) => name === 'hw.voltage')).toHaveLength(16)
  })

  test('asks in between only for what showed something, in few requests', async () => {
    const service = await serve()
    const { reading, next } = watch(service)
    const first = await reading()
    const walk = service.requests.splice(0).length
    const second = await next()
    expect(service.requests.length).toBeLessThan(walk / 2)
    expect(service.requests.filter((one) => one.includes('Sensors'))).toEqual([
      'GET /redfish/v1/Chassis/Card1/Sensors?$expand=.($levels=1)',
    ])
    const names = (points: readonly PlainPoint[]) => points.map((point) => `${point.name} ${idOf(point)}`)
    expect(names(second)).toEqual(names(first))
  })

  test('sees a value that appears between two walks', async () => {
    const service = await serve()
    const { reading, next } = watch(service)
    await reading()
    const path = '/redfish/v1/Chassis/Card1/Sensors/p0_temp'
    service.changed.set(path, { ...service.read(path), Reading: 41.5 })
    expect(valuesOf(await next(), 'hw.temperature')).toMatchObject({ 'Chassis/Card1/Sensors/p0_temp': 41.5 })
  })

  test.each([null, 'nan', 'NA', '', -128, 255, 1e30, '1e999', {}, [44], true])(
    'takes %j for no temperature',
    async (reading) => {
      const service = await serve()
      const path = '/redfish/v1/Chassis/Card1/Sensors/bluefield_temp'
      service.changed.set(path, { ...service.read(path), Reading: reading })
      const points = await watch(service).reading()
      expect(valuesOf(points, 'hw.temperature')).toEqual({})
      expect(Object.keys(valuesOf(points, 'hw.voltage'))).toHaveLength(16)
    },
  )

  test('logs in once, again when its session is lost, and gives it back', async () => {
    const service = await serve({ capture: 'bluefield3-bf23.10', user })
    const { reading, next, end } = watch(service, { config: login })
    expect(valuesOf(await reading(), 'hw.temperature')).not.toEqual({})
    expect(service.requests.filter((one) => one.startsWith('POST'))).toHaveLength(1)
    service.faults.expireSessions = true
    expect(valuesOf(await next(), 'hw.temperature')).not.toEqual({})
    expect(service.requests.filter((one) => one.startsWith('POST'))).toHaveLength(2)
    await end()
    expect(service.requests.at(-1)).toMatch(/^DELETE .*\/Sessions\//)
    expect([...service.sessions]).toEqual([])
  })

  test('sends the password with each request where no sessions are made', async () => {
    const service = await serve({ capture: 'bluefield3-bf23.10', user })
    service.faults.noSessions = true
    expect(valuesOf(await watch(service, { config: login }).reading(), 'hw.temperature')).not.toEqual({})
  })

  test('says who was refused, never with which password', async () => {
    process.env.DPULSE_TEST_WRONG = 'wrong-secret'
    const service = await serve({ capture: 'bluefield3-bf23.10', user })
    const { run, context } = watch(service, {
      config: { username: 'root', password: { env: 'DPULSE_TEST_WRONG' } },
    })
    await expect(run).rejects.toMatchObject({
      code: 'PEER_REFUSED',
      message: 'the service refuses the user root: Invalid username or password',
    })
    expect(JSON.stringify(context.logged)).not.toContain('wrong-secret')
  })

  test('asks at most four things at once', async () => {
    const service = await serve({ capture: 'dmtf-smartnic' })
    service.faults.expand = 'ignored'
    service.faults.delay = { path: /Sensors\/./, ms: 20 }
    await watch(service).reading()
    expect(service.most()).toBe(4)
  })

  test('leaves a BMC alone for as long as it asks', async () => {
    const service = await serve()
    service.faults.status = { path: /Card1\/Power$/, status: 503, retryAfter: 7, times: 1 }
    const { clock, received, context } = watch(service)
    await vi.waitFor(() => expect(clock.waiting).toBeGreaterThan(0))
    const before = service.requests.length
    await clock.advance(6000)
    expect(service.requests.length - before).toBe(0)
    expect(received).toEqual([])
    await clock.advance(1000)
    await vi.waitFor(() => expect(received).not.toEqual([]))
    expect(context.logged.map(({ fields }) => fields.what)).toContain('/redfish/v1/Chassis/Card1/Power')
  })

  test('goes on where one resource fails, and says which', async () => {
    const service = await serve()
    service.faults.status = { path: /Card1\/Sensors/, status: 403 }
    const { reading, context } = watch(service)
    expect(activeOf(await reading(), 'hw.status', 'hw.state')['Chassis/Card1']).toBe('ok')
    expect(context.logged.map(({ fields }) => fields.what)).toContain('/redfish/v1/Chassis/Card1/Sensors')
  })

  test('ends a log of pages that leads to itself, and follows no link to another host', async () => {
    const service = await serve()
    const path = '/redfish/v1/Chassis/Card1/Sensors'
    const more = { '@odata.id': 'http://127.0.0.1:1/redfish/v1/Chassis/Card1/Sensors/evil' }
    const body = service.read(path) ?? {}
    service.changed.set(path, {
      ...body,
      Members: [...(body.Members as object[]), more],
      'Members@odata.nextLink': `${path}?$skip=19`,
    })
    const points = await watch(service).reading()
    expect(Object.keys(valuesOf(points, 'hw.voltage'))).toHaveLength(16)
    expect(service.requests.join()).not.toContain('evil')
  })

  test('reads no more resources than it may', async () => {
    const { reading, context } = watch(await serve(), { config: { most: 10 } })
    await reading()
    expect(context.logged.map(({ fields }) => fields.what)).toContain('resources')
  })

  test('fails when there is nobody, and when nobody answers in time', async () => {
    const service = await serve()
    service.faults.delay = { path: /./, ms: 5000 }
    await expect(watch(service, { config: { timeout: '50ms' } }).run).rejects.toMatchObject({
      code: 'PEER_TIMEOUT',
    })
    await expect(watch({ url: 'http://127.0.0.1:1' }).run).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })

  test('trusts a certificate by its authority or by its fingerprint, and no other', async () => {
    const authority = createAuthority()
    onTestFinished(() => authority.remove())
    const tls = authority.selfSigned('bmc')
    const { fingerprint256 } = new X509Certificate(readFileSync(tls.cert))
    const service = await serve({ capture: 'bluefield3-bf23.10', tls, user })
    await expect(watch(service, { config: login }).run).rejects.toMatchObject({ code: 'PEER_REFUSED' })
    const other = fingerprint256.replaceAll(':', '').replace(/^../, (two) => (two === '00' ? '11' : '00'))
    await expect(
      watch(service, { config: { ...login, tls: { fingerprint: other } } }).run,
    ).rejects.toMatchObject({
      code: 'PEER_REFUSED',
    })
    expect(service.requests).toEqual([])
    const pinned = watch(service, { config: { ...login, tls: { fingerprint: fingerprint256 } } })
    expect(valuesOf(await pinned.reading(), 'hw.temperature')).not.toEqual({})
    const signed = await serve({ capture: 'bluefield3-bf23.10', tls: authority.certificate('bmc') })
    const checked = watch(signed, { config: { tls: { ca: authority.ca } } })
    expect(valuesOf(await checked.reading(), 'hw.temperature')).not.toEqual({})
    expect(pinned.context.logged).toEqual([])
  })

  test('warns where nothing protects the password', async () => {
    const service = await serve({ capture: 'bluefield3-bf23.10', user })
    const { reading, context } = watch(service, { config: login })
    await reading()
    expect(context.logged[0]).toMatchObject({ level: 'warn' })
  })
})

describe('the configuration of redfish', () => {
  const problemOf = (config: unknown) => redfish.config.safeParse(config).error?.issues[0]?.message
  test('names what is wrong with it', () => {
    expect(problemOf({ endpoint: 'ftp://bmc' })).toContain('https://HOST')
    expect(problemOf({ endpoint: 'https://root:pw@bmc' })).toContain('username')
    expect(problemOf({ endpoint: 'https://bmc/somewhere' })).toContain('/redfish/v1')
    expect(problemOf({ endpoint: 'https://bmc', username: 'root' })).toContain('go together')
    expect(problemOf({ endpoint: 'https://bmc', tls: { fingerprint: 'abc' } })).toContain('64 hexadecimal')
    expect(problemOf({ endpoint: 'https://bmc/redfish/v1/' })).toBeUndefined()
  })
})
