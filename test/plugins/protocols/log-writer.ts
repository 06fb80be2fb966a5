// Started and killed by log-process.test.ts: opens the log, says so, and writes to it without end, printing what was
// acknowledged. In each round it appends to three topics, sets a table to the round, moves a position and forgets.
import { openLog } from '../../../plugins/protocols/log/index.ts'

const directory = process.argv[2] ?? ''
const log = await openLog(directory, { segmentBytes: 100_000, rewriteBytes: 20_000 })
process.stdout.write(`open ${log.damage.length}\n`)

async function write(name: string): Promise<never> {
  const topic = log.topic(name)
  for (;;) {
    const values = Array.from(
      { length: 1 + (topic.next % 5) },
      (_, index) => `${name} ${topic.next + index} `,
    )
    const offsets = await log.commit({
      append: values.map((value) => ({
        topic: name,
        key: 'k',
        value: Buffer.from(value.padEnd(topic.next % 9000, '.')),
      })),
      set: [{ table: 't', key: name, value: Buffer.from(String(topic.next + values.length)) }],
    })
    const next = (offsets.at(-1) ?? -1) + 1
    process.stdout.write(`next ${name} ${next}\n`)
    if (next % 7 === 0) {
      await topic.setPosition('c', next)
      process.stdout.write(`position ${name} ${next}\n`)
    }
    if (next % 50 === 0) {
      await topic.truncate(next - 40)
      process.stdout.write(`first ${name} ${next - 40}\n`)
    }
  }
}

await Promise.all(['a', 'b/c', 'd'].map(write))
