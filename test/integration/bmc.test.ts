// A collector beside a BMC, killed and started again: what its logs tell arrives, and what was safe does not come again.
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import * as z from 'zod'
import { eventually, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { capturesAreHere, redfishService, whyNoCaptures } from '../support/redfish.ts'
import type { RedfishService } from '../support/redfish.ts'

const portOffset = 20_400
const log = '/redfish/v1/Systems/Bluefield/LogServices/EventLog'

const attribute = z.object({ key: z.string(), value: z.looseObject({ stringValue: z.string().optional() }) })
const line = z.object({
  resourceLogs: z
    .array(
      z.object({
        scopeLogs: z.array(z.object({ logRecords: z.array(z.object({ attributes: z.array(attribute) })) })),
      }),
    )
    .default([]),
})

/** The keys of all log records in the file, as often as they are there. */
function uidsIn(file: string): string[] {
  if (!existsSync(file)) return []
  const whole = readFileSync(file, 'utf8')
  const lines = whole
    .slice(0, whole.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean)
  return lines
    .flatMap((text) => line.parse(JSON.parse(text)).resourceLogs)
    .flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords))
    .map(({ attributes }) => attributes.find(({ key }) => key === 'log.record.uid')?.value.stringValue ?? '')
}

const entry = (id: number) => ({
  '@odata.id': `${log}/Entries/${id}`,
  Id: String(id),
  Created: new Date(1_795_000_000_000 + id * 1000).toISOString(),
  Message: `entry ${id}`,
  Severity: 'Warning',
})
const fill = (service: RedfishService, count: number) => {
  service.changed.set(log, { ...service.read(log), Oem: {} })
  service.changed.set(`${log}/Entries`, {
    '@odata.id': `${log}/Entries`,
    Members: Array.from({ length: count }, (_, index) => entry(index + 1)),
  })
}

async function beside(service: RedfishService) {
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-bmc-'))
  const file = join(directory, 'out.jsonl')
  const config = join(directory, 'collector.yaml')
  writeFileSync(
    config,
    JSON.stringify({
      sources: {
        bmc: {
          type: 'redfish',
          endpoint: service.url,
          interval: '1s',
          logs: { interval: '1s', services: { include: [log] } },
        },
      },
      exporters: { out: { type: 'file', path: file } },
      pipelines: { hardware: { sources: ['bmc'], exporters: ['out'] } },
    }),
  )
  let program: Program | undefined
  const start = () => {
    const given = { data: join(directory, 'data'), portOffset, arguments: ['--config', config] }
    program = startProgram('collector', given)
  }
  const kill = async () => {
    if (!program) return
    const ended = once(program.child, 'exit')
    program.child.kill('SIGKILL')
    await ended
  }
  onTestFinished(async () => {
    await program?.stop()
    await service.close()
    rmSync(directory, { recursive: true, force: true })
  })
  return { file, start, kill, uids: () => uidsIn(file) }
}

const needed = capturesAreHere ? '' : ` (${whyNoCaptures})`

describe.skipIf(!capturesAreHere)(`a collector beside a BMC${needed}`, () => {
  test('tells after a kill what the logs got meanwhile, and nothing twice', async () => {
    const service = await redfishService({ capture: 'bluefield3-bf23.10' })
    fill(service, 300)
    const { start, kill, uids } = await beside(service)
    start()
    await eventually('the first entries are in the file', 60, () => Promise.resolve(uids().length === 300))
    // A reading of the log begins only when the cursor of the one before is kept.
    const before = service.requests.filter((one) => one.includes('EventLog/Entries')).length
    await eventually('the log is read again', 60, () => {
      const now = service.requests.filter((one) => one.includes('EventLog/Entries')).length
      return Promise.resolve(now > before + 1)
    })
    await kill()
    fill(service, 350)
    start()
    await eventually('the others are in the file', 60, () => Promise.resolve(uids().length >= 350))
    const found = uids()
    expect(new Set(found).size).toBe(350)
    expect(found).toHaveLength(350)
  }, 180_000)

  test('loses no entry when it is killed at any moment', async () => {
    const service = await redfishService({ capture: 'bluefield3-bf23.10' })
    fill(service, 3000)
    const { start, kill, uids } = await beside(service)
    for (const requests of [12, 30, 33]) {
      const from = service.requests.length
      start()
      await eventually(`${requests} requests later`, 60, () =>
        Promise.resolve(service.requests.length >= from + requests),
      )
      await kill()
    }
    start()
    await eventually('all entries are in the file', 90, () => Promise.resolve(new Set(uids()).size === 3000))
  }, 300_000)
})
