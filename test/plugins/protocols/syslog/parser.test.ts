// Messages into records: the examples of the RFCs and lines of devices as they were before, random messages read back
// equal, and random bytes that lose nothing.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { classOf } from '../../../../plugins/protocols/syslog/index.ts'
import { golden } from '../../../support/golden.ts'
import { collectLogs } from '../../../support/records.ts'
import { arrival, parse, parseAll, timeOf } from './support.ts'

const fixture = join(import.meta.dirname, '../../../fixtures/syslog/devices.txt')

describe('lines of RFCs and devices', () => {
  test('are read as they were before', async () => {
    const lines = readFileSync(fixture, 'utf8').trimEnd().replaceAll('BOM', '\ufeff').split('\n')
    const records = lines.flatMap((line) => parseAll([line]))
    expect(records).toHaveLength(lines.length)
    await expect(golden(records)).toMatchFileSnapshot('../../../golden/syslog/devices.json')
  })
})

describe('severity and class', () => {
  test.each([
    [0, 'emerg', 21],
    [1, 'alert', 19],
    [2, 'crit', 18],
    [3, 'err', 17],
    [4, 'warning', 13],
    [5, 'notice', 10],
    [6, 'info', 9],
    [7, 'debug', 5],
  ])('of severity %i are %s and %i', (severity, text, number) => {
    const record = parse(`<${16 * 8 + severity}>1 - - - - - - x`)
    expect([record.severityText, record.severityNumber]).toEqual([text, number])
    expect(record.attributes['syslog.facility']).toBe(16)
  })

  test('decide between log and log_error, and both leave at a flush', () => {
    const records = parseAll(['<14>a: 1', '<11>a: 2', '<14>a: 3'])
    expect(records.map((one) => [one.class, one.count])).toEqual([
      ['log_error', 1],
      ['log', 2],
    ])
  })

  test('are told from PRI alone as the parser tells them', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.integer({ min: 0, max: 250 }).map(pri)),
        (bytes) => {
          const [records] = parseAll([Buffer.from(bytes)])
          expect(classOf(bytes, 0, bytes.length)).toBe(records?.class)
        },
      ),
    )
  })
})
const pri = (value: number): Uint8Array => Buffer.from(`<${value}>1 - - - - - - x`)

/** Characters of a header field: printable ASCII. */
const field = (longest: number) =>
  fc.oneof(
    fc.constant('-'),
    fc.string({
      unit: fc.integer({ min: 33, max: 126 }).map((c) => String.fromCharCode(c)),
      minLength: 1,
      maxLength: longest,
    }),
  )
const sdName = fc.stringMatching(/^[a-zA-Z0-9_@.]{1,12}$/)
const escape = (value: string) => value.replaceAll(/["\\\]]/g, (character) => `\\${character}`)
const params = fc.array(fc.tuple(sdName, fc.string({ unit: 'grapheme', maxLength: 20 })), { maxLength: 5 })
const structured = fc.uniqueArray(fc.tuple(fc.stringMatching(/^[a-z0-9@]{1,10}$/), params), {
  maxLength: 3,
  selector: ([id]) => id,
})

describe('RFC 5424', () => {
  test('is read back as it was written, whatever its parts are', () => {
    fc.assert(
      fc.property(
        fc.record({
          pri: fc.integer({ min: 0, max: 191 }),
          seconds: fc.integer({ min: 0, max: 4_102_444_799 }),
          nanos: fc.integer({ min: 0, max: 999_999_999 }),
          offset: fc.integer({ min: -14 * 60, max: 14 * 60 }),
          host: field(60),
          app: field(48),
          proc: field(20),
          id: field(32),
          data: structured,
          body: fc.string({ unit: 'grapheme', maxLength: 100 }),
          bom: fc.boolean(),
        }),
        (m) => {
          const wall = new Date((m.seconds + m.offset * 60) * 1000)
          fc.pre(wall.getUTCFullYear() >= 1970)
          const sign = m.offset < 0 ? '-' : '+'
          const [hours, minutes] = [Math.trunc(Math.abs(m.offset) / 60), Math.abs(m.offset) % 60]
          const zone = `${sign}${String(hours).padStart(2, '0')}:${String(minutes).padStart(2, '0')}`
          const time = `${wall.toISOString().slice(0, 19)}.${String(m.nanos).padStart(9, '0')}${zone}`
          const data = m.data.map(
            ([id, list]) => `[${id}${list.map(([name, value]) => ` ${name}="${escape(value)}"`).join('')}]`,
          )
          const body = m.bom || !m.body.startsWith('\ufeff') ? m.body : ''
          const text = `<${m.pri}>1 ${time} ${m.host} ${m.app} ${m.proc} ${m.id} ${data.join('') || '-'} ${m.bom ? '\ufeff' : ''}${body}`
          const record = parse(text)
          expect(record.time).toBe(BigInt(m.seconds) * 1_000_000_000n + BigInt(m.nanos))
          expect(record.observedTime).toBe(arrival)
          expect(record.body).toBe(body.replace(/[\n\r\0]+$/, ''))
          expect(record.severityNumber).toBe([21, 19, 18, 17, 13, 10, 9, 5][m.pri & 7])
          expect(record.attributes).toEqual(expectedAttributes(m, record.attributes['dpulse.clock.suspect']))
        },
      ),
      { numRuns: 500 },
    )
  })

  test('keeps any body of valid UTF-8, to the byte', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.boolean(), (body, valid) => {
        fc.pre(!/[\n\r\0]$/.test(body) && !body.startsWith('\ufeff') && body.isWellFormed())
        expect(parse(`<13>1 - h a - - - ${body}`, { valid }).body).toBe(body)
      }),
    )
  })

  test('carries more parameters than fit into a record as the body of a malformed message', () => {
    const data = `[${'i'.repeat(200)}${' k="v"'.repeat(3000)}]`
    const record = parse(`<13>1 - h a - - ${data} text`)
    expect(record.attributes['dpulse.malformed']).toBe(true)
    expect(record.body).toBe(`<13>1 - h a - - ${data} text`)
  })
})

