// A program under `dpulse up`, for tests of the parent alone: it says that it is ready as the real ones do, and what
// the file named in CHILD_PROGRAM tells it to do otherwise.
import { appendFileSync } from 'node:fs'
import process from 'node:process'
import { connectToParent, stopSignal } from '../../plugins/contract/parent.ts'

const [name = '', ...line] = process.argv.slice(2)
const journal = process.env.CHILD_JOURNAL ?? '/dev/null'
const say = (event: object) =>
  appendFileSync(journal, `${JSON.stringify({ name, pid: process.pid, ...event })}\n`)

if (process.env.CHILD_REFUSES === name) {
  process.stderr.write('the configuration is wrong: sources.x\n')
  process.exit(2)
}
const signal = stopSignal(10_000)
const keep = setInterval(() => undefined, 60_000)
const parent = connectToParent((peer) => say({ event: 'peer', peer }))
say({ event: 'started', line })
parent.ready(
  name === 'collector'
    ? [
        { name: 'syslog', address: 'tcp://127.0.0.1:15514' },
        { name: 'syslog', address: 'udp://127.0.0.1:15515' },
        { name: 'otlp', address: 'http://127.0.0.1:14318' },
      ]
    : [{ name: 'broker', address: 'mqtt://127.0.0.1:11883' }],
  name === 'collector' ? [{ name: 'hwmon', reason: 'this machine shows no sensors' }] : [],
)
signal.addEventListener('abort', () => {
  say({ event: 'stopped' })
  clearInterval(keep)
})
