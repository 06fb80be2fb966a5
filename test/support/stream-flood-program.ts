// A process that sends syslog lines over TCP as fast as they are taken: PORT SECONDS CONNECTIONS. Prints how many it sent.
import { once } from 'node:events'
import { connect } from 'node:net'
import process from 'node:process'
import { syslogLines } from './traffic.ts'

const [port = 0, seconds = 0, connections = 1] = process.argv.slice(2).map(Number)
const perChunk = 500
const chunk = syslogLines(0, perChunk)
const until = performance.now() + seconds * 1000
let sent = 0

async function flood(): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  while (performance.now() < until) {
    sent += perChunk
    if (!socket.write(chunk)) await once(socket, 'drain')
  }
  socket.end()
  socket.resume() // else it never sees the end of the other side
  await once(socket, 'close')
}

await Promise.all(Array.from({ length: connections }, flood))
process.stdout.write(String(sent))
