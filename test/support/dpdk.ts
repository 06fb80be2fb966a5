// DPDK programs for tests: a real dpdk-testpmd with null devices, and a socket that answers as one did, since Node has
// no sockets of its kind (Python has).
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'

export interface DpdkProgram extends AsyncDisposable {
  readonly socket: string
}

async function until(child: ChildProcess, socket: string): Promise<void> {
  for (let left = 100; !existsSync(socket); left--) {
    if (left === 0 || child.exitCode !== null) throw new Error(`nothing opened ${socket}`)
    await sleep(100)
  }
}

async function end(child: ChildProcess, ...folders: string[]): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve))
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    await gone
  }
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
}

/** Why there cannot be a dpdk-testpmd here; undefined where there can. */
export function testpmdProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'dpdk-testpmd takes root here'
  return existsSync('/usr/bin/dpdk-testpmd') ? undefined : 'dpdk-testpmd (package dpdk-dev) is not installed'
}

export async function startTestpmd(): Promise<DpdkProgram> {
  const prefix = `dpulse-${process.pid}`
  const folder = `/var/run/dpdk/${prefix}`
  const memory = ['--no-huge', '-m', '256', '--no-pci', '--vdev=net_null0', '--vdev=net_null1', '-l', '0,1']
  const child = spawn(
    'nice',
    [
      '-n',
      '10',
      'dpdk-testpmd',
      ...memory,
      `--file-prefix=${prefix}`,
      '--',
      '--auto-start',
      '--total-num-mbufs=2048',
      '--stats-period',
      '60',
    ],
    { stdio: 'ignore' },
  )
  const socket = join(folder, 'dpdk_telemetry.v2')
  await until(child, socket)
  return { socket, [Symbol.asyncDispose]: () => end(child, folder) }
}

const script = `
import json, os, socket, sys
answers = json.load(open(sys.argv[1]))
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind(sys.argv[2] + '.new')
server.listen(5)
os.rename(sys.argv[2] + '.new', sys.argv[2])
while True:
    peer, _ = server.accept()
    peer.send(json.dumps(json.loads(answers['/info'])['/info']).encode())
    while True:
        command = peer.recv(1024).decode()
        if not command: break
        peer.send(answers.get(command, json.dumps({command.split(',')[0]: None})).encode())
    peer.close()
`

/** Why there cannot be a socket that answers from a file; undefined where there can. */
export const recordedProblem = (): string | undefined =>
  existsSync('/usr/bin/python3') ? undefined : 'python3 is not installed'

/** A socket that gives the answers in a file: command to the text of its answer. */
export async function startRecorded(answers: string): Promise<DpdkProgram> {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-dpdk-'))
  const socket = join(folder, 'dpdk_telemetry.v2')
  const child = spawn('/usr/bin/python3', ['-c', script, answers, socket], { stdio: 'ignore' })
  await until(child, socket)
  return { socket, [Symbol.asyncDispose]: () => end(child, folder) }
}
