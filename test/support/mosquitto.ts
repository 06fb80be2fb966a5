// A Mosquitto of a test's own, to be killed, frozen and started again on the same port: the one that `npm test` brings
// up is shared by all.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { eventually } from './programs.ts'

const found = ['/usr/sbin', '/usr/bin', '/usr/local/sbin', ...(process.env.PATH ?? '').split(':')]
  .map((folder) => join(folder, 'mosquitto'))
  .find((path) => existsSync(path))
export const mosquittoIsHere = found !== undefined
export const whyNoMosquitto = 'no mosquitto: ../shared/services can install it'

export interface Mosquitto {
  readonly port: number
  readonly url: string
  readonly child: ChildProcess
  /** Everything that it logged since the test began, packets included. */
  output(): string
  /** How often a text stands in it. */
  count(text: string): number
  start(): Promise<void>
  kill(signal: NodeJS.Signals): Promise<void>
  freeze(): void
  thaw(): void
}

/** `lines` are added to its configuration; TLS listeners say `mqtts`. */
export function mosquittoOf(options: {
  port: number
  lines?: readonly string[]
  anonymous?: boolean
  scheme?: 'mqtt' | 'mqtts'
  onTestFinished: (task: () => Promise<void>) => void
}): Mosquitto {
  const { port, lines = [], anonymous = true, scheme = 'mqtt' } = options
  const directory = mkdtempSync(join(tmpdir(), 'dpulse-mosquitto-'))
  const file = join(directory, 'mosquitto.conf')
  const root = process.getuid?.() === 0 ? ['user root'] : []
  const first = [`listener ${port} 127.0.0.1`, `allow_anonymous ${anonymous}`, 'log_type all']
  writeFileSync(file, [...first, ...root, ...lines, ''].join('\n'))
  let child: ChildProcess | undefined
  let output = ''
  const current = (): ChildProcess => {
    if (!child) throw new Error('the broker was not started')
    return child
  }
  const kill = async (signal: NodeJS.Signals): Promise<void> => {
    const one = current()
    if (one.exitCode !== null || one.signalCode !== null) return
    const gone = once(one, 'exit')
    one.kill(signal)
    await gone
  }
  options.onTestFinished(async () => {
    if (child) await kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  })
  return {
    port,
    url: `${scheme}://127.0.0.1:${port}`,
    get child() {
      return current()
    },
    output: () => output,
    count: (text) => output.split(text).length - 1,
    async start() {
      const started = spawn(found ?? 'mosquitto', ['-c', file], { stdio: ['ignore', 'pipe', 'pipe'] })
      child = started
      for (const stream of [started.stdout, started.stderr]) {
        stream.setEncoding('utf8')
        stream.on('data', (text: string) => (output += text))
      }
      await eventually('mosquitto listens', 10, async () => {
        if (started.exitCode !== null) throw new Error(`it ended: ${output.slice(-2000)}`)
        const socket = connect(port, '127.0.0.1')
        try {
          await once(socket, 'connect')
          return true
        } finally {
          socket.destroy()
        }
      })
    },
    kill,
    freeze: () => void current().kill('SIGSTOP'),
    thaw: () => void current().kill('SIGCONT'),
  }
}
