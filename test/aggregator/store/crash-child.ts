// A process that writes to a store and seals it all the time, until it is killed. It prints each number that was
// acknowledged: all batches up to that one are promised. `node crash-child.ts DIRECTORY [seal|append]`
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import { logBatch, nowNano, pointBatch, recordLog } from './batches.ts'

const [directory = '', mode = 'seal'] = process.argv.slice(2)
export const recordsPerBatch = 60

const store = await openDuckStore(directory, {
  log: recordLog(),
  maintenanceMs: mode === 'seal' ? 1 : 0,
  segmentRows: { logs: 500, metrics: 500 },
  segmentMs: 0,
  segmentMinRows: 1,
})
const { position } = await store.load()
const declared = { 'crash.count': { kind: 'counter', unit: '1' } } as const
for (let seq = (position['otlp_logs/0'] ?? 0) + 1; ; seq++) {
  const time = nowNano() - BigInt(seq)
  const logs = Array.from({ length: recordsPerBatch }, (_, index) => ({ time, body: `${seq}/${index}` }))
  const points = Array.from({ length: recordsPerBatch }, (_, index) => ({
    time: time - BigInt(index),
    name: 'crash.count',
    value: BigInt(seq),
  }))
  await store.write([logBatch({ seq }, logs), pointBatch({ seq }, declared, points)], {
    position: { 'otlp_logs/0': seq },
    streams: new Map([['stream', new Uint8Array(Buffer.from(String(seq)))]]),
  })
  process.stdout.write(`${seq}\n`)
}
