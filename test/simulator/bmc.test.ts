// The simulated BMC as a Redfish service: who may ask, what it answers, and what requests do to the device.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer as createTcpServer, connect } from 'node:net'
import { request as httpsRequest } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { startBmcs } from '../../simulator/bmc/index.ts'
import { user } from '../support/redfish-source.ts'
import { basic, simulatedBmc } from '../support/simulated-bmc.ts'
import type { Answer, SimulatedBmc } from '../support/simulated-bmc.ts'
import { pass, virtualDevice, virtualKinds } from '../support/virtual-device.ts'

const root = '/redfish/v1'
const messageOf = ({ body }: Answer): string => {
  const { code } = body.error as { code: string }
  return code.split('.').at(-1) ?? ''
}
const sessions = `${root}/SessionService/Sessions`
const logIn = (bmc: SimulatedBmc, password = user.password) =>
  bmc.ask('POST', sessions, { UserName: user.name, Password: password }, {})
const newest = (bmc: SimulatedBmc): string | undefined => bmc.device.state.bmc.log.at(-1)?.message

/** Passes time until the task of an answer is done; its last state. */
async function done(bmc: SimulatedBmc, { headers }: Answer): Promise<Answer> {
  const monitor = headers.get('location') ?? ''
  for (let minute = 0; minute < 30; minute++) {
    const answer = await bmc.ask('GET', monitor)
    if (answer.status !== 202) return answer
    pass(bmc.device, 60)
  }
  throw new Error(`${monitor} has no end`)
}

describe('who asks', () => {
  test('is told of the versions and the root without a login, and of nothing else', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const status = async (path: string) => (await bmc.ask('GET', path, undefined, {})).status
    expect((await bmc.ask('GET', '/redfish', undefined, {})).body).toEqual({ v1: '/redfish/v1/' })
    expect([await status(root), await status(`${root}/odata`)]).toEqual([200, 200])
    for (const path of ['Systems', 'Chassis/card', 'no/such/thing'])
      expect(await status(`${root}/${path}`)).toBe(401)
  })

  test('logs in and out, and is nobody with another password or after a while without a word', async () => {
    const bmc = await simulatedBmc(virtualKinds.bluefield)
    expect((await logIn(bmc, 'guess')).status).toBe(401)
    const { status, headers } = await logIn(bmc)
    expect(status).toBe(201)
    const token = { 'x-auth-token': headers.get('x-auth-token') ?? '' }
    const ask = () => bmc.ask('GET', `${root}/Systems`, undefined, token)
    expect((await ask()).status).toBe(200)
    expect((await bmc.ask('DELETE', headers.get('location') ?? '', undefined, token)).status).toBe(204)
    expect(messageOf(await ask())).toBe('NoValidSession')
    await logIn(bmc)
    pass(bmc.device, 1900)
    expect((await bmc.get(sessions)).Members).toEqual([])
  })

  test('finds no room when all sessions are taken, and room again when one ends', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const [first] = await Promise.all(Array.from({ length: 64 }, () => logIn(bmc)))
    expect(messageOf(await logIn(bmc))).toBe('SessionLimitExceeded')
    await bmc.ask('DELETE', first?.headers.get('location') ?? '')
    expect((await logIn(bmc)).status).toBe(201)
  })

  test('may only look, when the account is for that', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const made = { UserName: 'viewer', Password: 'long enough', RoleId: 'ReadOnly' }
    expect((await bmc.ask('POST', `${root}/AccountService/Accounts`, made)).status).toBe(201)
    const viewer = { authorization: `Basic ${Buffer.from('viewer:long enough').toString('base64')}` }
    expect((await bmc.ask('GET', `${root}/Systems/system`, undefined, viewer)).status).toBe(200)
    const off = { ResetType: 'ForceOff' }
    const answer = await bmc.ask('POST', `${root}/Systems/system/Actions/ComputerSystem.Reset`, off, viewer)
    expect([answer.status, messageOf(answer)]).toEqual([403, 'InsufficientPrivilege'])
    expect(bmc.device.state.power).toBe('on')
  })
})

