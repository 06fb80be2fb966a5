// What a collector starts without a configuration: which sources of the tree look at this machine, and that no line
// comes in twice.
import { describe, expect, test } from 'vitest'
import { detectConfig } from '../../collector/detect.ts'
import { plugins } from '../../plugins/index.ts'
import { kernelRingProblem } from '../../plugins/protocols/kernel/kmsg.ts'

describe('starting without a file on this machine', () => {
  test('says of every source whether it starts, or why not', async () => {
    const { config, leftOut } = await detectConfig(plugins, { broker: 'embedded' })
    const told = new Set([...config.sources.map(({ id }) => id), ...leftOut.map(({ name }) => name)])
    const wanted = plugins.filter(({ kind }) => kind === 'source')
    expect(told).toEqual(new Set(wanted.map(({ name }) => name)))
    for (const { name, reason } of leftOut) expect(`${name}: ${reason}`).toMatch(/^\w+: \S.{10,400}$/)
  })

  test('starts what needs nothing of the machine, and follows no file on its own', async () => {
    const { config } = await detectConfig(plugins, { broker: 'embedded' })
    const ids = config.sources.map(({ id }) => id)
    expect(ids).toEqual(expect.arrayContaining(['syslog', 'otlp', 'system']))
    expect(ids).not.toContain('file')
  })

  test('takes lines of the kernel from one source only', async () => {
    const { config } = await detectConfig(plugins, { broker: 'embedded' })
    const isRead = config.sources.some(({ id }) => id === 'kmsg')
    expect(isRead).toBe(kernelRingProblem('/dev/kmsg') === undefined)
    const journald = config.sources.find(({ id }) => id === 'journald')
    if (journald) expect((journald.config as { kernel: boolean }).kernel).toBe(!isRead)
  })
})