function expectedAttributes(
  m: {
    pri: number
    host: string
    app: string
    proc: string
    id: string
    data: [string, [string, string][]][]
  },
  suspect: unknown,
): Record<string, unknown> {
  const expected: Record<string, unknown> = { 'syslog.facility': m.pri >> 3, 'syslog.version': 1 }
  if (m.host !== '-') expected['syslog.hostname'] = m.host
  if (m.app !== '-') expected['syslog.appname'] = m.app
  if (m.proc !== '-') expected['syslog.procid'] = m.proc
  if (m.id !== '-') expected['syslog.msgid'] = m.id
  const values = new Map<string, string[]>()
  for (const [id, list] of m.data) {
    if (list.length === 0) values.set(`syslog.sd.${id}`, [''])
    for (const [name, value] of list) {
      const key = `syslog.sd.${id}.${name}`
      values.set(key, [...(values.get(key) ?? []), value])
    }
  }
  for (const [key, list] of values) expected[key] = list.length === 1 ? list[0] : list
  if (suspect !== undefined) expected['dpulse.clock.suspect'] = true
  return expected
}

describe('RFC 3164', () => {
  const word = fc.stringMatching(/^[a-z][a-z0-9_-]{0,14}$/)

  test('is read back as it was written, with and without a host, a process id and padding', () => {
    fc.assert(
      fc.property(
        fc.record({
          pri: fc.integer({ min: 0, max: 191 }),
          back: fc.integer({ min: 0, max: 180 * 86_400 }),
          pad: fc.constantFrom(' ', '0', ''),
          host: fc.option(word, { nil: undefined }),
          tag: word,
          pid: fc.option(fc.integer({ min: 1, max: 4_194_304 }), { nil: undefined }),
          body: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
        }),
        (m) => {
          fc.pre(!/[\n\r\0]$/.test(m.body))
          const seconds = Number(arrival / 1_000_000_000n) - m.back
          const date = new Date(seconds * 1000)
          const month = date.toUTCString().slice(8, 11)
          const day = String(date.getUTCDate()).padStart(m.pad === '' ? 1 : 2, m.pad || ' ')
          const pid = m.pid === undefined ? '' : `[${m.pid}]`
          const head = `<${m.pri}>${month} ${day} ${date.toISOString().slice(11, 19)}`
          const record = parse(`${head}${m.host === undefined ? '' : ` ${m.host}`} ${m.tag}${pid}: ${m.body}`)
          expect(record.time).toBe(BigInt(seconds) * 1_000_000_000n)
          expect(record.body).toBe(m.body)
          expect(record.attributes).toEqual({
            'syslog.facility': m.pri >> 3,
            ...(m.host === undefined ? {} : { 'syslog.hostname': m.host }),
            'syslog.appname': m.tag,
            ...(m.pid === undefined ? {} : { 'syslog.procid': String(m.pid) }),
            ...(m.back > 86_400 ? { 'dpulse.clock.suspect': true } : {}),
          })
        },
      ),
      { numRuns: 500 },
    )
  })

  test('of a program of this machine takes no word of its text for a host', () => {
    const record = parse('<13>Oct 12 08:00:00 disk is full', { origin: { local: true } })
    expect(record.body).toBe('disk is full')
    expect(record.attributes).toEqual({ 'syslog.facility': 1 })
  })
})

