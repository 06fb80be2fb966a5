// Whatever clients send, a simulated BMC answers as Redfish has it, goes on, and holds no more than its limits.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isJson } from '../../plugins/protocols/redfish/json.ts'
import { startBmcs } from '../../simulator/bmc/index.ts'
import { makeDevice, run } from '../support/simulated.ts'
import { user } from '../support/redfish-source.ts'
import { basic, flavours } from '../support/simulated-bmc.ts'

const words = (text: string): string[] => text.split(' ')

const parts = fc.constantFrom(
  ...words('Systems system Chassis card Sensors asic_temp Managers bmc LogServices EventLog Entries'),
  ...words('SessionService Sessions AccountService Accounts EventService Subscriptions SSE UpdateService'),
  ...words('FirmwareInventory update update-multipart TaskService Tasks 0 Monitor Actions'),
  ...words('ComputerSystem.Reset Manager.Reset UpdateService.SimpleUpdate Settings $metadata Members %'),
  ...words('%2e%2e .. __proto__ constructor root ÿ'),
)
/** Mostly of what there is, so that more than 404 is met. */
const known = fc.constantFrom(
  'Systems/system',
  'Systems/system/Actions/ComputerSystem.Reset',
  'Systems/system/LogServices/EventLog/Entries',
  'Systems/system/LogServices/EventLog/Actions/LogService.ClearLog',
  'SessionService/Sessions',
  'AccountService/Accounts',
  'EventService/Subscriptions',
  'EventService/Actions/EventService.SubmitTestEvent',
  'UpdateService/Actions/UpdateService.SimpleUpdate',
  'UpdateService/update',
  'UpdateService/update-multipart',
  'TaskService/Tasks/0',
)
const path = fc.oneof(
  known,
  fc.array(parts, { maxLength: 6 }).map((list) => list.join('/')),
)
const query = fc.constantFrom(
  '',
  ...words('?$expand=. ?$expand=*($levels=6) ?$expand=~($levels=2) ?$select=Id,Name ?only ?$top=1'),
  ...words('?$skip=1000000 ?$top=-1 ?$filter=x ?$expand=((( ?% ?$select=__proto__'),
)
const value = fc.oneof(
  fc.constantFrom(
    'ForceOff',
    'On',
    'PowerCycle',
    'GracefulRestart',
    'Redfish',
    'http://127.0.0.1:1/',
    user.name,
  ),
  fc.jsonValue({ maxDepth: 3 }),
)
const member = fc.constantFrom(
  ...words('ResetType UserName Password RoleId Boot Destination Protocol ImageURI Targets HttpHeaders'),
  ...words('Message Enabled __proto__ toString'),
)
const body = fc.oneof(
  fc.dictionary(member, value, { maxKeys: 4 }).map((one) => JSON.stringify(one)),
  fc.constant(JSON.stringify({ UserName: user.name, Password: user.password })),
  fc.string({ maxLength: 200 }),
)
const request = fc.record({
  method: fc.constantFrom('GET', 'GET', 'POST', 'POST', 'PATCH', 'DELETE', 'PUT', 'HEAD'),
  path,
  query,
  body,
  login: fc.constantFrom(
    basic,
    basic,
    basic,
    {},
    { 'x-auth-token': 'no such' },
    { authorization: 'Basic %%%' },
  ),
  type: fc.constantFrom('application/json', 'multipart/form-data; boundary=x', 'text/plain'),
})

describe('a simulated BMC', () => {
  test('answers any sequence of requests with JSON or an error of Redfish, and stays within its limits', async () => {
    const device = makeDevice(flavours.openbmc, 3)
    const bmcs = await startBmcs([device], { basePort: 0, user: user.name, password: user.password })
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(request, { minLength: 5, maxLength: 20 }), async (requests) => {
          for (const one of requests) await checked(bmcs.url(0), one)
          // A reset of the BMC would keep it away.
          run(device, 61)
          const { sessions = 0, subscriptions = 0, streams = 0, tasks = 0 } = bmcs.held(0) ?? {}
          expect(sessions <= 64 && subscriptions <= 20 && streams === 0 && tasks <= 100).toBe(true)
        }),
        { numRuns: 60 },
      )
      run(device, 3600)
      const root = await fetch(`${bmcs.url(0)}/redfish/v1/SessionService/Sessions`, { headers: basic })
      expect(await root.json()).toMatchObject({ Members: [] })
    } finally {
      await bmcs.close()
    }
  })
})

interface Sent {
  method: string
  path: string
  query: string
  body: string
  login: Record<string, string>
  type: string
}

async function checked(url: string, sent: Sent): Promise<void> {
  const got = await answerTo(url, sent).catch((error: unknown) => {
    // A BMC that restarts hangs up, and a stream has no end.
    expect(String(error)).toMatch(/fetch failed|terminated|TimeoutError/)
    return undefined
  })
  if (!got) return
  expect(got.status).not.toBe(500)
  if (got.text === '' || got.type.includes('xml')) return
  const parsed: unknown = JSON.parse(got.text)
  expect(isJson(parsed)).toBe(true)
  if (got.status >= 400) expect(parsed).toHaveProperty('error.code')
}

async function answerTo(url: string, { method, path: at, query: asked, body: text, login, type }: Sent) {
  const response = await fetch(`${url}/redfish/v1/${at}${asked}`, {
    method,
    headers: { ...login, 'content-type': type },
    signal: AbortSignal.timeout(at.endsWith('SSE') ? 100 : 10_000),
    ...(method === 'GET' || method === 'HEAD' ? {} : { body: text }),
  })
  return {
    status: response.status,
    text: await response.text(),
    type: response.headers.get('content-type') ?? '',
  }
}
