// How a source holds whoever sends to it to the quota of a local sender: the account that it is charged to, and how it
// waits. Where senders have no quotas, nothing here costs more than the question whether they have.
import type { Admission, Clock, Context, SenderQuota } from '../contract/define.ts'
import type { Records } from '../contract/batch.ts'
import { RetryableError } from '../contract/errors.ts'

/** As long as names of services are that a sender may choose. */
const longestName = 64

/**
 * The account of a sender, undefined where there are no quotas: under the service that it names where the configuration
 * counts by service and it names one, else under `peer`, its address or process.
 */
export function accountOf(
  admission: Admission,
  peer: string,
  serviceOf: () => string | undefined,
): SenderQuota | undefined {
  if (!admission.hasQuota()) return undefined
  const service = admission.senderBy() === 'service' ? serviceOf() : undefined
  return admission.sender(service === undefined || service === '' ? peer : service.slice(0, longestName))
}

/** Waits for as long as the sender is behind: it is read from later. A stop waits for nobody's quota. */
export async function holdBack(sender: SenderQuota, clock: Clock, signal: AbortSignal): Promise<void> {
  const ms = sender.owedMs
  if (ms <= 0 || signal.aborted) return
  sender.slowed(ms)
  await clock.delay(ms, signal).catch(() => undefined)
}

/** Of what cannot wait, the Records within the quota; the others are dropped, counted as `budget` in their class. */
export function withinQuota(
  records: readonly Records[],
  sender: SenderQuota,
  dropped: Context['dropped'],
): readonly Records[] {
  return records.filter(({ class: name, count, bytes }) => {
    const isWithin = sender.admits(name, count, bytes.length)
    if (!isWithin) dropped(name, 'budget', count)
    return isWithin
  })
}

/** Whether a tag names the service, where a protocol has tags and no other word for it. */
export const namesService = (key: string): boolean => key === 'service' || key === 'service.name'

/** How long a request waits; whoever is further behind is told to come back, so that what waits does not fill the memory. */
const longestHoldMs = 2000
/** Requests of one sender that wait at once: they take places and memory that all share. */
const mostHeld = 8

/** For protocols of requests that may be told to come again later. */
export class RequestQuota {
  readonly #context: Pick<Context, 'admission' | 'clock'>
  readonly #signal: AbortSignal
  readonly #held = new Map<SenderQuota, number>()

  constructor(context: Pick<Context, 'admission' | 'clock'>, signal: AbortSignal) {
    this.#context = context
    this.#signal = signal
  }

  /**
   * Before anything is done with a request: the account to charge it to, once that may be.
   * @throws RetryableError PEER_OVERLOADED with the time to wait.
   */
  async enter(peer: string, serviceOf: () => string | undefined): Promise<SenderQuota | undefined> {
    const sender = accountOf(this.#context.admission, peer, serviceOf)
    const ms = sender?.owedMs ?? 0
    if (sender === undefined || ms <= 0) return sender
    const held = this.#held.get(sender) ?? 0
    if (held >= mostHeld) throw beyond(ms)
    this.#held.set(sender, held + 1)
    try {
      const waitMs = Math.min(ms, longestHoldMs)
      sender.slowed(waitMs)
      await this.#context.clock.delay(waitMs, this.#signal).catch(() => undefined)
    } finally {
      const left = (this.#held.get(sender) ?? 1) - 1
      if (left > 0) this.#held.set(sender, left)
      else this.#held.delete(sender)
    }
    if (ms > longestHoldMs) throw beyond(ms - longestHoldMs)
    return sender
  }
}

const beyond = (ms: number): RetryableError =>
  new RetryableError('PEER_OVERLOADED', 'this sender is beyond its quota', { retryAfterMs: Math.ceil(ms) })
