import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { expect, onTestFinished, test } from 'vitest'
import { processOf } from '../../../../plugins/protocols/native/index.ts'
import { groupName } from '../../../../plugins/protocols/native/process.ts'

const id = '3f2a'.repeat(16)

test.each([
  ['0::/system.slice/nginx.service', 'nginx.service'],
  [`0::/system.slice/docker-${id}.scope`, 'container 3f2a3f2a3f2a'],
  [`0::/kubepods/burstable/pod1/${id}`, 'container 3f2a3f2a3f2a'],
  [`0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-${id}.scope`, 'container 3f2a3f2a3f2a'],
  ['0::/user.slice/user-1000.slice/user@1000.service/app.slice/tmux.service', 'tmux.service'],
  ['0::/user.slice/user-1000.slice/session-3.scope', undefined],
  ['0::/', undefined],
  ['12:cpu:/old\n', undefined],
])('the control group %j is named %s', (text, name) => expect(groupName(text)).toBe(name))

test('a process at the other end of a Unix socket is named by its service or its user', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-peer-'))
  const server = createServer().listen(join(folder, 's'))
  onTestFinished(() => {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  await once(server, 'listening')
  const accepted = once(server, 'connection')
  const client = connect(join(folder, 's'))
  onTestFinished(() => void client.destroy())
  const [socket] = (await accepted) as [Socket]
  const name = await processOf(socket)
  expect(name === `uid ${process.getuid?.()}` || /\.service$|^container /.test(name ?? '')).toBe(true)
})
