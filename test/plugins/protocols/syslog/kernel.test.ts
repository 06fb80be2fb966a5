import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { kernelEventOf, kernelTextOf } from '../../../../plugins/protocols/kernel/events.ts'
import { makesKernelEvents } from '../../../../plugins/protocols/syslog/index.ts'
import { collectLogs } from '../../../support/records.ts'
import { parseAll } from './support.ts'

const captured = async (): Promise<string[]> => {
  const file = join(import.meta.dirname, '../../../fixtures/kernel/lines.txt')
  return (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
}

describe('lines of the kernel by syslog', () => {
  test.each([
    ['RFC 3164', (line: string) => `<4>Oct 12 08:00:00 leaf1 kernel: [  812.345678] ${line}`],
    ['RFC 5424', (line: string) => `<4>1 2026-10-12T08:00:00Z leaf1 kernel - - - ${line}`],
  ])('of %s are the same events as in the ring', async (_, framed) => {
    const lines = await captured()
    const origin = { local: false, kernelEvents: true }
    const records = parseAll(lines.map(framed), { origin })
    const expected = lines.map((line) => kernelEventOf(line)).filter((event) => event !== undefined)
    const events = collectLogs(records).filter(({ eventName }) => eventName !== '')
    expect(events.length).toBeGreaterThan(10)
    expect(events.map(({ eventName }) => eventName)).toEqual(expected.map(({ name }) => name))
    for (const [index, event] of events.entries()) {
      expect(event.attributes).toMatchObject(expected[index]?.attributes ?? {})
      expect(event.attributes).toMatchObject({ 'syslog.hostname': 'leaf1', 'syslog.appname': 'kernel' })
      if (expected[index]?.severity !== undefined)
        expect(event.severityNumber).toBe(expected[index]?.severity)
    }
    expect(records.reduce((sum, { count }) => sum + count, 0)).toBe(lines.length)
    for (const { class: name, count } of records)
      expect(name === 'event' ? count : 0).toBe(name === 'event' ? events.length : 0)
  })

  test('are lines like others where the sender is this machine, and from programs always', () => {
    const line = (priority: number) =>
      `<${priority}>Oct 12 08:00:00 leaf1 kernel: EXT4-fs error (device sda1): x`
    const eventNames = (priority: number, kernelEvents: boolean) =>
      collectLogs(parseAll([line(priority)], { origin: { local: false, kernelEvents } })).map(
        ({ eventName }) => eventName,
      )
    expect(eventNames(3, true)).toEqual(['dpu.kernel.filesystem_error'])
    expect(eventNames(3, false)).toEqual([''])
    expect(eventNames(11, true)).toEqual([''])
  })

  test('are events of other machines only, unless a setting says all or none', () => {
    const own = Object.values(networkInterfaces()).flatMap((all) => all?.map(({ address }) => address) ?? [])
    for (const host of ['127.0.0.1', '127.0.0.53', '::1', '::ffff:127.0.0.1', undefined, ...own]) {
      expect(makesKernelEvents('others', host)).toBe(false)
      expect(makesKernelEvents('all', host)).toBe(true)
    }
    expect(makesKernelEvents('others', '192.0.2.9')).toBe(true)
    expect(makesKernelEvents('others', '2001:db8::9')).toBe(true)
    expect(makesKernelEvents('none', '192.0.2.9')).toBe(false)
  })
})

test.each([
  ['Oct 12 08:00:00 leaf1 kernel: [  812.345678] nvme nvme0: down', '[  812.345678] nvme nvme0: down'],
  ['2026-10-12T08:00:00+00:00 leaf1 kernel: nvme nvme0: down', 'nvme nvme0: down'],
  ['[  812.345678] nvme nvme0: down', 'nvme nvme0: down'],
  ['<3>[812.345678] nvme nvme0: down', 'nvme nvme0: down'],
  ['Oct 12 08:00:00 leaf1 app[3]: nvme nvme0: down', undefined],
  ['[12] nvme nvme0: down', undefined],
])('of the line %s of a file the kernel said %s', (line, said) => expect(kernelTextOf(line)).toBe(said))
