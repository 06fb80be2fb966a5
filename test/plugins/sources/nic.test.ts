import { execFileSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type * as z from 'zod'
import { Ethtool } from '../../../plugins/protocols/native/index.ts'
import { moduleOf } from '../../../plugins/protocols/optics/memory.ts'
import { Netlink } from '../../../plugins/protocols/native/netlink.ts'
import { whatIs } from '../../../plugins/protocols/nic/statistics.ts'
import nic, { NicReader, detectPorts } from '../../../plugins/sources/nic.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'
import type { PlainPoint } from '../../support/records.ts'
import { plantTree, treeOf } from '../../support/trees.ts'

const now = 1_795_260_000_000_000_000n
const plant = async (more: Record<string, string> = {}) =>
  join(await plantTree({ ...(await treeOf('sys/nic.json')), ...more }), 'sys')

function readerOf(
  sys: string,
  settings: Partial<z.input<typeof nic.config>> = {},
  kernel: { ethtool?: Ethtool | undefined; netlink?: Netlink | undefined } = {},
) {
  const context = testContext({ clock: new FakeClock(now) })
  return {
    context,
    reader: new NicReader(nic.config.parse({ ...settings, root: { sys } }), context, kernel),
  }
}
const pointsOf = async (...given: Parameters<typeof readerOf>) =>
  collectPoints(await readerOf(...given).reader.read())
const valueOf = (points: readonly PlainPoint[], name: string, more: Record<string, unknown>) =>
  points.find(
    (one) => one.name === name && Object.entries(more).every(([key, value]) => one.attributes[key] === value),
  )?.value

const port = 'sys/class/net/eth0'
const rdma = 'sys/class/infiniband/mlx5_0/ports/1'

describe('nic', () => {
  conformsToSource(nic, async () => ({ root: { sys: await plant() } }), {
    context: () => ({ clock: new FakeClock(now) }),
  })

  test('reports captured ports as it did before', async () =>
    expect(golden(await readerOf(await plant()).reader.read())).toMatchFileSnapshot(
      '../../golden/nic/procfs.json',
    ))

  test('tells state and speed of a link, in bytes, and nothing of a speed that the kernel does not know', async () => {
    const eth0 = { 'network.interface.name': 'eth0' }
    const points = await pointsOf(await plant())
    expect(valueOf(points, 'hw.network.up', eth0)).toBe(1n)
    expect(valueOf(points, 'hw.network.bandwidth.limit', eth0)).toBe(125_000_000n)
    for (const unknown of ['-1', '65535', '4294967295']) {
      const other = await pointsOf(await plant({ [`${port}/speed`]: unknown, [`${port}/operstate`]: 'down' }))
      expect(valueOf(other, 'hw.network.bandwidth.limit', eth0)).toBeUndefined()
      expect(valueOf(other, 'hw.network.up', eth0)).toBe(0n)
    }
  })

  test.each([
    ['p0', 'physical'],
    ['pf0hpf', 'representor'],
    ['pf0vf12', 'representor'],
    ['pf1sf88', 'representor'],
  ])('takes the port %s for %s', async (portName, kind) => {
    const points = await pointsOf(await plant({ [`${port}/phys_port_name`]: portName }))
    const about = points.find(({ name }) => name === 'dpu.network.interface')?.attributes
    expect(about).toMatchObject({ 'dpu.network.port.name': portName, 'dpu.network.port.kind': kind })
  })

  test('tells RDMA in bytes and packets, errors by name, and nothing of what a device does not count', async () => {
    const points = await pointsOf(await plant())
    const mlx5 = { 'hw.name': 'mlx5_0' }
    const words = BigInt((await treeOf('sys/nic.json'))[`${rdma}/counters/port_rcv_data`] ?? '')
    expect(valueOf(points, 'dpu.rdma.io', { ...mlx5, 'network.io.direction': 'receive' })).toBe(words * 4n)
    expect(valueOf(points, 'hw.errors', { ...mlx5, 'error.type': 'out_of_sequence' })).toBeDefined()
    expect(
      valueOf(points, 'dpu.rdma.statistic', { ...mlx5, 'dpu.network.statistic': 'rx_read_requests' }),
    ).toBeDefined()
    const silent = await pointsOf(await plant({ [`${rdma}/counters/port_rcv_data`]: 'N/A (no PMA)' }))
    expect(valueOf(silent, 'dpu.rdma.io', { ...mlx5, 'network.io.direction': 'receive' })).toBeUndefined()
    // Beyond 63 bits an IB device says that it has no such counter.
    const none = await pointsOf(
      await plant({ [`${rdma}/hw_counters/out_of_sequence`]: '18446744073709551615' }),
    )
    expect(valueOf(none, 'hw.errors', { ...mlx5, 'error.type': 'out_of_sequence' })).toBeUndefined()
  })

  test('knows errors, directions and queues by the names that drivers give', async () => {
    const text = await readFile(join(import.meta.dirname, '../../fixtures/sys/ethtool-e1000e.txt'), 'utf8')
    const names = [...text.matchAll(/^ +(.+): \d+$/gm)].map(([, name = '']) => name)
    const errors = names.filter((name) => whatIs(name).kind === 'error')
    expect(errors).toEqual(['tx_errors', 'rx_errors', 'port.rx_dropped', 'rx_missed', 'align_errors'])
    const queues = ['rx0_packets', 'tx_queue_3_bytes', 'rx-0.packets', '[0]: rx_ucast_packets', 'ch0_events']
    expect(queues.filter((name) => !whatIs(name).isOfQueue)).toEqual([])
    const others = [
      'rx_prio0_bytes',
      'rx_64_bytes_phy',
      'rx_1024_to_1518_bytes_phy',
      'tx_prio3_pause',
      'port.rx_size_64',
    ]
    expect(others.filter((name) => whatIs(name).isOfQueue)).toEqual([])
    expect(others.map((name) => whatIs(name).kind)).toEqual(others.map(() => 'statistic'))
    expect(
      ['rx_discards_phy', 'tx_pause_ctrl_phy', 'link_down_events_phy'].map((name) => whatIs(name).direction),
    ).toEqual(['receive', 'transmit', undefined])
  })

  test('reads no more than it may, links before statistics, and says so once', async () => {
    const { reader, context } = readerOf(await plant(), { most: 3 })
    const points = collectPoints(await reader.read())
    expect(points.map(({ name }) => name)).toEqual(Array(3).fill('dpu.network.interface'))
    await reader.read()
    expect(context.logged.map(({ message }) => message)).toEqual(['ports count more than is read'])
  })

  test('is detected where there is a port, and says what is missing elsewhere', async () => {
    expect(detectPorts(await plant())).toEqual({ config: {} })
    expect(detectPorts('/nowhere')).toEqual({ leftOut: 'no network port in /nowhere/class/net' })
  })
})

/** A pair of virtual ports of this machine; undefined where they cannot be made. */
function pair(): string | undefined {
  const name = `dpt${process.pid % 100_000}`
  try {
    execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}b`], { stdio: 'ignore' })
  } catch {
    return undefined
  }
  onTestFinished(() => void execFileSync('ip', ['link', 'del', name], { stdio: 'ignore' }))
  return name
}

describe('drivers of this machine', () => {
  test('are asked by their own names, and one that is not there is no failure', async ({ skip }) => {
    using ethtool = await Ethtool.open()
    using netlink = await Netlink.open()
    if (!ethtool || !netlink) throw new Error('every Linux has both')
    expect(ethtool.driver('nothing-there')).toBeUndefined()
    expect(await ethtool.module('nothing-there')).toBeUndefined()
    expect(ethtool.statistics('a name that is far too long')).toBeUndefined()
    const name = pair()
    if (name === undefined) return skip('needs the right to make a veth pair')
    // The kernel knows the question, and the driver no module.
    expect(await netlink.family('ethtool')).toBeGreaterThan(0x10)
    expect(await moduleOf(name, ethtool, netlink)).toBeUndefined()
    expect(ethtool.driver(name)).toMatchObject({ driver: 'veth' })
    expect(ethtool.statistics(name)?.has('peer_ifindex')).toBe(true)
    const points = await pointsOf(
      '/sys',
      { interfaces: { include: [name], exclude: [] } },
      { ethtool, netlink },
    )
    expect(valueOf(points, 'dpu.network.interface', { 'dpu.network.driver': 'veth' })).toBe(1n)
    expect(points.some(({ attributes }) => attributes['dpu.network.statistic'] === 'peer_ifindex')).toBe(true)
    return undefined
  })
})
