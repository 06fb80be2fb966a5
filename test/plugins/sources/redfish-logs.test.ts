// Logs, events and states of the redfish source: each entry once, over restarts, cleared logs and whatever way it came.
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import { meaningOf } from '../../../plugins/protocols/redfish/messages.ts'
import { capturesAreHere, whyNoCaptures } from '../../support/redfish.ts'
import type { RedfishService } from '../../support/redfish.ts'
import { logsOf, serve, watch } from '../../support/redfish-source.ts'
import type { WatchOptions } from '../../support/redfish-source.ts'

type Json = Record<string, unknown>
const eventLog = '/redfish/v1/Systems/Bluefield/LogServices/EventLog'
const entriesPath = `${eventLog}/Entries`
const onlyEventLog = { logs: { services: { include: [eventLog] } } }

const entry = (id: number, more: Json = {}): Json => ({
  '@odata.id': `${entriesPath}/${id}`,
  Id: String(id),
  Created: new Date(1_700_000_000_000 + id * 1000).toISOString(),
  Message: `entry ${id}`,
  Severity: 'OK',
  ...more,
})

/** A BlueField whose event log has these entries; its service does not tell the newest. */
function plant(service: RedfishService, entries: readonly Json[]): void {
  service.changed.set(entriesPath, { ...service.read(entriesPath), Members: entries })
  service.changed.set(eventLog, { ...service.read(eventLog), Oem: {} })
}

async function read(service: RedfishService, saved?: string, options: WatchOptions = {}) {
  const watched = watch(service, { saved, config: onlyEventLog, ...options })
  await watched.rest()
  const bodies = logsOf(watched.received).map(({ body }) => body)
  await watched.end()
  return { bodies, saved: watched.context.saved }
}

const needed = capturesAreHere ? '' : ` (${whyNoCaptures})`

describe.skipIf(!capturesAreHere)(`logs of redfish${needed}`, () => {
  test('are told once, over restarts, with what is new', async () => {
    const service = await serve()
    plant(service, [entry(1), entry(2)])
    const first = await read(service)
    expect(first.bodies).toEqual(['entry 1', 'entry 2'])
    expect((await read(service, first.saved)).bodies).toEqual([])
    plant(service, [entry(1), entry(2), entry(3)])
    const third = await read(service, first.saved)
    expect(third.bodies).toEqual(['entry 3'])
    expect((await read(service, third.saved)).bodies).toEqual([])
  })

  test('come in the order of time, whatever the order of the service', async () => {
    const service = await serve()
    plant(service, [entry(1), entry(10), entry(100), entry(2), entry(9)])
    expect((await read(service)).bodies).toEqual(['entry 1', 'entry 2', 'entry 9', 'entry 10', 'entry 100'])
  })

  test('are told when a log was cleared and its numbers began anew', async () => {
    const service = await serve()
    plant(service, [entry(1), entry(2)])
    const { saved } = await read(service)
    plant(service, [])
    const cleared = await read(service, saved)
    expect(cleared.bodies).toEqual([])
    plant(service, [entry(1, { Created: '2023-12-01T00:00:00Z', Message: 'after the clearing' })])
    expect((await read(service, cleared.saved)).bodies).toEqual(['after the clearing'])
  })

  test('are told when the clock of the BMC fell back to 1970', async () => {
    const service = await serve()
    plant(service, [entry(1)])
    const { saved } = await read(service)
    plant(service, [entry(1), entry(2, { Created: '1970-01-01T00:00:13+00:00' })])
    expect((await read(service, saved)).bodies).toEqual(['entry 2'])
  })

  test('that nobody acknowledged are told again, and those before them are not', async () => {
    const service = await serve()
    const many = Array.from({ length: 600 }, (_, index) => entry(index + 1))
    plant(service, many)
    const told: unknown[] = []
    let emits = 0
    const killed = watch(service, {
      config: onlyEventLog,
      onEmit: async (records) => {
        if (records.signal !== 'logs') return
        // The third emit is never acknowledged, as when the collector is killed.
        if (++emits >= 3) await new Promise(() => undefined)
        told.push(...logsOf([records]).map(({ body }) => body))
      },
    })
    await vi.waitFor(() => expect(emits).toBe(3), { timeout: 20_000 })
    const { bodies } = await read(service, killed.context.saved)
    expect([...told, ...bodies]).toEqual(many.map(({ Message }) => Message))
  })

  test('of many pages are read to their end, and a long one later from where it ended', async () => {
    const service = await serve()
    const many = Array.from({ length: 120 }, (_, index) => entry(index + 1))
    plant(service, many.slice(0, 60))
    service.changed.set(entriesPath, {
      ...service.read(entriesPath),
      'Members@odata.nextLink': `${entriesPath}More`,
    })
    service.changed.set(`${entriesPath}More`, { Members: many.slice(60) })
    const { rest, clock, received } = watch(service, { config: { ...onlyEventLog, interval: '1h' } })
    await rest()
    expect(logsOf(received)).toHaveLength(120)
    service.requests.length = 0
    await clock.advance(60_000)
    await rest()
    expect(service.requests).toContain(`GET ${entriesPath}?$skip=119`)
    expect(logsOf(received)).toHaveLength(120)
  })

  test('are not read again where the service tells that nothing is new', async () => {
    const service = await serve()
    const { rest, clock } = watch(service, { config: { ...onlyEventLog, interval: '1h' } })
    await rest()
    service.requests.length = 0
    await clock.advance(60_000)
    await rest()
    expect(service.requests.filter((one) => one.includes('EventLog'))).toEqual([`GET ${eventLog}`])
  })

  test('that bring nothing new write no checkpoint: flash wears out', async () => {
    const service = await serve()
    plant(service, [entry(1), entry(2)])
    const { rest, clock, context } = watch(service, { config: { ...onlyEventLog, interval: '1h' } })
    await rest()
    const { saved } = context
    context.saved = undefined
    await clock.advance(600_000)
    await rest()
    expect(saved).toContain('"seen":["')
    expect(context.saved).toBeUndefined()
  })

  test('that fail do not keep others from being read', async () => {
    const service = await serve()
    service.faults.status = { path: /EventLog/, status: 500 }
    const { rest, received, context } = watch(service)
    await rest()
    expect(logsOf(received).some(({ body }) => (body as string).startsWith('kernel:'))).toBe(true)
    expect(context.logged.map(({ fields }) => fields.what)).toContain(eventLog)
  })

  test('begin anew where the checkpoint cannot be read, and say so', async () => {
    const service = await serve()
    plant(service, [entry(1)])
    const { rest, received, context } = watch(service, { saved: '{"logs":7}', config: onlyEventLog })
    await rest()
    expect(logsOf(received).map(({ body }) => body)).toEqual(['entry 1'])
    expect(context.logged.some(({ message }) => message.startsWith('the checkpoint cannot be read'))).toBe(
      true,
    )
  })

  test('keep severity, message and origin, and the empty cage of a port alarms nobody', async () => {
    const service = await serve()
    const { rest, received } = watch(service, { config: onlyEventLog })
    await rest()
    const found = logsOf(received)
    const failed = found.find(
      ({ attributes }) => attributes['redfish.message_id'] === 'Update.1.0.TransferFailed',
    )
    expect(failed).toMatchObject({
      eventName: 'dpu.update.failed',
      severityNumber: 18,
      severityText: 'Critical',
      time: 1_702_499_859_000_000_000n,
      attributes: { 'redfish.entry_id': '106', 'redfish.message_args': ['0.0', ''] },
    })
    const cage = found.find(({ body }) => (body as string).includes('-128'))
    expect(cage).toMatchObject({ eventName: '', severityNumber: 9, severityText: 'OK' })
  })
})

