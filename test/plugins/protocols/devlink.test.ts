import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import { readHealth, reporterOf } from '../../../plugins/protocols/devlink.ts'
import {
  Netlink,
  NetlinkError,
  attribute,
  attributesIn,
  decodeAnswer,
  number,
  numberOf,
} from '../../../plugins/protocols/native/netlink.ts'
import type { NetlinkAttributes } from '../../../plugins/protocols/native/netlink.ts'
import { healthPoints } from '../../../plugins/protocols/nic/points.ts'

const fixture = (name: string) => readFile(join(import.meta.dirname, '../../fixtures/devlink', name), 'utf8')

/** As iproute2 prints it. */
const printed = z.object({
  health: z.record(
    z.string(),
    z.array(
      z.object({
        reporter: z.string(),
        state: z.string(),
        error: z.int(),
        recover: z.int(),
        last_dump_date: z.string().optional(),
        last_dump_time: z.string().optional(),
      }),
    ),
  ),
})

async function captured() {
  const found: NetlinkAttributes[] = []
  const reads = (await fixture('health.hex')).trim().split('\n')
  const ends = reads.map((read) => decodeAnswer(Buffer.from(read, 'hex'), 1, found))
  return { ends, reporters: found.flatMap((one) => reporterOf(one) ?? []) }
}

describe('health of devlink', () => {
  test('is what the program of iproute2 prints of the same device', async () => {
    const { ends, reporters } = await captured()
    expect(ends).toEqual([false, true])
    const told = reporters.map(({ bus, device, name, isHealthy, errors, recoveries, dumpUnixNano }) => {
      const [date, time] = new Date(Number(dumpUnixNano ?? 0n) / 1e6).toISOString().split(/[T.]/)
      return {
        on: `${bus}/${device}`,
        reporter: name,
        state: isHealthy ? 'healthy' : 'error',
        error: Number(errors),
        recover: Number(recoveries),
        ...(dumpUnixNano !== undefined && { last_dump_date: date, last_dump_time: time }),
      }
    })
    const { health } = printed.parse(JSON.parse(await fixture('health.json')))
    const expected = Object.entries(health).flatMap(([on, all]) => all.map((one) => ({ on, ...one })))
    expect(told).toEqual(expected)
  })

  test('makes a state, errors and recoveries of each reporter, and failure of what is fatal', async () => {
    const [, dummy] = (await captured()).reporters
    if (!dummy) throw new Error('two reporters were captured')
    const about = { 'hw.id': 'netdevsim/netdevsim1', 'hw.type': 'network', 'dpu.devlink.reporter': 'dummy' }
    expect(healthPoints(dummy)).toEqual([
      { name: 'hw.status', value: 0n, attributes: { ...about, 'hw.state': 'ok' } },
      { name: 'hw.status', value: 1n, attributes: { ...about, 'hw.state': 'degraded' } },
      { name: 'hw.status', value: 0n, attributes: { ...about, 'hw.state': 'failed' } },
      { name: 'hw.errors', value: 2n, attributes: { ...about, 'error.type': 'devlink.dummy' } },
      { name: 'dpu.devlink.recoveries', value: 1n, attributes: about },
      { name: 'dpu.devlink.dump.time', value: 1_795_292_197.841, attributes: about },
    ])
    const fatal = { ...dummy, bus: 'pci', device: '0000:03:00.0', port: 1, name: 'fw_fatal' }
    expect(healthPoints(fatal)[2]).toMatchObject({
      value: 1n,
      attributes: { 'hw.id': '0000:03:00.0', 'hw.state': 'failed', 'dpu.devlink.port': 1 },
    })
  })
})

describe('netlink', () => {
  test('asks the kernel of this machine, names what it refuses, and does without what it has not', async () => {
    using netlink = await Netlink.open()
    if (netlink === undefined) throw new Error('every Linux has generic netlink')
    expect(await netlink.family('nlctrl')).toBe(0x10)
    expect(await netlink.family('nothing-there')).toBeUndefined()
    const unknown = { family: 0x10, command: 250, version: 1, attributes: Buffer.alloc(0) }
    await expect(netlink.ask(unknown)).rejects.toThrow('errno 95')
    const all = { family: 0x10, command: 3, version: 1, attributes: Buffer.alloc(0), isDump: true }
    expect((await netlink.ask(all)).length).toBeGreaterThan(1)
    expect(await readHealth(netlink)).toBeInstanceOf(Array)
  })

  test('passes over what was not asked for, and no bytes are a failure but what the kernel says', () => {
    const answer = (sequence: number, errno: number) =>
      Buffer.concat([
        number(20),
        Buffer.from([2, 0, 0, 0]),
        number(sequence),
        number(0),
        number(-errno >>> 0),
      ])
    expect(decodeAnswer(answer(1, 5), 2, [])).toBe(false)
    expect(() => decodeAnswer(answer(2, 5), 2, [])).toThrow(new NetlinkError(5))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decodeAnswer(Buffer.from(bytes), 0, [])
        } catch (error) {
          expect(error).toBeInstanceOf(NetlinkError)
        }
      }),
    )
  })

  test('reads back the attributes that it writes', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 40 })), {
          selector: ([type]) => type,
        }),
        (given) => {
          const written = Buffer.concat(given.map(([type, bytes]) => attribute(type, Buffer.from(bytes))))
          expect(attributesIn(written)).toEqual(
            new Map(given.map(([type, bytes]) => [type, Buffer.from(bytes)])),
          )
        },
      ),
    )
    expect(numberOf(number(7))).toBe(7n)
    expect(numberOf(Buffer.alloc(9))).toBeUndefined()
  })
})