describe('what is asked', () => {
  test('is answered in pages, expanded, and with chosen members', async () => {
    const { get, device } = await simulatedBmc(virtualKinds.bluefield)
    const sensors = `${root}/Chassis/Card1/Sensors`
    const count = device.kind.sensors.length
    const page = await get(`${sensors}?$skip=2&$top=3`)
    expect([page['Members@odata.count'], (page.Members as unknown[]).length]).toEqual([count, 3])
    const members = (await get(`${sensors}?$expand=.($levels=1)&$select=Reading`)).Members as object[]
    expect(members).toHaveLength(count)
    expect(Object.keys(members[0] ?? {}).filter((name) => !name.startsWith('@'))).toEqual(['Reading'])
    const only = await get(`${root}/Systems?only`)
    expect(only.Id).toBe('Bluefield')
  })

  test('costs no more than a bounded answer, however much is to be expanded', async () => {
    const { ask } = await simulatedBmc(virtualKinds.bluefield)
    const { status, body } = await ask('GET', `${root}?$expand=*($levels=6)`)
    expect(status).toBe(200)
    expect(JSON.stringify(body).length).toBeLessThan(4_000_000)
  })

  test.each([
    ['GET', '/Systems/other', undefined, 404, 'ResourceMissingAtURI'],
    ['GET', '/Systems?$filter=Id eq 1', undefined, 501, 'QueryNotSupported'],
    ['GET', '/Systems?$top=many', undefined, 400, 'QueryParameterValueFormatError'],
    ['PUT', '/Systems/system', {}, 405, 'OperationNotAllowed'],
    ['DELETE', '/Systems/system', undefined, 405, 'OperationNotAllowed'],
    ['PATCH', '/Systems/system', '{"Boot":', 400, 'MalformedJSON'],
    ['PATCH', '/Systems/system', [1], 400, 'UnrecognizedRequestBody'],
    [
      'PATCH',
      '/Systems/system',
      { Boot: { BootSourceOverrideTarget: 'Moon' } },
      400,
      'PropertyValueNotInList',
    ],
    ['PATCH', '/Systems/system', { SerialNumber: 'x' }, 400, 'PropertyUnknown'],
    ['POST', '/Systems/system/Actions/ComputerSystem.Reset', {}, 400, 'ActionParameterMissing'],
    [
      'POST',
      '/EventService/Subscriptions',
      { Destination: 'ftp://x', Protocol: 'Redfish' },
      400,
      'PropertyValueFormatError',
    ],
    ['POST', '/Managers/bmc/Actions/Manager.Reset', 'x'.repeat(70_000), 413, 'PayloadTooLarge'],
  ])('is refused by name where it is wrong: %s %s', async (method, path, body, status, message) => {
    const { ask } = await simulatedBmc(virtualKinds.openbmc)
    const answer = await ask(method, root + path, body)
    expect([answer.status, messageOf(answer)]).toEqual([status, message])
  })

  test('is not sent again when the client has it, and not changed when it has changed since', async () => {
    const { ask } = await simulatedBmc(virtualKinds.openbmc)
    const path = `${root}/Systems/system/SecureBoot`
    const etag = (await ask('GET', path)).headers.get('etag') ?? ''
    expect((await ask('GET', path, undefined, { ...basic, 'if-none-match': etag })).status).toBe(304)
    const change = () => ask('PATCH', path, { SecureBootEnable: true }, { ...basic, 'if-match': etag })
    expect([(await change()).status, (await change()).status]).toEqual([204, 412])
  })

  test('hangs for ever while the BMC does, and the connection ends when it is well', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    bmc.device.state.bmc.hung = true
    const asked = bmc.ask('GET', root).catch(() => 'broken')
    const limit = new Promise((resolve) => void setTimeout(resolve, 400, 'silence'))
    expect(await Promise.race([asked, limit])).toBe('silence')
    bmc.device.state.bmc.hung = false
    expect(await asked).toBe('broken')
    expect((await bmc.ask('GET', root)).status).toBe(200)
  })

  test('ends a connection that never finishes its request, and serves no more than so many at once', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const port = Number(new URL(bmc.url).port)
    const sockets = Array.from({ length: 80 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
    onTestFinished(() => void sockets.forEach((one) => one.destroy()))
    const closed = await Promise.race(sockets.map(async (one) => (await once(one, 'close'), 'refused')))
    expect(closed).toBe('refused')
  })
})

