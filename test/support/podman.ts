// Podman as a real peer: an engine with a socket and storage of its own, and an image made of Busybox.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'

/** Why there cannot be one here; undefined where there can. */
export function podmanProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'a Podman of its own takes root'
  if (!existsSync('/bin/busybox')) return 'busybox-static is not installed'
  for (const program of ['podman', 'runc', 'conmon']) {
    const folders = ['/usr/bin', '/usr/sbin', '/bin', '/sbin']
    if (!folders.some((folder) => existsSync(join(folder, program)))) return `${program} is not installed`
  }
  return undefined
}

export interface Podman extends AsyncDisposable {
  readonly socket: string
  /** The image that holds `/bin/sh`, `sleep`, `echo`, `cat`, `true` and `false`. */
  readonly image: string
  run: (...parameters: string[]) => string
  /** Starts a container of the image without waiting for its end. */
  start: (name: string, command: string, ...options: string[]) => void
}

const image = 'localhost/busybox:test'
/** Where CAP_SYS_RESOURCE is missing, the limits that Podman would set are refused. */
const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024', '--network', 'none']

export async function startPodman(): Promise<Podman> {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-podman-'))
  const at = (name: string) => join(folder, name)
  const where = ['--root', at('root'), '--runroot', at('runroot'), '--tmpdir', at('tmp')]
  const how = [
    '--runtime',
    'runc',
    '--storage-driver',
    'vfs',
    '--cgroup-manager',
    'cgroupfs',
    '--events-backend',
    'file',
  ]
  const run = (...parameters: string[]): string =>
    execFileSync('podman', [...where, ...how, ...parameters], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  mkdirSync(at('image/bin'), { recursive: true })
  execFileSync('cp', ['/bin/busybox', at('image/bin/busybox')])
  for (const name of ['sh', 'sleep', 'echo', 'cat', 'true', 'false'])
    symlinkSync('busybox', at(`image/bin/${name}`))
  execFileSync('tar', ['-C', at('image'), '-cf', at('image.tar'), '.'])
  run('import', at('image.tar'), image)
  const socket = at('api.sock')
  const service = spawn(
    'podman',
    [...where, ...how, 'system', 'service', '--time', '0', `unix://${socket}`],
    {
      stdio: 'ignore',
    },
  )
  for (let left = 100; !existsSync(socket); left--) {
    if (left === 0 || service.exitCode !== null) throw new Error('podman did not open its socket')
    await sleep(100)
  }
  return {
    socket,
    image,
    run,
    start: (name, command, ...options) =>
      void run('run', '--detach', '--name', name, ...limits, ...options, image, '/bin/sh', '-c', command),
    async [Symbol.asyncDispose]() {
      run('rm', '--all', '--force', '--time', '0')
      const gone = new Promise((resolve) => service.once('exit', resolve))
      service.kill('SIGKILL')
      await gone
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
