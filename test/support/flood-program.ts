// A process that sends syslog datagrams at a steady rate: PORT RATE SECONDS. Prints how many the system took.
import { createSocket } from 'node:dgram'
import process from 'node:process'

const [port = 0, rate = 0, seconds = 0] = process.argv.slice(2).map(Number)
const socket = createSocket('udp4')
socket.connect(port, '127.0.0.1')
await new Promise<void>((resolve) => void socket.once('connect', resolve))
const filler = 'x'.repeat(120)
const messages = Array.from({ length: 256 }, (_, index) =>
  Buffer.from(`<134>1 ${new Date().toISOString()} dpu-7 flood 1 ID47 - line ${index} ${filler}`),
)
let sent = 0
let failed = 0
let pending = 0
const began = performance.now()
for (;;) {
  const elapsed = performance.now() - began
  const due = Math.min(elapsed / 1000, seconds) * rate
  for (let burst = 0; sent < due && burst < 200 && pending < 2000; burst++) {
    pending++
    socket.send(messages[sent++ % 256] ?? filler, (error) => {
      pending--
      if (error) failed++
    })
  }
  if (elapsed >= seconds * 1000) break
  await new Promise<void>((resume) => void (sent < due ? setImmediate(resume) : setTimeout(resume, 2)))
}
await new Promise<void>((resolve) => void socket.close(resolve))
process.stdout.write(String(sent - failed))