describe('a reset', () => {
  const reset = (bmc: SimulatedBmc, type: string) =>
    bmc.ask('POST', `${root}/Systems/system/Actions/ComputerSystem.Reset`, { ResetType: type })
  const system = (bmc: SimulatedBmc) => bmc.get(`${root}/Systems/system`)

  test('to off is done at once, and to on takes the time of a boot, with its stages', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    expect((await reset(bmc, 'ForceOff')).status).toBe(204)
    expect(await system(bmc)).toMatchObject({ PowerState: 'Off', BootProgress: { LastState: 'None' } })
    expect(newest(bmc)).toBe('Host system DC power is off')
    const sensor = await bmc.get(`${root}/Chassis/card/Sensors/asic_temp`)
    expect(sensor).toMatchObject({ Reading: null, Status: { State: 'UnavailableOffline' } })
    const started = await reset(bmc, 'On')
    expect([started.status, started.body.TaskState]).toEqual([202, 'Running'])
    const seen = new Set<unknown>()
    for (let second = 0; second < 400 && bmc.device.state.power !== 'on'; second += 4) {
      const { BootProgress: progress } = (await system(bmc)) as { BootProgress: { LastState: string } }
      seen.add(progress.LastState)
      pass(bmc.device, 4)
    }
    expect(seen).toContain('SystemHardwareInitializationComplete')
    expect(seen).toContain('OSBootStarted')
    expect(await system(bmc)).toMatchObject({ PowerState: 'On', BootProgress: { LastState: 'OSRunning' } })
    expect((await done(bmc, started)).body).toMatchObject({ TaskState: 'Completed', PercentComplete: 100 })
  })

  test('with grace leaves the system time to stop; another one takes its place', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const { boots } = bmc.device.state
    await reset(bmc, 'GracefulRestart')
    pass(bmc.device, 5)
    await bmc.get(root)
    expect(bmc.device.state.power).toBe('on')
    await reset(bmc, 'ForceOff')
    pass(bmc.device, 60)
    await bmc.get(root)
    expect(bmc.device.state.power).toBe('off')
    expect((await done(bmc, await reset(bmc, 'PowerCycle'))).body.TaskState).toBe('Completed')
    expect(bmc.device.state.boots).toBe(boots + 1)
  })

  test('takes what was set for the next boot once', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const override = {
      BootSourceOverrideTarget: 'UefiHttp',
      BootSourceOverrideEnabled: 'Once',
      HttpBootUri: 'http://x/y',
    }
    expect((await bmc.ask('PATCH', `${root}/Systems/system`, { Boot: override })).status).toBe(204)
    expect(await system(bmc)).toMatchObject({ Boot: override })
    await reset(bmc, 'ForceRestart')
    expect(await system(bmc)).toMatchObject({ Boot: { BootSourceOverrideEnabled: 'Disabled' } })
  })

  test('of the BMC itself ends its tasks and keeps it away for a minute', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const task = await reset(bmc, 'PowerCycle')
    const action = `${root}/Managers/bmc/Actions/Manager.Reset`
    expect((await bmc.ask('POST', action, { ResetType: 'GracefulRestart' })).status).toBe(204)
    await vi.waitFor(() => expect(bmc.get(root)).rejects.toThrow(), { timeout: 5000 })
    pass(bmc.device, 61)
    expect((await bmc.ask('GET', task.headers.get('location') ?? '')).status).toBe(404)
  })
})

