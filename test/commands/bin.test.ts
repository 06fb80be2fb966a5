// bin.js: the same command line under whichever Node started it.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { describe, expect, onTestFinished, test } from 'vitest'
import { serveSample } from '../support/api-server.ts'
import { dpulse, oldNode, root } from '../support/command-line.ts'
import { createFleetSample } from '../support/sample-queries.ts'

const bin = join(root, 'bin.js')

const none = 'no Node from 20 to 24.11 on this machine'

describe('bin.js', () => {
  test('runs the command line where Node is new enough, and passes its exit code on', async () => {
    const url = await serveSample(createFleetSample())
    const command = [process.execPath, bin] as const
    expect(await dpulse(['get', 'devices', '-o', 'json'], { url, command })).toMatchObject({
      code: 0,
      stderr: '',
    })
    expect(await dpulse(['nonsense'], { url, command })).toMatchObject({ code: 2 })
  })

  test('under an older Node hands over to the pinned one, with its exit code and signals', async ({
    skip,
  }) => {
    if (oldNode === undefined) skip(none)
    const old = oldNode ?? ''
    const url = await serveSample(createFleetSample())
    const command = [old, bin] as const
    const ended = await dpulse(['get', 'devices', '-o', 'json'], { url, command })
    expect(ended).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(ended.stdout)).toHaveLength(2)
    expect(await dpulse(['nonsense'], { url, command })).toMatchObject({ code: 2 })
    // SIGTERM goes through: a tail ends, and the shim dies of the same signal.
    const until = (text: string) => text.includes('\n')
    expect(await dpulse(['logs', '--follow', '-o', 'json'], { url, command, until })).toMatchObject({
      code: null,
    })
  })

  test('without the pinned runtime says what to do', async ({ skip }) => {
    if (oldNode === undefined) skip(none)
    const old = oldNode ?? ''
    const folder = mkdtempSync(join(tmpdir(), 'dpulse-bin-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    for (const file of ['bin.js', 'runtime.js']) cpSync(join(root, file), join(folder, file))
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    const { code, stderr } = await dpulse(['logs'], { command: [old, join(folder, 'bin.js')] })
    expect(code).toBe(1)
    expect(stderr).toContain('dpulse needs Node 24.12 or newer')
    expect(stderr).toContain('npm install')
  })
})

describe('runtime.js', () => {
  test('runs a command with the pinned Node first on its PATH, and ends as the command does', async ({
    skip,
  }) => {
    if (oldNode === undefined) skip(none)
    const command = [oldNode ?? '', join(root, 'runtime.js')] as const
    const environment = { PATH: '/usr/bin:/bin' }
    const version = await dpulse(['node', '--version'], { command, environment })
    expect(version).toMatchObject({ code: 0, stdout: `${process.version}\n` })
    expect(await dpulse(['sh', '-c', 'exit 7'], { command, environment })).toMatchObject({ code: 7 })
    const { code, stderr } = await dpulse(['no-such-command'], { command, environment })
    expect(code).toBe(1)
    expect(stderr).toContain('no-such-command')
  })
})