describe.skipIf(!capturesAreHere)(`states of redfish${needed}`, () => {
  test('that change are events, also over a restart', async () => {
    const service = await serve()
    const system = '/redfish/v1/Systems/Bluefield'
    const states = { config: { interval: '10s', logs: { services: { include: [] } } } }
    const { rest, next, received, context, end } = watch(service, states)
    await rest()
    expect(logsOf(received)).toEqual([])
    const boot = { BootProgress: { LastState: 'OEM', OemLastState: 'FirmwareUpdateInProgress' } }
    service.changed.set(system, { ...service.read(system), ...boot, PowerState: 'PoweringOff' })
    await next()
    received.length = 0
    service.changed.set(system, {
      ...service.read(system),
      BootProgress: { OemLastState: 'OsCrashDumpInProgress' },
      Status: { State: 'Enabled', Health: 'Critical' },
    })
    await end()
    const again = watch(service, { ...states, saved: context.saved })
    await again.rest()
    const events = logsOf(again.received).map((one) => [one.eventName, one.severityNumber, one.body])
    expect(events).toEqual([
      ['dpu.health.changed', 18, 'Bluefield: health changed from ok to failed'],
      ['dpu.boot.changed', 18, 'Bluefield: boot state changed from updating to crashing'],
    ])
  })
})

