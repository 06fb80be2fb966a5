// The syslog exporter against servers that read frames, over TCP and TLS, and its messages read back by our own parser.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import syslog, { encodeMessages } from '../../../plugins/exporters/syslog.ts'
import { RetryableError } from '../../../plugins/contract/errors.ts'
import { createAuthority } from '../../support/certificates.ts'
import { realClock } from '../../support/clock.ts'
import type { ExporterPeer } from '../../support/conformance-exporter.ts'
import { conformsToExporter } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { sampleBatch, sampleLogs, samplePoints } from '../../support/records.ts'
import { parse } from '../protocols/syslog/support.ts'

const never = new AbortController().signal

/** The messages of octet-counted frames; whatever is no frame fails. */
function messagesOf(bytes: Buffer): string[] {
  const messages: string[] = []
  for (let at = 0; at < bytes.length;) {
    const [head = '', size] = /^(\d+) /.exec(bytes.toString('latin1', at, at + 12)) ?? []
    if (size === undefined) throw new Error(`no frame at ${at}: ${bytes.toString('utf8', at, at + 40)}`)
    const start = at + head.length
    messages.push(bytes.toString('utf8', start, start + Number(size)))
    at = start + Number(size)
  }
  return messages
}

async function listen(server: Server, event: 'connection' | 'secureConnection') {
  const chunks: Buffer[] = []
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on(event, (socket: Socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => void chunks.push(chunk))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = async (): Promise<void> => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  return { endpoint: `127.0.0.1:${port}`, messages: () => messagesOf(Buffer.concat(chunks)), close, sockets }
}

async function peer(): Promise<ExporterPeer> {
  const server = await listen(createServer(), 'connection')
  return {
    config: { endpoint: server.endpoint, transport: 'tcp' },
    received: (records) => vi.waitFor(() => expect(server.messages()).toHaveLength(records)),
    vanish: server.close,
    [Symbol.asyncDispose]: server.close,
  }
}

conformsToExporter(syslog, { endpoint: '127.0.0.1:1' }, { peer })

function start(config: object) {
  const context = testContext({ clock: realClock })
  const exporter = syslog.create(syslog.config.parse(config), context)
  const controller = new AbortController()
  const running = exporter.run?.(controller.signal)
  onTestFinished(async () => {
    controller.abort()
    await running
  })
  return exporter
}

const defaults = syslog.config.parse({ endpoint: '127.0.0.1:1' })
const messageOf = (...of: Parameters<typeof sampleLogs>[0]): string[] =>
  messagesOf(encodeMessages(sampleBatch(sampleLogs(of)), defaults))

describe('the syslog exporter', () => {
  test('sends over TLS to who has the right certificate, and to nobody else', async () => {
    const authority = createAuthority()
    onTestFinished(() => authority.remove())
    const files = authority.certificate('collector-log')
    const tls = { cert: readFileSync(files.cert), key: readFileSync(files.key) }
    const server = await listen(createTlsServer(tls), 'secureConnection')
    onTestFinished(server.close)
    const trusting = start({ endpoint: server.endpoint, tls: { ca: authority.ca } })
    await trusting.export(sampleBatch(sampleLogs([{ body: 'over TLS' }])), never)
    await vi.waitFor(() => expect(server.messages()[0]).toContain('over TLS'))
    const doubting = start({ endpoint: server.endpoint })
    const refused = doubting.export(sampleBatch(sampleLogs([{}])), never)
    await expect(refused).rejects.toThrow(/no connection to .*certificate/)
    await expect(refused).rejects.toBeInstanceOf(RetryableError)
    expect(server.messages()).toHaveLength(1)
  })

  test('a server that reads nothing is given up on, and the batch kept', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.pause()
    })
    const { endpoint, close } = await listen(server, 'secureConnection')
    onTestFinished(close)
    const exporter = start({ endpoint, transport: 'tcp', timeout: '200ms', max_length: 262_144 })
    const batch = sampleBatch(sampleLogs(Array.from({ length: 60 }, () => ({ body: 'x'.repeat(200_000) }))))
    await expect(exporter.export(batch, never)).rejects.toMatchObject({
      name: 'RetryableError',
      code: 'PEER_TIMEOUT',
    })
    // Tried again, it does not pile up.
    await expect(exporter.export(batch, never)).rejects.toMatchObject({ code: 'PEER_OVERLOADED' })
  })

  test('connects anew after its connection was lost', async () => {
    const server = await listen(createServer(), 'connection')
    onTestFinished(server.close)
    const exporter = start({ endpoint: ['127.0.0.1:1', server.endpoint], transport: 'tcp' })
    await exporter.export(sampleBatch(sampleLogs([{}])), never)
    for (const socket of server.sockets) socket.destroy()
    await vi.waitFor(async () => {
      await exporter.export(sampleBatch(sampleLogs([{ body: 'again' }])), never)
      expect(server.messages().at(-1)).toContain('again')
    })
  })

  test('writes RFC 5424: severity, time, names, structured data, and a mark before what is not ASCII', () => {
    const attributes = {
      'syslog.hostname': 'dpu 7',
      'syslog.appname': 'kernel',
      'syslog.procid': '12',
      'syslog.msgid': 'ID47',
      'syslog.facility': 3,
      'syslog.sd.exampleSDID@32473.iut': '3',
      'net.peer': 'a"b]c\\',
    }
    expect(messageOf({ body: 'link down', severity: 17, attributes })).toEqual([
      '<27>1 2026-09-21T14:13:20.000000Z dpu_7 kernel 12 ID47 ' +
        String.raw`[exampleSDID@32473 iut="3"][dpulse@32473 net.peer="a\"b\]c\\" host.id="dpu-under-test"] link down`,
    ])
    expect(messageOf({ body: 'ünï\n' })[0]).toMatch(/\] \ufeffünï\n$/)
  })

  test('writes a data point as its name and value', () => {
    const [first, second] = messagesOf(encodeMessages(sampleBatch(samplePoints(2)), defaults))
    expect(first).toMatch(
      /^<134>1 \S+ test-host test - test.level \[dpulse@32473 .*metric.unit="1".*\] test.level=0.5$/,
    )
    expect(second).toContain('test.total=9007199254740994')
  })

  test('cuts the text of a message that is too long, between characters', () => {
    const batch = sampleBatch(sampleLogs([{ body: 'ü'.repeat(2000) }]))
    const bytes = encodeMessages(batch, { ...defaults, max_length: 1000 })
    expect(bytes.length).toBeLessThanOrEqual(1000)
    expect(messagesOf(bytes)[0]).toMatch(/ \ufeffü+$/)
  })

  test('what it writes is read back equal by our own source', () => {
    const text = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
      .filter((one) => !/[\0\ufeff]/.test(one))
    const value = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((one) => !/\0/.test(one))
    fc.assert(
      fc.property(text, value, fc.constantFrom(5, 9, 10, 13, 17, 18, 19, 21), (body, attribute, severity) => {
        const [message = ''] = messageOf({ body, severity, attributes: { note: attribute } })
        const record = parse(message)
        expect(record.body).toBe(body)
        expect(record.severityNumber).toBe(severity)
        expect(record.attributes['syslog.sd.dpulse@32473.note']).toBe(attribute)
      }),
    )
  })
})
