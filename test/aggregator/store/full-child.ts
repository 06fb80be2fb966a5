// Writes to a store until it is refused, tries again, and prints what was acknowledged and the code of the refusal.
import { randomBytes } from 'node:crypto'
import { openDuckStore } from '../../../aggregator/store/duckdb.ts'
import { codeOf } from '../../../plugins/contract/errors.ts'
import { logBatch, nowNano, recordLog } from './batches.ts'

// Without a listener the signal of the limit would end the process.
process.on('SIGXFSZ', () => undefined)
const store = await openDuckStore(process.argv[2] ?? '', { log: recordLog(), maintenanceMs: 0 })
let acknowledged = 0
let error = ''
for (let failures = 0; failures < 3 && acknowledged < 200;) {
  const time = nowNano()
  const records = Array.from({ length: 2000 }, () => ({ time, body: randomBytes(90).toString('base64') }))
  try {
    await store.write([logBatch({ seq: acknowledged + 1 }, records)], {
      position: { 'otlp_logs/0': acknowledged + 1 },
      streams: new Map(),
    })
    acknowledged++
  } catch (cause) {
    error = codeOf(cause)
    failures++
  }
}
process.stdout.write(JSON.stringify({ acknowledged, error }))
process.exit(0)