describe.skipIf(!capturesAreHere)(`events of redfish${needed}`, () => {
  const stream = '/redfish/v1/EventService/SSE'
  const service = '/redfish/v1/EventService'
  const event = (id: number, more: Json = {}): Json => ({
    EventId: String(id),
    EventTimestamp: new Date(1_700_000_000_000 + id * 1000).toISOString(),
    Message: `entry ${id}`,
    MessageId: 'ResourceEvent.1.3.ResourceStatusChangedCritical',
    MessageSeverity: 'Critical',
    OriginOfCondition: { '@odata.id': '/redfish/v1/Chassis/Card1' },
    ...more,
  })
  const bodiesOf = (received: Parameters<typeof logsOf>[0]) => logsOf(received).map(({ body }) => body)

  test('come by a stream, again after it broke from where it was, each once', async () => {
    const bmc = await serve()
    plant(bmc, [])
    bmc.changed.set(service, { ...bmc.read(service), ServerSentEventUri: stream })
    const { rest, received, clock, context } = watch(bmc, { config: onlyEventLog })
    await bmc.streaming()
    await rest()
    bmc.send({ id: '5', data: { Events: [event(1)] } })
    await vi.waitFor(() => expect(bodiesOf(received)).toEqual(['entry 1']))
    expect(logsOf(received)[0]).toMatchObject({ eventName: 'dpu.component.failed', severityNumber: 18 })
    await vi.waitFor(() => expect(context.saved).toContain('"lastEventId":"5"'))
    bmc.cutStreams()
    await vi.waitFor(() => expect(clock.waiting).toBe(3))
    await clock.advance(1000)
    await bmc.streaming()
    expect(bmc.lastEventIds).toEqual([undefined, '5'])
    bmc.send({ id: '5', data: { Events: [event(1)] } })
    bmc.send({ id: '6', data: { Events: [event(2)] } })
    await vi.waitFor(() => expect(bodiesOf(received)).toEqual(['entry 1', 'entry 2']))
  })

  test('that a log tells too are told once, whichever comes first', async () => {
    const bmc = await serve()
    plant(bmc, [])
    bmc.changed.set(service, { ...bmc.read(service), ServerSentEventUri: stream })
    const { rest, received, clock } = watch(bmc, { config: { ...onlyEventLog, interval: '1h' } })
    await bmc.streaming()
    await rest()
    const logged = (id: number) => {
      const { EventTimestamp: Created, ...more } = event(id)
      return entry(id, { ...more, Created })
    }
    plant(bmc, [logged(1)])
    bmc.send({ data: { Events: [event(1)] } })
    bmc.send({ data: { Events: [event(2)] } })
    await vi.waitFor(() => expect(bodiesOf(received)).toEqual(['entry 1', 'entry 2']))
    plant(bmc, [logged(1), logged(2), logged(3)])
    await clock.advance(60_000)
    await rest()
    expect(bodiesOf(received)).toEqual(['entry 1', 'entry 2', 'entry 3'])
  })

  test('are pushed where there is no stream, taken only from who was told the secret, and answered when safe', async () => {
    const bmc = await serve()
    plant(bmc, [])
    const port = await freePort()
    const listen = `127.0.0.1:${port}`
    const config = { ...onlyEventLog, events: { listen, destination: `http://${listen}` } }
    const { rest, received, end } = watch(bmc, { config })
    await rest(3)
    const [[path, subscription] = ['', {}]] = [...bmc.subscriptions]
    expect(subscription).toMatchObject({ Protocol: 'Redfish', EventFormatType: 'Event' })
    const destination = subscription.Destination as string
    const post = async (url: string, body: unknown) =>
      (await fetch(url, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) }))
        .status
    expect(await post(`http://${listen}/guess`, { Events: [event(1)] })).toBe(404)
    expect(await post(destination, 'no json')).toBe(400)
    expect(bodiesOf(received)).toEqual([])
    expect(await post(destination, { Events: [event(1)] })).toBe(204)
    expect(bodiesOf(received)).toEqual(['entry 1'])
    await end()
    expect(path).not.toBe('')
    expect([...bmc.subscriptions]).toEqual([])
  })

  test('of a subscription that the BMC dropped come again', async () => {
    const bmc = await serve()
    const port = await freePort()
    const listen = `127.0.0.1:${port}`
    const { rest, clock } = watch(bmc, {
      config: { ...onlyEventLog, interval: '1h', events: { listen, destination: `http://${listen}` } },
    })
    await rest(3)
    const [first = ''] = bmc.subscriptions.keys()
    bmc.subscriptions.clear()
    bmc.changed.delete(first)
    await clock.advance(5 * 60_000)
    await vi.waitFor(() => expect(bmc.subscriptions.size).toBe(1))
  })
})

describe('messages', () => {
  test.each([
    ['OpenBMC.0.1.SensorThresholdCriticalHighGoingHigh', ['x_temp', '110', '105'], 'dpu.sensor.alarm'],
    ['OpenBMC.0.1.SensorThresholdCriticalHighGoingLow', ['x_temp', '90', '105'], 'dpu.sensor.recovered'],
    ['OpenBMC.0.1.SensorThresholdWarningLowGoingLow', ['12V_ATX', '10.1', '10.4'], 'dpu.sensor.alarm'],
    ['OpenBMC.0.1.SensorThresholdCriticalLowGoingLow', ['p0_temp', '-128.000000', '-5'], undefined],
    ['OpenBMC.0.1.SensorThresholdCriticalLowGoingLow', ['p0_temp', 'nan', '-5'], undefined],
    ['Update.1.0.TargetDetermined', [], undefined],
    [undefined, [], undefined],
  ])('%s of %j means %s', (id, args, eventName) => expect(meaningOf(id, args)?.eventName).toBe(eventName))
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
