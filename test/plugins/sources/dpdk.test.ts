// The dpdk source over what a dpdk-testpmd answered, and over a real one.
import { basename, dirname, join } from 'node:path'
import { afterAll, describe, expect, test, vi } from 'vitest'
import type * as z from 'zod'
import dpdk, { DpdkReader, detectDpdk } from '../../../plugins/sources/dpdk.ts'
import { FakeClock } from '../../support/clock.ts'
import { conformsToSource } from '../../support/conformance.ts'
import { testContext } from '../../support/context.ts'
import { recordedProblem, startRecorded, startTestpmd, testpmdProblem } from '../../support/dpdk.ts'
import type { DpdkProgram } from '../../support/dpdk.ts'
import { golden } from '../../support/golden.ts'
import { collectPoints } from '../../support/records.ts'

const answers = join(import.meta.dirname, '../../fixtures/dpdk/testpmd.json')
const never = new AbortController().signal

function readerOf(socket: string, config: z.input<typeof dpdk.config> = {}) {
  const context = testContext({ clock: new FakeClock() })
  const reader = new DpdkReader(dpdk.config.parse({ ...config, sockets: [socket] }), context)
  return { reader, context, read: async () => collectPoints(await reader.read(never)) }
}

describe('dpdk', () => {
  let shared: DpdkProgram | undefined
  afterAll(() => shared?.[Symbol.asyncDispose]())
  // A socket that nobody opened is a program that is down, which is a reading too.
  conformsToSource(dpdk, async () => ({
    sockets: [
      recordedProblem() === undefined ? (shared ??= await startRecorded(answers)).socket : '/there/is/none',
    ],
  }))

  test('reads ports, pools and heaps as it did before', async ({ skip }) => {
    const problem = recordedProblem()
    if (problem !== undefined) skip(problem)
    await using program = await startRecorded(answers)
    const { reader } = readerOf(program.socket, { statistics: ['rx_q0_*', 'tx_good_*'] })
    const said = golden(await reader.read(never)).replaceAll(basename(dirname(program.socket)), 'testpmd')
    await expect(said).toMatchFileSnapshot('../../golden/dpdk/testpmd.json')
  })

  test('says that a program is down, once', async () => {
    const { read, context } = readerOf('/there/is/none')
    expect((await read()).map(({ name, value }) => [name, value])).toEqual([['dpu.dpdk.up', 0n]])
    await read()
    expect(context.logged.map(({ fields }) => fields.reason)).toEqual(['there is no /there/is/none'])
  })

  test('is left out where there is no program', async () => {
    expect(await detectDpdk([])).toEqual({
      leftOut: 'no DPDK program with a telemetry socket on this machine',
    })
    expect(await detectDpdk(['/there/is/none'])).toEqual({ leftOut: 'there is no /there/is/none' })
  })

  test(
    'reads a real dpdk-testpmd, whose counters grow and stop with it',
    { timeout: 60_000 },
    async ({ skip }) => {
      const problem = testpmdProblem()
      if (problem !== undefined) skip(problem)
      await using program = await startTestpmd()
      const { read } = readerOf(program.socket)
      const packets = async () =>
        (await read()).find(
          ({ name, attributes }) =>
            name === 'dpu.dpdk.port.packets' && attributes['dpu.dpdk.port'] === 'net_null0',
        )?.value as bigint
      const first = await vi.waitFor(async () => {
        const count = await packets()
        expect(count).toBeGreaterThan(0n)
        return count
      }, 20_000)
      await vi.waitFor(async () => expect(await packets()).toBeGreaterThan(first), 20_000)
      expect(await detectDpdk([program.socket])).toEqual({ config: {} })
      const points = await read()
      const value = (name: string) => points.find((point) => point.name === name)?.value
      expect(value('dpu.dpdk.port.up')).toBe(1n)
      expect(value('dpu.dpdk.mempool.limit')).toBe(2048n)
      expect(value('dpu.dpdk.heap.limit')).toBe(268_435_456n)
      await program[Symbol.asyncDispose]()
      expect((await read()).map(({ name, value: said }) => [name, said])).toEqual([['dpu.dpdk.up', 0n]])
    },
  )
})
