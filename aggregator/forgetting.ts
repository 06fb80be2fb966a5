// Streams end with their session, and would be as many as sessions there ever were. Once nothing was heard of one for
// longer than anything of it is kept, and the store holds no row of it, its books are closed: the ingest's, the writer's
// and the store's, in this order, so that a crash in between leaves nothing but totals that the next look closes.
import type { Clock, Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import type { Class } from '../plugins/contract/signal.ts'
import type { Ingest } from './ingest.ts'
import type { Store } from './store/store.ts'
import type { Writer } from './writer.ts'

const hourMs = 3_600_000
/** Files of the store span up to a day, and go whole. */
const graceMs = 48 * hourMs

export interface ForgettingOptions {
  ingest: Pick<Ingest, 'accounts' | 'forget'>
  writer: Pick<Writer, 'streams' | 'forget'>
  store: Pick<Store, 'count' | 'forget'>
  retentionMs: Readonly<Record<Class, number>>
  clock: Clock
  log: Log
}

/** Looks at once and then every hour, until aborted. */
export async function forgetSettled(options: ForgettingOptions, signal: AbortSignal): Promise<void> {
  await options.clock.every(hourMs, signal, async () => {
    try {
      await forgetOnce(options)
    } catch (error) {
      if (!signal.aborted) options.log.error('settled streams not forgotten', { error: messageOf(error) })
    }
  })
}

/** How many streams were forgotten. */
export async function forgetOnce(options: ForgettingOptions): Promise<number> {
  const { ingest, writer, store, retentionMs, clock } = options
  const { accounts } = ingest
  const nowMs = Number(clock.nowUnixNano() / 1_000_000n)
  const counts = new Map((await store.count()).map((count) => [count.stream, count]))
  const isEmpty = (key: string): boolean => {
    const { kept = 0, damaged = [] } = counts.get(key) ?? {}
    // What is lost stays in the books until somebody has looked.
    return kept === 0 && damaged.length === 0
  }
  const settled: string[] = []
  for (const [key, { class: name, held, lastSeenMs, records }] of accounts.entries()) {
    if (held > 0 || lastSeenMs > nowMs - retentionMs[name] - graceMs || !isEmpty(key)) continue
    const taken = writer.streams.get(key)
    const { stored, rejected } = counts.get(key) ?? taken?.confirmed ?? { stored: 0, rejected: 0 }
    const filtered = Object.values(taken?.filtered ?? {}).reduce((sum, count) => sum + count, 0)
    if (records === (taken?.forwarded ?? 0) + stored + rejected + filtered) settled.push(key)
  }
  await ingest.forget(settled)
  // Those too of which an earlier look closed the first book only.
  const orphans = [...new Set([...writer.streams.keys(), ...counts.keys()])].filter(
    (key) => !accounts.get(key) && isEmpty(key),
  )
  await writer.forget(orphans)
  await store.forget?.(orphans)
  return settled.length
}
