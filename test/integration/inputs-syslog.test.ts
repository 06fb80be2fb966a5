// Log lines of every form that programs and devices send, from the socket to every answer: real programs, bytes on their
// sockets, and what page, command and ledger say of them.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { askingOf } from '../support/asking.ts'
import { runTool, sendStream, sendUdp } from '../support/senders.ts'
import { inBothWorlds, startInWorld } from '../support/world.ts'

const portOffset = 9_100
const port = 5514 + portOffset
const newYork = port + 1
const directory = mkdtempSync(join(tmpdir(), 'dpulse-syslog-'))
const stream = join(directory, 'stream.sock')
const datagram = join(directory, 'datagram.sock')
afterAll(() => rmSync(directory, { recursive: true, force: true }))

inBothWorlds('syslog', (world) => {
  const { get, logged, settled } = askingOf(portOffset, world.seconds)
  /** How many records this file sent. */
  let sent = 0

  const configuration = `
sources:
  here:    { type: syslog, udp: '127.0.0.1:${port}', tcp: '127.0.0.1:${port}', timezone: UTC,
             unix: ${stream}, unix_datagram: ${datagram} }
  new_york: { type: syslog, udp: '127.0.0.1:${newYork}', timezone: America/New_York }
exporters: { aggregator: { type: mqtt } }
pipelines: { logs: { sources: [here, new_york], exporters: [aggregator] } }
`

  let programs: Awaited<ReturnType<typeof startInWorld>>
  beforeAll(async () => {
    programs = await startInWorld(world, portOffset, configuration)
  })
  afterAll(() => programs.stop())

  const now = (): string => new Date().toISOString()
  /** RFC 3339 with nine decimals, of the text of a time. */
  const nine = (text: string): string => {
    const [, seconds = '', fraction = ''] = /^(.*T\d\d:\d\d:\d\d)\.?(\d*)Z$/.exec(text) ?? []
    return `${seconds}.${fraction.padEnd(9, '0')}Z`
  }
  async function one(text: string) {
    sent++
    const [record] = await logged(text)
    if (record === undefined) throw new Error('no record')
    return record
  }

  describe('a tool that everybody has', () => {
    test('logger is heard over TCP by octet count, by newline, over UDP in both forms, and on the Unix sockets', async () => {
      const tcp = ['-n', '127.0.0.1', '-P', String(port), '--tcp']
      const udp = ['-n', '127.0.0.1', '-P', String(port), '--udp']
      const ways = {
        'tool-octets': [...tcp, '--octet-count', '--rfc5424'],
        'tool-lines': [...tcp, '--rfc5424'],
        'tool-udp-5424': [...udp, '--rfc5424'],
        'tool-udp-3164': [...udp, '--rfc3164'],
        'tool-datagram': ['--socket', datagram],
      }
      for (const [text, line] of Object.entries(ways)) {
        await runTool('logger', ...line, '-p', 'daemon.err', '-t', 'pump', text)
        const { body, severityNumber, severityText, attributes } = await one(text)
        expect({ body, severityNumber, severityText }).toEqual({
          body: text,
          severityNumber: 17,
          severityText: 'err',
        })
        expect(attributes).toMatchObject({ 'syslog.facility': 3, 'syslog.appname': 'pump' })
      }
    })
  })

  describe('RFC 5424', () => {
    test('every field goes where DESIGN says, escapes are undone and a repeated parameter is an array', async () => {
      const time = new Date(Date.now() - 5000).toISOString().replace('Z', '987Z')
      const data = String.raw`[a@1 path="C:\\x\]\"" n="1" n="2"][b x=""]`
      await sendUdp(port, `<165>1 ${time} Host.Example app 42 ID47 ${data} \u{feff}five-full ü`)
      expect(await one('five-full')).toMatchObject({
        time: nine(time),
        severityNumber: 10,
        severityText: 'notice',
        body: 'five-full ü',
        eventName: '',
        attributes: {
          'syslog.facility': 20,
          'syslog.version': 1,
          'syslog.hostname': 'Host.Example',
          'syslog.appname': 'app',
          'syslog.procid': '42',
          'syslog.msgid': 'ID47',
          'syslog.sd.a@1.path': String.raw`C:\x]"`,
          'syslog.sd.a@1.n': ['1', '2'],
          'syslog.sd.b.x': '',
        },
      })
    })

    test('an offset, a leap second and a missing time are all read', async () => {
      const minute = new Date(Math.floor(Date.now() / 60_000) * 60_000 - 120_000)
      const east = new Date(minute.getTime() + 5.5 * 3_600_000).toISOString().slice(0, 17)
      const began = Date.now()
      await sendUdp(
        port,
        `<14>1 ${east}00.000000001+05:30 - - - - - five-offset`,
        `<14>1 ${minute.toISOString().slice(0, 17)}60Z - - - - - five-leap`,
        '<14>1 - - - - - - five-nil',
      )
      expect((await one('five-offset')).time).toBe(`${minute.toISOString().slice(0, 19)}.000000001Z`)
      const leap = await one('five-leap')
      expect(Math.abs(Date.parse(leap.time) - minute.getTime() - 60_000)).toBeLessThanOrEqual(1000)
      const nil = await one('five-nil')
      expect(Date.parse(nil.time)).toBeGreaterThan(began - 1000)
      expect(Date.parse(nil.time)).toBeLessThan(Date.now() + 1000)
      expect(Object.keys(nil.attributes)).not.toContain('syslog.hostname')
    })

    test('a record from 1970 keeps its time, is marked, and is found by its arrival', async () => {
      await sendUdp(port, '<14>1 1970-01-01T00:00:01.5Z - - - - - five-1970')
      const record = await one('five-1970')
      expect(record.time).toBe('1970-01-01T00:00:01.500000000Z')
      expect(record.attributes['dpu.clock.suspect']).toBe(true)
      expect(await logged('five-1970', 1, { since: '1m' })).toEqual([record])
      await expect(logged('five-1970', 0, { until: '1980-01-01' })).resolves.toEqual([])
    })
  })

  describe('RFC 3164', () => {
    test('a date without a year is this one, in the zone of the source', async () => {
      const at = new Date(Math.floor(Date.now() / 1000) * 1000 - 3000)
      const inZone = (timeZone: string): string => {
        const parts = new Intl.DateTimeFormat('en-US', {
          timeZone,
          month: 'short',
          day: 'numeric',
          hour: '2-digit',
          minute: '2-digit',
          second: '2-digit',
          hourCycle: 'h23',
        }).formatToParts(at)
        const of = (name: string): string => parts.find(({ type }) => type === name)?.value ?? ''
        return `${of('month')} ${of('day').padStart(2)} ${of('hour')}:${of('minute')}:${of('second')}`
      }
      await sendUdp(port, `<34>${inZone('UTC')} box su[77]: three-utc`)
      await sendUdp(newYork, `<34>${inZone('America/New_York')} box su[77]: three-york`)
      for (const text of ['three-utc', 'three-york']) {
        expect(await one(text)).toMatchObject({
          time: nine(at.toISOString().replace('.000', '')),
          body: text,
          severityNumber: 18,
          attributes: {
            'syslog.facility': 4,
            'syslog.hostname': 'box',
            'syslog.appname': 'su',
            'syslog.procid': '77',
          },
        })
      }
    })

    test('a line without PRI, one with nothing but a PRI, and plain text are all kept', async () => {
      await sendUdp(port, 'three-bare: no priority', '<13>three-only', '<999>three-wrong', '<13')
      const bare = await one('no priority')
      expect(bare.severityNumber).toBe(10)
      expect((await one('three-only')).body).toBe('three-only')
      const wrong = await one('three-wrong')
      expect(wrong).toMatchObject({ body: '<999>three-wrong', attributes: { 'dpulse.malformed': true } })
      expect(await one('<13')).toMatchObject({ body: '<13', attributes: { 'dpulse.malformed': true } })
    })
  })

  describe('what no RFC allows', () => {
    test('invalid UTF-8, NUL, control characters and trailers lose nothing', async () => {
      const odd = Buffer.concat([
        Buffer.from(`<14>1 ${now()} h a - - - odd-bytes `),
        Buffer.of(0xff, 0xc3, 0x28, 0x00, 0x07, 0x1b),
        Buffer.from('end\r\n\0'),
      ])
      await sendUdp(port, odd)
      expect(await one('odd-bytes')).toMatchObject({
        body: 'odd-bytes \u{fffd}\u{fffd}(\u0000\u0007\u001bend',
        attributes: {
          'syslog.appname': 'a',
          'log.record.original': odd.subarray(0, -3).toString('base64'),
        },
      })
      const broken = `<14>1 ${now()} h a - - [broken sd odd-sd`
      await sendUdp(port, broken)
      expect(await one('odd-sd')).toMatchObject({ body: broken, attributes: { 'dpulse.malformed': true } })
    })

    test('a line of 300 KiB is cut to 256 KiB and marked, on octets and on lines', async () => {
      const long = `<14>1 ${now()} h a - - - long-octets ${'x'.repeat(300 * 1024)}`
      const line = `<14>1 ${now()} h a - - - long-lines ${'y'.repeat(300 * 1024)}`
      await sendStream(port, `${Buffer.byteLength(long)} ${long}`, `${line}\n`, '<14>after-long\n')
      for (const text of ['long-octets', 'long-lines']) {
        const { body, attributes } = await one(text)
        expect(attributes['dpulse.truncated']).toBe(true)
        const size = (body as string).length
        expect(size).toBeGreaterThan(255 * 1024)
        expect(size).toBeLessThanOrEqual(256 * 1024)
      }
      expect((await one('after-long')).attributes['dpulse.truncated']).toBeUndefined()
    })
  })

  describe('streams', () => {
    test('octet counting and newlines may alternate on one connection, however the bytes are cut', async () => {
      const octets = (text: string): string => `${Buffer.byteLength(text)} ${text}`
      const parts = [
        octets('<14>1 - - - - - - mixed é 1\nwith a line break'),
        '<14>1 - - - - - - mixed 2\r\n',
        octets('<14>1 - - - - - - mixed 3'),
        '<14>1 - - - - - - mixed 4\0',
        '<14>1 - - - - - - mixed 5',
      ]
      const bytes = Buffer.from(parts.join(''))
      const cut = Array.from({ length: Math.ceil(bytes.length / 7) }, (_, index) =>
        bytes.subarray(index * 7, index * 7 + 7),
      )
      await sendStream(port, ...cut)
      sent += 5
      const records = await logged('mixed', 5)
      expect(new Set(records.map(({ body }) => body))).toEqual(
        new Set(['mixed é 1\nwith a line break', 'mixed 2', 'mixed 3', 'mixed 4', 'mixed 5']),
      )
    })

    test('a Unix stream socket is one, too', async () => {
      await sendStream(stream, '<14>unix-one\n', '12 <14>unix-two')
      await one('unix-one')
      await one('unix-two')
    })
  })

  test('the ledger holds exactly what was sent, and balances', async () => {
    const { streams, balanced, dropped, unknown } = await settled()
    expect({ balanced, dropped, unknown }).toEqual({ balanced: true, dropped: {}, unknown: 0 })
    const ours = streams.filter(
      ({ collector, class: name }) => !collector.startsWith('otlp-') && name.startsWith('log'),
    )
    expect(ours.reduce((sum, { stored }) => sum + stored, 0)).toBe(sent)
    const { records } = await get<{ records: unknown[] }>('/api/logs', { limit: '1000' })
    expect(records).toHaveLength(sent)
  })
})
