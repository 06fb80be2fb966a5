// Lines of kernels, as devices and people reported them, and the events that they are.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { kernelEventOf, kernelEvents } from '../../../../plugins/protocols/kernel/events.ts'

const lines = readFileSync(join(import.meta.dirname, '../../../fixtures/kernel/lines.txt'), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
const captured = join(import.meta.dirname, '../../../../../shared/data/kernel')

describe('lines of the kernel', () => {
  test('become the same events as before, and most become none', async () => {
    const said = lines.map((line) => ({ line, event: kernelEventOf(line) ?? null }))
    await expect(`${JSON.stringify(said, undefined, 2)}\n`).toMatchFileSnapshot(
      '../../../golden/kernel/events.json',
    )
  })

  test('of the captures become one event for each thing that happened', ({ skip }) => {
    if (!existsSync(captured)) skip('the captured data (../shared/data/kernel) is not here')
    const found = readdirSync(captured)
      .toSorted()
      .map((name) => [
        name,
        readFileSync(join(captured, name), 'utf8')
          .split('\n')
          .flatMap((line) => kernelEventOf(line) ?? []),
      ])
    expect(Object.fromEntries(found)).toEqual({
      npd_docker_hung: [
        {
          name: 'dpu.kernel.hung_task',
          severity: 17,
          attributes: { 'process.executable.name': 'docker', 'process.pid': 20744, 'dpu.hung.seconds': 120 },
        },
      ],
      npd_null_pointer: [
        {
          name: 'dpu.kernel.oops',
          severity: 21,
          attributes: { 'error.type': 'unable to handle kernel NULL pointer dereference' },
        },
      ],
      npd_oom_kill: [
        {
          name: 'dpu.kernel.oom_kill',
          severity: 17,
          attributes: { 'process.pid': 1012, 'process.executable.name': 'heapster' },
        },
      ],
    })
  })

  test.each([
    ['watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [swapper/3:0]', 'dpu.kernel.lockup'],
    ['rcu: INFO: rcu_sched self-detected stall on CPU', 'dpu.kernel.lockup'],
    ['Kernel panic - not syncing: Fatal exception in interrupt', 'dpu.kernel.panic'],
    [
      'Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018',
      'dpu.kernel.oops',
    ],
    ['BUG: unable to handle page fault for address: ffffb8a3c0d3f000', 'dpu.kernel.oops'],
    ['Out of memory: Killed process 2201 (java) total-vm:1kB, anon-rss:1kB', 'dpu.kernel.oom_kill'],
    ['NETDEV WATCHDOG: p0 (mlx5_core): transmit queue 3 timed out', 'dpu.kernel.tx_timeout'],
    [
      'mlx5_core 0000:03:00.0: temp_warn:142:(pid 0): High temperature on sensors with bit set 0x1',
      'dpu.kernel.thermal',
    ],
    [
      'mlx5_core 0000:03:00.0: Port module event[error]: module 0, Cable error, Bus stuck',
      'dpu.kernel.nic_module',
    ],
    ['mlx5_core 0000:03:00.0 p0: Link down', 'dpu.kernel.link'],
    ['bond0: (slave p0): link status definitely down, disabling slave', 'dpu.kernel.link'],
    ['EXT4-fs error (device nvme0n1p2): ext4_find_entry:1455: inode #2', 'dpu.kernel.filesystem_error'],
    ['EXT4-fs (nvme0n1p2): Remounting filesystem read-only', 'dpu.kernel.filesystem_error'],
    [
      '{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1',
      'dpu.kernel.hardware_error',
    ],
  ])('%s is %s', (line, event) => expect(kernelEventOf(line)?.name).toBe(event))

  test.each([
    'EXT4-fs (vda): mounted filesystem with ordered data mode',
    'usb 1-1: new high-speed USB device number 2',
    'pci 0000:00:1d.0: PCI bridge to [bus 03]',
    'link up and running',
    '',
  ])('%s is no event', (line) => expect(kernelEventOf(line)).toBeUndefined())

  test('take no time to speak of, however they go on', () => {
    const long = 'Link PCIe Bus Error: EDAC MC0: 1 CE on nvme I/O Killed process '.repeat(4000)
    const began = performance.now()
    kernelEventOf(long)
    expect(performance.now() - began).toBeLessThan(200)
  })

  test('have names under dpu.kernel, and attributes of OpenTelemetry or under dpu', () => {
    for (const { event, attributes, always } of kernelEvents) {
      expect(event).toMatch(/^dpu\.kernel\.[a-z_]+$/)
      for (const key of [...Object.values(attributes ?? {}), ...Object.keys(always ?? {})])
        expect(key).toMatch(/^$|^(dpu|hw|cpu|process|system|network|error)\./)
    }
  })
})
