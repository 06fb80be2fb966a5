// The store on an InfluxDB that is not there, and on one of which only the v2 write API is: 1.8 and 3.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openInfluxStore } from '../../../aggregator/store/influx/influxdb.ts'
import { logBatch, noState, pointBatch, recordLog } from './batches.ts'
import { never, now } from './fixture.ts'

const log = recordLog()
const declared = { 'test.level': { kind: 'gauge', unit: '1' } } as const

describe('an InfluxDB that is not there', () => {
  test('makes writes and questions fail as retryable, with its address named', async () => {
    await using store = openInfluxStore({
      url: 'http://127.0.0.1:9',
      org: 'o',
      bucket: 'b',
      token: () => 't',
      log: recordLog(),
    })
    const batch = logBatch({ seq: 1 }, [{ time: now, body: 'x' }])
    const expected = {
      name: 'RetryableError',
      code: 'PEER_UNREACHABLE',
      message: expect.stringContaining(':9') as string,
    }
    await expect(store.write([batch], noState)).rejects.toMatchObject(expected)
    await expect(store.queries.logs({ limit: 1, where: [] }, never)).rejects.toMatchObject(expected)
  })

  test('shows in the status before anything is written', async () => {
    const log = recordLog()
    await using store = openInfluxStore({
      url: 'http://127.0.0.1:9',
      org: 'o',
      bucket: 'b',
      token: () => 't',
      log,
    })
    for (let look = 0; look < 2; look++) expect((await store.status()).error).toContain('http://127.0.0.1:9')
    expect(log.lines.map(({ message }) => message)).toEqual(['InfluxDB is not ready'])
  })
})

describe('an InfluxDB 1.8 or 3, of which only the v2 write API is there', () => {
  /** Takes writes to one bucket and knows nothing else; as strict about the body as the real one. */
  async function startWriteOnly(status: number) {
    const bodies: { bucket: string | null; lines: string[] }[] = []
    const server = createServer((request, response) => {
      let text = ''
      request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      request.on('end', () => {
        const { pathname, searchParams } = new URL(request.url ?? '', 'http://h')
        if (pathname === '/api/v2/write')
          bodies.push({ bucket: searchParams.get('bucket'), lines: text.trim().split('\n') })
        response.writeHead(pathname === '/api/v2/write' ? 204 : status).end()
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    return { bodies, url: `http://127.0.0.1:${port}` }
  }

  test.each([404, 405, 403])(
    'is written to, all classes in one bucket, where it answers %i to the rest',
    async (status) => {
      const { bodies, url } = await startWriteOnly(status)
      await using store = openInfluxStore({ url, org: 'o', bucket: 'db/rp', token: () => 't', log })
      const receipts = await store.write(
        [
          logBatch({ seq: 1, class: 'event' }, [{ time: now, body: 'x', severity: 17 }]),
          pointBatch({ seq: 1 }, declared, [{ time: now, name: 'test.level', value: 1.5 }]),
        ],
        noState,
      )
      expect(receipts.map(({ stored }) => stored)).toEqual([1, 1])
      expect(bodies.map(({ bucket }) => bucket)).toEqual(['db/rp'])
      const measurements = bodies[0]?.lines.map((line) => line.split(',')[0])
      expect(measurements).toEqual(['logs', 'dpulse_series', 'test.level'])
      expect(bodies[0]?.lines[0]).toContain('host.id=dpu-1,service.name=test,severity=error record="')
      expect(bodies[0]?.lines[2]).toMatch(
        /^test\.level,dpulse\.series=\w{16},host\.id=dpu-1,.* gauge=1\.5,time_unix_nano=\d{19}i \d{19}$/,
      )
    },
  )
})
