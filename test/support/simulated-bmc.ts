// The simulated BMC of one virtual device, and what a test asks of it.
import { onTestFinished } from 'vitest'
import { startBmcs } from '../../simulator/bmc/index.ts'
import type { Bmcs, BmcsOptions } from '../../simulator/bmc/index.ts'
import type { Device, Kind } from '../../simulator/model.ts'
import { user } from './redfish-source.ts'
import { pass, virtualDevice } from './virtual-device.ts'

type Body = Record<string, unknown>

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
  ask(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  get(path: string): Promise<Body>
}

export const basic = {
  authorization: `Basic ${Buffer.from(`${user.name}:${user.password}`).toString('base64')}`,
}

/** Ends with the test. The device has been on for a while. */
export async function simulatedBmc(kind: Kind, options: Partial<BmcsOptions> = {}): Promise<SimulatedBmc> {
  const device = virtualDevice(kind)
  pass(device, 30)
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
