// An InfluxDB of a test's own, as a process that it may kill, freeze and start again on the same data and port.
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { eventually } from './programs.ts'

const services = resolve(import.meta.dirname, '../../../shared/services/services')

/** The program, where `../shared/services` has built it; undefined elsewhere. */
export function influxdPath(): string | undefined {
  if (!existsSync(services)) return undefined
  const found = spawnSync(services, ['path', 'influxd'], { encoding: 'utf8' })
  return found.status === 0 ? found.stdout.trim() : undefined
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export const influxToken = 'test-token'

export class Influxd {
  readonly url: string
  readonly #path: string
  readonly #directory = mkdtempSync(join(tmpdir(), 'dpulse-influxd-'))
  #child: ChildProcess | undefined

  private constructor(path: string, port: number) {
    this.#path = path
    this.url = `http://127.0.0.1:${port}`
  }

  static async start(path: string): Promise<Influxd> {
    const influxd = new Influxd(path, await freePort())
    await influxd.start()
    const setUp = {
      username: 'test',
      password: 'test-password',
      org: 'test',
      bucket: 'test',
      token: influxToken,
    }
    const answer = await fetch(`${influxd.url}/api/v2/setup`, {
      method: 'POST',
      body: JSON.stringify({ ...setUp, retentionPeriodSeconds: 0 }),
    })
    if (!answer.ok) throw new Error(`InfluxDB is not set up: ${await answer.text()}`)
    return influxd
  }

  /** As `--store` names it. */
  store(bucket: string): string {
    return `${this.url.replace('http:', 'influxdb:')}/test/${bucket}`
  }

  async start(): Promise<void> {
    const files = ['bolt', 'sqlite'].flatMap((kind) => [
      `--${kind}-path`,
      join(this.#directory, `influxd.${kind}`),
    ])
    const engine = ['--engine-path', join(this.#directory, 'engine')]
    const address = ['--http-bind-address', this.url.slice('http://'.length)]
    this.#child = spawn(
      this.#path,
      [...files, ...engine, ...address, '--reporting-disabled', '--log-level', 'error'],
      { stdio: 'ignore' },
    )
    await eventually('InfluxDB answers', 60, async () => (await fetch(`${this.url}/health`)).ok)
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP')
  }

  thaw(): void {
    this.#child?.kill('SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
