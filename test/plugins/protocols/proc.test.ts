// The parsers of /proc over what kernels write, and over what nobody should have written.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { selects } from '../../../plugins/protocols/proc-selection.ts'
import {
  parseDisks,
  parseInterfaces,
  parseLoad,
  parseMeminfo,
  parseMountinfo,
  parseNumbers,
  parsePressure,
  parseStat,
  parseSwaps,
  parseUptime,
  processState,
} from '../../../plugins/protocols/proc.ts'

describe('the parsers of /proc', () => {
  test('throw at nothing, whatever a file holds', () => {
    const parsers = [
      parseDisks,
      parseInterfaces,
      parseLoad,
      parseMeminfo,
      parseMountinfo,
      parseNumbers,
      parsePressure,
      parseStat,
      parseSwaps,
      parseUptime,
      processState,
    ]
    const line = fc.stringMatching(/^[a-z0-9 :.=\-\\()]{0,80}$/)
    fc.assert(
      fc.property(fc.array(fc.oneof(line, fc.string()), { maxLength: 8 }), (lines) => {
        for (const parse of parsers) parse(lines.join('\n'))
      }),
    )
  })

  test('take the sum of interrupts and not the thousands after it', () => {
    expect(parseStat(`intr 987654321${' 0'.repeat(5000)}\nctxt 5`).interrupts).toBe(987654321n)
  })

  test('read a CPU line of an old kernel without steal', () => {
    expect(parseStat('cpu  100 0 50 1000 25 5 10').total).toEqual({
      user: 1,
      nice: 0,
      system: 0.5,
      idle: 10,
      iowait: 0.25,
      interrupt: 0.15,
      steal: 0,
    })
  })

  test('tell kilobytes from pages', () => {
    const info = parseMeminfo(
      'MemTotal:       24684084 kB\nHugePages_Total:     512\nHugepagesize:       2048 kB\n',
    )
    expect(Object.fromEntries(info)).toEqual({
      MemTotal: 25276502016n,
      HugePages_Total: 512n,
      Hugepagesize: 2097152n,
    })
  })

  test('read swap areas whose path has a blank', () => {
    const text = 'Filename\tType\tSize\tUsed\tPriority\n/swap\\040file    file\t\t1048572\t\t1024\t\t-2\n'
    expect(parseSwaps(text)).toEqual([{ device: '/swap file', size: 1073737728n, used: 1048576n }])
  })

  test('read interfaces whose counters touch the colon, as old kernels write them', () => {
    const [eth] = parseInterfaces('  eth0:4294967297 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16')
    expect(eth).toEqual({
      name: 'eth0',
      receive: { bytes: 4294967297n, packets: 2n, errors: 3n, dropped: 4n },
      transmit: { bytes: 9n, packets: 10n, errors: 11n, dropped: 12n },
    })
  })

  test('leave out a mount that a later one hides, and keep a path in UTF-8', () => {
    const bytes = Buffer.from('/mnt/größe', 'utf8').toString('latin1')
    const mounts = parseMountinfo(
      `1 0 8:1 / ${bytes} rw shared:1 - ext4 /dev/a rw\n2 0 8:2 / ${bytes} ro - ext4 /dev/b rw`,
    )
    expect(mounts).toEqual([
      { id: '8:2', device: '/dev/b', mountPoint: '/mnt/größe', type: 'ext4', mode: 'ro' },
    ])
  })

  test('find the state of a process whose name has brackets and blanks', () => {
    expect(processState('12 (a) b) S 1 12 12')).toBe('S')
  })
})

describe('a selection', () => {
  test('matches whole names, with what is excluded winning', () => {
    const wanted = selects({ include: ['eth*', 'p?'], exclude: ['eth1'] })
    expect(['eth0', 'eth1', 'p0', 'p10', 'xeth0'].filter(wanted)).toEqual(['eth0', 'p0'])
  })

  test('takes characters that mean something to a regular expression as themselves', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z.+^$(){}|[\]\\]{1,20}$/), (name) => {
        expect(selects({ include: [name], exclude: [] })(name)).toBe(true)
        expect(selects({ include: [name], exclude: [] })(`${name}x`)).toBe(false)
      }),
    )
  })
})