describe('an update', () => {
  const form = (name: string, content: string, parameters: object = {}): FormData => {
    const body = new FormData()
    body.set('UpdateParameters', new Blob([JSON.stringify(parameters)], { type: 'application/json' }))
    body.set('UpdateFile', new Blob([content]), name)
    return body
  }
  const push = async (bmc: SimulatedBmc, body: FormData): Promise<Answer> => {
    const response = await fetch(`${bmc.url}${root}/UpdateService/update-multipart`, {
      method: 'POST',
      headers: basic,
      body,
    })
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as Answer['body'],
    }
  }
  const target = (part: string) => `${root}/UpdateService/FirmwareInventory/${part}`

  test('is a task that takes time, and runs after the next boot, whoever asked for that', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    bmc.device.state.firmware.nic = '1.4.0'
    const started = await push(
      bmc,
      form('nic-1.5.0.fwpkg', 'x'.repeat(300_000), { Targets: [target('nic')] }),
    )
    expect(started.status).toBe(202)
    expect(messageOf(await push(bmc, form('nic-1.5.0.fwpkg', 'x')))).toBe('ServiceTemporarilyUnavailable')
    const { body } = await done(bmc, started)
    expect(body).toMatchObject({ TaskState: 'Completed', TaskStatus: 'OK' })
    expect(JSON.stringify(body.Messages)).toContain('AwaitToActivate')
    expect((await bmc.get(target('nic'))).Version).toBe('1.4.0')
    await bmc.ask('POST', `${root}/Systems/system/Actions/ComputerSystem.Reset`, {
      ResetType: 'ForceRestart',
    })
    expect((await bmc.get(target('nic'))).Version).toBe('1.5.0')
    expect(bmc.device.state.firmware.nic).toBe('1.5.0')
    expect(bmc.device.state.bmc.log.map(({ messageId }) => messageId)).toContain(
      'Update.1.0.UpdateSuccessful',
    )
  })

  test('of the BMC brings what its new firmware can', async () => {
    const bmc = await simulatedBmc(virtualKinds.early)
    expect((await bmc.get(`${root}/EventService`)).ServerSentEventUri).toBeUndefined()
    const given = {
      ImageURI: 'http://images/bmc_BF-24.07-14.fwpkg',
      TransferProtocol: 'HTTP',
      Targets: [target('BMC_Firmware')],
    }
    bmc.device.kind.firmware.BMC_Firmware?.slice() // only the name tells the version
    const started = await bmc.ask('POST', `${root}/UpdateService/Actions/UpdateService.SimpleUpdate`, given)
    expect((await done(bmc, started)).body.TaskState).toBe('Completed')
    await bmc.ask('POST', `${root}/Managers/Bluefield_BMC/Actions/Manager.Reset`, {
      ResetType: 'ForceRestart',
    })
    await vi.waitFor(() => expect(bmc.get(root)).rejects.toThrow(), { timeout: 5000 })
    pass(bmc.device, 61)
    expect((await bmc.get(`${root}/EventService`)).ServerSentEventUri).toBe(`${root}/EventService/SSE`)
  })

  test('with an empty image fails, with one that is installed changes nothing, and of what is not there is refused', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const { nic } = bmc.device.state.firmware
    expect((await done(bmc, await push(bmc, form('nic-9.9.9', '')))).body.TaskState).toBe('Exception')
    const same = await done(bmc, await push(bmc, form(`nic-${nic}`, 'x', { Targets: [target('nic')] })))
    expect(JSON.stringify(same.body.Messages)).toContain('UpdateSkippedSameVersion')
    expect(messageOf(await push(bmc, form('x', 'x', { Targets: [target('soul')] })))).toBe('ResourceNotFound')
  })
})

