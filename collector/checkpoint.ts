// Durable cursors of sources, in the log's table `checkpoints`: plain JSON under the component's id.
import { PermanentError } from '../plugins/contract/index.ts'
import type { Checkpoint } from '../plugins/contract/index.ts'
import type { Log } from '../plugins/protocols/log/index.ts'

const mostBytes = 1024 * 1024

/** Without a log (a trial run) nothing is kept. */
export function checkpointOf(log: Log | undefined, id: string): Checkpoint {
  let cursor: unknown
  if (!log) {
    return {
      load: () => Promise.resolve(cursor),
      save: async (next) => void (cursor = next),
    }
  }
  const table = log.table('checkpoints')
  return {
    async load() {
      const value = table.get(id)
      if (!value) return undefined
      try {
        return JSON.parse(Buffer.from(value).toString()) as unknown
      } catch (cause) {
        throw new PermanentError('DATA_CORRUPTED', `the checkpoint of ${id} cannot be read`, { cause })
      }
    },
    async save(next) {
      const value = Buffer.from(JSON.stringify(next))
      if (value.length > mostBytes) {
        throw new PermanentError('INPUT_TOO_LARGE', `the checkpoint of ${id} has ${value.length} bytes`)
      }
      await table.set(id, value)
    },
  }
}
