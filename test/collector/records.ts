// Records for tests of the collector: log lines whose bodies are numbers, so that each can be found again.
import { LogCursor, LogsEncoder, encodeResource } from '../../plugins/contract/index.ts'
import type { Batch, Class, Records } from '../../plugins/contract/index.ts'

const encoder = new LogsEncoder({ name: 'test' })

export function recordsOf(
  ids: readonly number[],
  options: { device?: string; class?: Class; pad?: number } = {},
): Records {
  const { device = 'dpu-1', class: name = 'log', pad = 0 } = options
  encoder.begin(encodeResource({ 'host.id': device }))
  for (const id of ids) {
    encoder.record(1_790_000_000 + id, 0, 1_790_000_000 + id, 0, 9)
    encoder.body(`${id}${' '.repeat(pad)}`)
    encoder.attribute('number', id)
    encoder.end()
  }
  return encoder.finish(device, name)
}

export function idsOf(bytes: Uint8Array): number[] {
  const ids: number[] = []
  const cursor = new LogCursor()
  cursor.reset(bytes)
  while (cursor.next()) ids.push(Number(cursor.bodyValue()))
  return ids
}

export const idsOfBatches = (batches: readonly Batch[]): number[] =>
  batches.flatMap(({ bytes }) => idsOf(bytes))

let last = 0
/** Numbers that were never given before. */
export const fresh = (count: number): number[] => Array.from({ length: count }, () => ++last)