describe('events', () => {
  /** Reads a stream until it holds a text. */
  async function streamed(
    bmc: SimulatedBmc,
    headers: Record<string, string>,
    until: string,
    query = '',
  ): Promise<string> {
    const stop = new AbortController()
    onTestFinished(() => stop.abort())
    const response = await fetch(`${bmc.url}${root}/EventService/SSE${query}`, {
      headers: { ...basic, ...headers },
      signal: stop.signal,
    })
    let text = ''
    for await (const piece of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      text += Buffer.from(piece).toString()
      if (text.includes(until)) break
    }
    return text
  }
  const submit = (bmc: SimulatedBmc, text: string, id = 'ResourceEvent.1.3.TestMessage') =>
    bmc.ask('POST', `${root}/EventService/Actions/EventService.SubmitTestEvent`, {
      Message: text,
      MessageId: id,
    })

  test('come over a stream, which goes on after the last one that the client has seen', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const first = streamed(bmc, {}, 'hello')
    await vi.waitFor(() => expect(bmc.bmcs.held(0)?.streams).toBe(1))
    await submit(bmc, 'hello')
    const [, id = ''] = /id: (\d+)/.exec(await first) ?? []
    await submit(bmc, 'while you were out')
    const rest = await streamed(bmc, { 'last-event-id': id }, 'while you were out')
    expect(rest).not.toContain('hello')
  })

  test('are only those that the filter of a stream lets through', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc)
    const text = streamed(bmc, {}, 'wanted', `?$filter=${encodeURIComponent("RegistryPrefix eq 'Update'")}`)
    await vi.waitFor(() => expect(bmc.bmcs.held(0)?.streams).toBe(1))
    await submit(bmc, 'noise')
    await submit(bmc, 'wanted', 'Update.1.0.UpdateSuccessful')
    expect(await text).not.toContain('noise')
  })

  test('are posted to those who subscribed, with their context and headers', async () => {
    const bmc = await simulatedBmc(virtualKinds.bluefield)
    const received: { headers: IncomingMessage['headers']; body: string }[] = []
    const listener = createServer((request, response) => {
      const pieces: Buffer[] = []
      request.on('data', (piece: Buffer) => void pieces.push(piece))
      request.on('end', () => {
        received.push({ headers: request.headers, body: Buffer.concat(pieces).toString() })
        response.writeHead(204).end()
      })
    }).listen(0, '127.0.0.1')
    await once(listener, 'listening')
    onTestFinished(() => void listener.close())
    const { port } = listener.address() as AddressInfo
    const made = await bmc.ask('POST', `${root}/EventService/Subscriptions`, {
      Destination: `http://127.0.0.1:${port}/events`,
      Protocol: 'Redfish',
      Context: 'mine',
      HttpHeaders: [{ 'X-Secret': 'abc' }],
    })
    expect(made.status).toBe(201)
    bmc.device.state.bmc.log.push({
      id: bmc.device.state.bmc.nextEntry++,
      severity: 'Critical',
      message: 'it burns',
      messageId: 'OpenBMC.0.1.X',
      atMs: 0,
    })
    await vi.waitFor(() => expect(received).toHaveLength(1), { timeout: 5000 })
    expect(received[0]?.headers['x-secret']).toBe('abc')
    expect(JSON.parse(received[0]?.body ?? '')).toMatchObject({
      Context: 'mine',
      Events: [{ Message: 'it burns' }],
    })
    await bmc.ask('DELETE', made.headers.get('location') ?? '')
    expect(bmc.bmcs.held(0)?.subscriptions).toBe(0)
  })
})

describe('the BMCs of a fleet', () => {
  test('are told apart by port, and none exists before it is asked', async () => {
    const devices = Array.from({ length: 20 }, (_, index) => virtualDevice(virtualKinds.openbmc, index))
    const bmcs = await startBmcs(devices, { basePort: 0, ...user, user: user.name })
    onTestFinished(() => bmcs.close())
    const response = await fetch(`${bmcs.url(13)}${root}/Chassis/card`, { headers: basic })
    expect(await response.json()).toMatchObject({ SerialNumber: devices[13]?.serial })
    expect([bmcs.held(12), bmcs.held(13)?.sessions]).toEqual([undefined, 0])
  })

  test('name a port that is taken, and hold none then', async () => {
    const holder = createTcpServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    onTestFinished(() => void holder.close())
    const { port } = holder.address() as AddressInfo
    const devices = [virtualDevice(virtualKinds.openbmc), virtualDevice(virtualKinds.openbmc, 1)]
    await expect(startBmcs(devices, { basePort: port - 1 })).rejects.toThrow(String(port))
    const free = createTcpServer().listen(port - 1, '127.0.0.1')
    await once(free, 'listening')
    free.close()
  })

  test('speak HTTPS with a certificate that clients can check', async () => {
    const bmc = await simulatedBmc(virtualKinds.openbmc, { tls: true })
    const ca = bmc.bmcs.certificate ?? ''
    const sent = httpsRequest(`${bmc.url}${root}`, { ca }).end()
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    response.resume()
    expect(response.statusCode).toBe(200)
  })
})
