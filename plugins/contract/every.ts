// What `every` of a Clock does, on any clock that can delay: the machine's, a simulated one, one of a test.
import type { Clock } from './define.ts'

/** Runs `task` now and then at the interval until aborted; a late one is not made up for. Its errors reach the caller. */
export async function every(
  clock: Pick<Clock, 'elapsedMs' | 'delay'>,
  intervalMs: number,
  signal: AbortSignal,
  task: () => Promise<void> | void,
): Promise<void> {
  let due = clock.elapsedMs()
  while (!signal.aborted) {
    await task()
    // The next is due one interval after this one was, or now.
    due = Math.max(due + intervalMs, clock.elapsedMs())
    try {
      await clock.delay(due - clock.elapsedMs(), signal)
    } catch {
      return
    }
  }
}
