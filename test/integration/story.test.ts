// The operator's story of the top README, as it stands there: from too much noise of one daemon to a rule that is tried,
// staged to the fleet, seen in the ledger, and undone.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { dpulse, root } from '../support/command-line.ts'
import { apiUrl, eventually, healthy, startProgram } from '../support/programs.ts'
import { ledgerOf, sendOverTcp } from '../support/traffic.ts'

const portOffset = 18_550

const lines = (severity: number, text: string, count: number): Buffer => {
  const time = `${new Date().toISOString().slice(0, 19)}.000000Z`
  const list = Array.from({ length: count }, (_, at) => {
    const message = `<${24 + severity}>1 ${time} dpu-7 flowd 1 - - ${text} ${at}`
    return `${message.length} ${message}`
  })
  return Buffer.from(list.join(''))
}

const shown = async (text: string): Promise<number> => {
  const answer = await fetch(`${apiUrl(portOffset)}/api/logs?since=1d&text=${encodeURIComponent(text)}`)
  return ((await answer.json()) as { records: unknown[] }).records.length
}

test('a rule against one daemon is tried, staged, seen in the ledger as filter, looked behind and undone', async () => {
  const data = mkdtempSync(join(tmpdir(), 'dpulse-story-'))
  const up = startProgram('up', { data, portOffset })
  onTestFinished(async () => {
    await up.stop()
    rmSync(data, { recursive: true, force: true })
  })
  await eventually('dpulse up is healthy', 90, () => healthy(portOffset))
  const device = await eventually('the device is known', 60, async () => {
    const answer = await fetch(`${apiUrl(portOffset)}/api/config`)
    const list = (await answer.json()) as { device: string; reported: unknown }[]
    return list.find(({ reported }) => reported !== null)?.device
  })
  const run = (...line: string[]) => dpulse(line, { url: apiUrl(portOffset) })
  const send = (severity: number, text: string, count = 1) =>
    sendOverTcp(5514 + portOffset, [lines(severity, text, count)])

  await send(6, 'retrying rule', 200)
  await eventually('the noise is there', 30, async () => (await shown('retrying')) === 200)

  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const quiet = join(data, 'quiet.yaml')
  writeFileSync(quiet, /```yaml\n(# quiet\.yaml\n[^`]*)```/.exec(readme)?.[1] ?? '')
  // Its ports are those of the running collector, so that a trial of its listeners says that they are taken.
  const checked = await run('check', quiet)
  expect({ code: checked.code, stdout: checked.stdout }).toMatchObject({ code: 0 })
  expect((await run('label', device, 'dpu.rack=r12')).code).toBe(0)
  const stages = ['--stages', '1%,10%,100%', '--soak', '1s']
  const applied = await run('apply', '-f', quiet, '--selector', 'rack=r12', ...stages)
  expect({ code: applied.code, stderr: applied.stderr }).toMatchObject({ code: 0 })
  expect(applied.stdout).toContain('done 100%')

  await send(6, 'retrying again', 300)
  await send(3, 'retrying in vain')
  await eventually('the error passes', 30, async () => (await shown('retrying in vain')) === 1)
  const ledger = await eventually('the drops are in the ledger', 30, async () => {
    const found = await ledgerOf(portOffset)
    return (found.dropped.filter ?? 0) >= 300 && found
  })
  expect(ledger).toMatchObject({ balanced: true, dropped: { filter: 300 } })
  expect(await shown('retrying again')).toBe(0)

  expect((await run('verbosity', 'messages', 'debug', '--device', device, '--for', '1h')).code).toBe(0)
  await send(6, 'retrying closely')
  await eventually('it passes', 30, async () => (await shown('retrying closely')) === 1)
  expect((await run('delete', 'verbosity', 'messages', '--device', device)).code).toBe(0)

  const undone = await run('delete', 'config', '--selector', 'rack=r12')
  expect({ code: undone.code, stderr: undone.stderr }).toMatchObject({ code: 0 })
  await send(6, 'retrying at last')
  await eventually('all passes again', 30, async () => (await shown('retrying at last')) === 1)
}, 240_000)
