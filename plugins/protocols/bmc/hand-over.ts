// Handing Records over, some at once: a BMC with forty devices would else have a hundred emits unanswered.
import type { Records } from '../../contract/batch.ts'
import type { Emit } from '../../contract/define.ts'

const most = 16

/** Resolves when all are safe. */
export async function emitAll(records: readonly Records[], emit: Emit, signal: AbortSignal): Promise<void> {
  for (let at = 0; at < records.length; at += most) {
    signal.throwIfAborted()
    await Promise.all(records.slice(at, at + most).map((one) => emit(one)))
  }
}
