// The simulated BMC of one virtual device, and what a test asks of it.
import { onTestFinished } from 'vitest'
import { startBmcs } from '../../simulator/bmc/index.ts'
import type { Bmcs, BmcsOptions } from '../../simulator/bmc/index.ts'
import type { Device, Kind } from '../../simulator/model.ts'
import { user } from './redfish-source.ts'
import { kindOf, makeDevice, run } from './simulated.ts'

/** Answers at once. */
export const fast = (kind: Kind): Kind => ({ ...kind, bmc: { ...kind.bmc, answerMs: 0 } })

const bluefield3 = fast(kindOf('bluefield-3'))

/** A card with fans whose BMC is OpenBMC as it comes. */
const openbmc: Kind = {
  ...bluefield3,
  name: 'open-card',
  vendor: 'Example',
  model: 'Open Card',
  fans: 2,
  sensors: [
    { id: 'asic_temp', kind: 'temperature', of: 'asic', warning: 95, critical: 105 },
    { id: 'inlet_temp', kind: 'temperature', of: 'inlet', warning: 45 },
    { id: 'input_power', kind: 'power', of: 'input' },
    { id: 'vdd', kind: 'voltage', of: 'rail', nominal: 0.8, lowWarning: 0.7, warning: 0.9 },
    { id: 'fan_0', kind: 'fan', of: 'fan', index: 0, lowWarning: 1200, lowCritical: 600 },
    { id: 'fan_1', kind: 'fan', of: 'fan', index: 1, lowWarning: 1200, lowCritical: 600 },
  ],
  firmware: { bmc: ['2.14.0', '2.16.0'], nic: ['1.4.0', '1.5.0'] },
  bmc: { flavour: 'openbmc', version: '2.14.0', answerMs: 0 },
}

/** One for each form of the tree. */
export const flavours = {
  /** Before it showed processors, memory and drives. */
  early: { ...bluefield3, firmware: { ...bluefield3.firmware, BMC_Firmware: ['BF-23.10-5'] } },
  bluefield: { ...bluefield3, firmware: { ...bluefield3.firmware, BMC_Firmware: ['BF-24.07-14'] } },
  openbmc,
} as const satisfies Record<string, Kind>

type Body = Record<string, unknown>

export const root = '/redfish/v1'

export interface Answer {
  readonly status: number
  readonly headers: Headers
  /** Empty where there was none. */
  readonly body: Body
}

export interface SimulatedBmc {
  readonly device: Device
  readonly bmcs: Bmcs
  readonly url: string
  /** With Basic, unless headers say otherwise. A text is sent as it is. */
  readonly ask: (
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ) => Promise<Answer>
  readonly get: (path: string) => Promise<Body>
}

export const basic = {
  authorization: `Basic ${Buffer.from(`${user.name}:${user.password}`).toString('base64')}`,
}

/** Ends with the test. The device has been on for a while. */
export async function simulatedBmc(kind: Kind, options: Partial<BmcsOptions> = {}): Promise<SimulatedBmc> {
  const device = makeDevice(kind, 7)
  run(device, 30)
  const bmcs = await startBmcs([device], {
    basePort: 0,
    user: user.name,
    password: user.password,
    ...options,
  })
  onTestFinished(() => bmcs.close())
  const url = bmcs.url(0)
  const ask: SimulatedBmc['ask'] = async (method, path, body, headers = basic) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const response = await fetch(`${url}${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: text }),
    })
    const told = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      body: told === '' ? {} : (JSON.parse(told) as Body), // whoever asks says what it expects
    }
  }
  return { device, bmcs, url, ask, get: async (path) => (await ask('GET', path)).body }
}

/** The name of the message of an error. */
export function messageOf({ body }: Pick<Answer, 'body'>): string {
  const { code } = body.error as { code: string } // every error of Redfish has one
  return code.split('.').at(-1) ?? ''
}

/** Passes time until the task that an answer speaks of is done; what it says then. */
export async function taskDone(bmc: SimulatedBmc, { headers }: Answer): Promise<Answer> {
  const monitor = headers.get('location') ?? ''
  for (let minute = 0; minute < 30; minute++) {
    const answer = await bmc.ask('GET', monitor)
    if (answer.status !== 202) return answer
    run(bmc.device, 60)
  }
  throw new Error(`${monitor} has no end`)
}
