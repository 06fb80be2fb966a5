// The gate in front of the store: so many queries at once, so many more waiting for so long, the rest is sent
// away with 503. A query that takes too long, or whose asker has gone, is aborted.

export interface AdmissionLimits {
  running: number
  waiting: number
  waitMs: number
  runMs: number
}

/** Sent away: the caller answers 503 with Retry-After. */
export class Busy extends Error {
  override readonly name = 'Busy'
}

export interface Admission {
  run<T>(asker: AbortSignal, task: (signal: AbortSignal) => Promise<T>): Promise<T>
}

export function createAdmission(limits: AdmissionLimits): Admission {
  let running = 0
  const waiting = new Set<() => void>()

  function enter(asker: AbortSignal): Promise<void> | undefined {
    if (running < limits.running) {
      running += 1
      return undefined
    }
    if (waiting.size >= limits.waiting) throw new Busy(`${limits.waiting} queries are waiting already`)
    return new Promise((resolve, reject) => {
      const patience = AbortSignal.any([asker, AbortSignal.timeout(limits.waitMs)])
      const giveUp = () => {
        waiting.delete(admit)
        reject(
          asker.aborted ? new Busy('the asker has gone') : new Busy(`no turn within ${limits.waitMs} ms`),
        )
      }
      // The place of the one that leaves passes over, so `running` stays.
      const admit = () => {
        patience.removeEventListener('abort', giveUp)
        resolve()
      }
      patience.addEventListener('abort', giveUp, { once: true })
      waiting.add(admit)
    })
  }

  function leave(): void {
    const [next] = waiting
    if (next === undefined) {
      running -= 1
      return
    }
    waiting.delete(next)
    next()
  }

  return {
    async run(asker, task) {
      await enter(asker)
      const time = AbortSignal.timeout(limits.runMs)
      const signal = AbortSignal.any([asker, time])
      // A store that does not heed the signal keeps its place here until it ends, but the asker has its answer in time.
      const work = started(task, signal).finally(leave)
      const ended = new Promise<never>((_, reject) => {
        const tell = () =>
          reject(
            new Busy(
              asker.aborted ? 'the asker has gone' : `not done within ${limits.runMs} ms; ask for less`,
            ),
          )
        if (signal.aborted) tell()
        else signal.addEventListener('abort', tell, { once: true })
        work.catch(() => undefined).finally(() => signal.removeEventListener('abort', tell))
      })
      return Promise.race([work, ended])
    },
  }
}

async function started<T>(task: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  return task(signal)
}