describe('what is no valid message', () => {
  test('never throws, and never loses a byte', () => {
    const start = fc.constantFrom(
      '',
      '<',
      '<13>',
      '<13>1 ',
      '<13>Oct 11 22:14:15',
      '<13>1 - - - - - [',
      '\ufeff<1>',
    )
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), (prefix, tail) => {
        const bytes = Buffer.concat([Buffer.from(prefix), tail])
        const kept = bytes.subarray(
          0,
          bytes.findLastIndex((byte) => byte !== 0 && byte !== 10 && byte !== 13) + 1,
        )
        const records = collectLogs(parseAll([bytes]))
        expect(records).toHaveLength(kept.length === 0 ? 0 : 1)
        const [record] = records
        if (record === undefined) return
        const text = kept.toString()
        if (Buffer.from(text).equals(kept)) expect(record.attributes['log.record.original']).toBeUndefined()
        else expect(record.attributes['log.record.original']).toEqual(kept)
        if (record.attributes['dpulse.malformed'] === true) expect(record.body).toBe(text)
        else expect(text.endsWith(record.body as string)).toBe(true)
      }),
      { numRuns: 1000 },
    )
  })

  test('loses NULs and newlines at its end, and nothing else', () => {
    expect(parse('<13>1 - - - - - - a\nb\r\n\0\n').body).toBe('a\nb')
    expect(parseAll(['\0\n\r\n', ''])).toEqual([])
  })

  test('has U+FFFD in place of bytes that are no UTF-8, and the exact bytes beside it', () => {
    const bytes = Buffer.from('<13>1 - h\xe9 a - - - caf\xe9 \xff', 'latin1')
    const record = parse(bytes)
    expect(record.body).toBe('caf\ufffd \ufffd')
    expect(record.attributes['syslog.hostname']).toBe('h\ufffd')
    expect(record.attributes['log.record.original']).toEqual(bytes)
  })

  test('is checked again where a frame cuts a character of a valid region in two', () => {
    const found = parse(Buffer.from('<13>1 - - - - - - caf\xc3', 'latin1'))
    expect(found.body).toBe('caf\ufffd')
  })

  test('is cut at the border of a character, and says so', () => {
    const record = parse(`<13>1 - - - - - - ${'é'.repeat(600)}`, { maxLength: 501 })
    expect(record.attributes['dpulse.truncated']).toBe(true)
    expect(record.body).toBe('é'.repeat(241))
  })

  test('stays below the size of a batch, whatever joins it and whatever it is made of', () => {
    const filler = Array.from({ length: 31 }, () => `<13>1 - - - - - - ${'f'.repeat(16_000)}`)
    const long = 300_000
    const data = `[i${' k="v"'.repeat(500)} long="${'v'.repeat(long)}"]`
    for (const last of [
      Buffer.alloc(long, 0xff),
      Buffer.concat([Buffer.from('<13>1 - '), Buffer.alloc(long, 0xff), Buffer.from(' a - - - x')]),
      Buffer.from(`<13>1 - h a - - ${data.slice(0, 250_000)}"] \xff`, 'latin1'),
      Buffer.from(`<13>1 - h a - - [${'i'.repeat(400)}${' k="v"'.repeat(500)}] ${'x'.repeat(long)}`),
    ]) {
      const records = parseAll([...filler, last])
      for (const { bytes } of records) expect(bytes.length).toBeLessThan(1_000_000)
      expect(collectLogs(records)).toHaveLength(32)
    }
  })
})

describe('the clock of a device', () => {
  test('is suspect more than a day away from arrival, and the record keeps its time', () => {
    const record = parse('<13>1 1970-01-01T00:00:07Z dpu - - - - booting')
    expect(timeOf(record)).toBe('1970-01-01T00:00:07.000000000')
    expect(record.attributes['dpulse.clock.suspect']).toBe(true)
    expect(
      parse('<13>1 2026-10-12T07:00:00Z dpu - - - - x').attributes['dpulse.clock.suspect'],
    ).toBeUndefined()
  })
})

test('a parser hands over at 500 records, without being asked', () => {
  const records = parseAll(Array.from({ length: 1201 }, (_, index) => `<13>a: ${index}`))
  expect(records.map(({ count }) => count)).toEqual([500, 500, 201])
  expect(collectLogs(records).map(({ body }) => body)).toEqual(
    Array.from({ length: 1201 }, (_, i) => String(i)),
  )
})

test('headers that differ only in where a field ends are not taken for each other', () => {
  const bodies = [
    '<13>1 - ab c - - - 1',
    '<13>1 - a bc - - - 2',
    '<13>1 - a - bc - - 3',
    '<14>1 - a - bc - - 4',
  ]
  const found = collectLogs(parseAll([...bodies, ...bodies])).map(({ attributes }) => attributes)
  expect(found.slice(4)).toEqual(found.slice(0, 4))
  expect(found[0]).toMatchObject({ 'syslog.hostname': 'ab', 'syslog.appname': 'c' })
  expect(found[2]).toMatchObject({ 'syslog.hostname': 'a', 'syslog.procid': 'bc' })
  expect(found[2]).not.toHaveProperty('syslog.appname')
})
