// Events of a simulated BMC: over a stream, and posted to those who subscribed.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { basic, flavours, root, simulatedBmc } from '../support/simulated-bmc.ts'
import type { SimulatedBmc } from '../support/simulated-bmc.ts'

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
    const bmc = await simulatedBmc(flavours.openbmc)
    const first = streamed(bmc, {}, 'hello')
    await vi.waitFor(() => expect(bmc.bmcs.held(0)?.streams).toBe(1))
    await submit(bmc, 'hello')
    const [, id = ''] = /id: (\d+)/.exec(await first) ?? []
    await submit(bmc, 'while you were out')
    const rest = await streamed(bmc, { 'last-event-id': id }, 'while you were out')
    expect(rest).not.toContain('hello')
  })

  test('are only those that the filter of a stream lets through', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const text = streamed(bmc, {}, 'wanted', `?$filter=${encodeURIComponent("RegistryPrefix eq 'Update'")}`)
    await vi.waitFor(() => expect(bmc.bmcs.held(0)?.streams).toBe(1))
    await submit(bmc, 'noise')
    await submit(bmc, 'wanted', 'Update.1.0.UpdateSuccessful')
    expect(await text).not.toContain('noise')
  })

  test('are posted to those who subscribed, with their context and headers', async () => {
    const bmc = await simulatedBmc(flavours.bluefield)
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
