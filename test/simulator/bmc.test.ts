// The simulated BMC as a Redfish service: who may ask, what it answers, and what requests do to the device.
import { once } from 'node:events'
import { createServer as createTcpServer, connect } from 'node:net'
import { request as httpsRequest } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { portIsFree } from '../../plugins/contract/ports.ts'
import { startBmcs } from '../../simulator/bmc/index.ts'
import { freePort } from '../support/ports.ts'
import { user } from '../support/redfish-source.ts'
import { basic, flavours, messageOf, root, simulatedBmc } from '../support/simulated-bmc.ts'
import type { SimulatedBmc } from '../support/simulated-bmc.ts'
import { makeDevice, run } from '../support/simulated.ts'

const sessions = `${root}/SessionService/Sessions`
const logIn = (bmc: SimulatedBmc, password = user.password) =>
  bmc.ask('POST', sessions, { UserName: user.name, Password: password }, {})
describe('who asks', () => {
  test('is told of the versions and the root without a login, and of nothing else', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const status = async (path: string) => (await bmc.ask('GET', path, undefined, {})).status
    expect((await bmc.ask('GET', '/redfish', undefined, {})).body).toEqual({ v1: '/redfish/v1/' })
    expect([await status(root), await status(`${root}/odata`)]).toEqual([200, 200])
    for (const path of ['Systems', 'Chassis/card', 'no/such/thing'])
      expect(await status(`${root}/${path}`)).toBe(401)
  })

  test('logs in and out, and is nobody with another password or after a while without a word', async () => {
    const bmc = await simulatedBmc(flavours.bluefield)
    expect((await logIn(bmc, 'guess')).status).toBe(401)
    const { status, headers } = await logIn(bmc)
    expect(status).toBe(201)
    const token = { 'x-auth-token': headers.get('x-auth-token') ?? '' }
    const ask = () => bmc.ask('GET', `${root}/Systems`, undefined, token)
    expect((await ask()).status).toBe(200)
    expect((await bmc.ask('DELETE', headers.get('location') ?? '', undefined, token)).status).toBe(204)
    expect(messageOf(await ask())).toBe('NoValidSession')
    await logIn(bmc)
    run(bmc.device, 1900)
    expect((await bmc.get(sessions)).Members).toEqual([])
  })

  test('finds no room when all sessions are taken, and room again when one ends', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const [first] = await Promise.all(Array.from({ length: 64 }, () => logIn(bmc)))
    expect(messageOf(await logIn(bmc))).toBe('SessionLimitExceeded')
    await bmc.ask('DELETE', first?.headers.get('location') ?? '')
    expect((await logIn(bmc)).status).toBe(201)
  })

  test('may only look, when the account is for that', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
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
    const { get, device } = await simulatedBmc(flavours.bluefield)
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
    const { ask } = await simulatedBmc(flavours.bluefield)
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
    const { ask } = await simulatedBmc(flavours.openbmc)
    const answer = await ask(method, root + path, body)
    expect([answer.status, messageOf(answer)]).toEqual([status, message])
  })

  test('is not sent again when the client has it, and not changed when it has changed since', async () => {
    const { ask } = await simulatedBmc(flavours.openbmc)
    const path = `${root}/Systems/system/SecureBoot`
    const etag = (await ask('GET', path)).headers.get('etag') ?? ''
    expect((await ask('GET', path, undefined, { ...basic, 'if-none-match': etag })).status).toBe(304)
    const change = () => ask('PATCH', path, { SecureBootEnable: true }, { ...basic, 'if-match': etag })
    expect([(await change()).status, (await change()).status]).toEqual([204, 412])
  })

  test('hangs for ever while the BMC does, and the connection ends when it is well', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    bmc.device.state.bmc.hung = true
    const asked = bmc.ask('GET', root).catch(() => 'broken')
    const limit = new Promise((resolve) => void setTimeout(resolve, 400, 'silence'))
    expect(await Promise.race([asked, limit])).toBe('silence')
    bmc.device.state.bmc.hung = false
    expect(await asked).toBe('broken')
    expect((await bmc.ask('GET', root)).status).toBe(200)
  })

  test('ends a connection that never finishes its request, and serves no more than so many at once', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const port = Number(new URL(bmc.url).port)
    const sockets = Array.from({ length: 80 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
    onTestFinished(() => {
      for (const one of sockets) one.destroy()
    })
    const closed = await Promise.race(sockets.map(async (one) => (await once(one, 'close'), 'refused')))
    expect(closed).toBe('refused')
  })
})

describe('the BMCs of a fleet', () => {
  test('are told apart by port, and none exists before it is asked', async () => {
    const devices = Array.from({ length: 20 }, (_, index) => makeDevice(flavours.openbmc, index))
    const bmcs = await startBmcs(devices, { basePort: 0, password: user.password, user: user.name })
    onTestFinished(() => bmcs.close())
    const response = await fetch(`${bmcs.url(13)}${root}/Chassis/card`, { headers: basic })
    expect(await response.json()).toMatchObject({ SerialNumber: devices[13]?.serial })
    expect([bmcs.held(12), bmcs.held(13)?.sessions]).toEqual([undefined, 0])
  })

  test('let root in with the password that OpenBMC comes with, where none is given', async () => {
    const bmcs = await startBmcs([makeDevice(flavours.openbmc, 1)], { basePort: 0 })
    onTestFinished(() => bmcs.close())
    const authorization = `Basic ${Buffer.from('root:0penBmc').toString('base64')}`
    expect((await fetch(`${bmcs.url(0)}${root}/Systems`, { headers: { authorization } })).status).toBe(200)
  })

  test('name a port that is taken, and hold none then', async () => {
    const port = await freePort()
    const holder = createTcpServer().listen(port, '127.0.0.1')
    await once(holder, 'listening')
    onTestFinished(() => void holder.close())
    const devices = [makeDevice(flavours.openbmc, 1), makeDevice(flavours.openbmc, 2)]
    await expect(startBmcs(devices, { basePort: port - 1 })).rejects.toThrow(`port ${port}/tcp`)
    expect(await portIsFree(port - 1, 'tcp', '127.0.0.1')).toBe(true)
  })

  test('speak HTTPS with a certificate that clients can check', async () => {
    const bmc = await simulatedBmc(flavours.openbmc, { tls: true })
    const ca = bmc.bmcs.certificate ?? ''
    const sent = httpsRequest(`${bmc.url}${root}`, { ca }).end()
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    response.resume()
    expect(response.statusCode).toBe(200)
  })

  test('survive clients that speak something else and hang up', async () => {
    const bmc = await simulatedBmc(flavours.openbmc, { tls: true })
    const port = Number(new URL(bmc.url).port)
    for (const said of ['GET / HTTP/1.1\r\n\r\n', Buffer.from([22, 3, 1, 2, 0, 1, 0, 1]), '']) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined)
      await once(socket, 'connect')
      await new Promise((resolve) => void socket.write(said, resolve))
      socket.resetAndDestroy()
    }
    const sent = httpsRequest(`${bmc.url}${root}`, { ca: bmc.bmcs.certificate ?? '' }).end()
    const [response] = (await once(sent, 'response')) as [IncomingMessage]
    response.resume()
    expect(response.statusCode).toBe(200)
  })
})
