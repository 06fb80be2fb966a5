// How a program and its parent (`dpulse up`) talk over the IPC channel that `fork` makes: the child tells what it
// started, the parent tells one child how the other is, and a child whose channel closes stops, whatever its parent died of.
import process from 'node:process'

/** Something that runs and can be reached: a listener, a source, a store. */
export interface Part {
  name: string
  /** As one would connect to it, for example `tcp://127.0.0.1:5514`. */
  address?: string
  note?: string
}

/** Something that this machine has nothing for, or no right to. */
export interface LeftOut {
  name: string
  reason: string
}

/** Child to parent, once all of its parts are ready; again when they change. */
export interface ReadyMessage {
  type: 'ready'
  parts: Part[]
  leftOut: LeftOut[]
  /** Whether each part has come up or said why it cannot; absent means so. */
  settled?: boolean
}

/** Parent to the aggregator: how the other child is, so that /api/health speaks for both. */
export interface PeerMessage {
  type: 'peer'
  program: string
  ready: boolean
  detail: string
}

export interface Parent {
  /** Whether a parent started this process. */
  readonly present: boolean
  /** Tells the parent what runs; without a parent it does nothing. */
  ready(parts: Part[], leftOut: LeftOut[], settled?: boolean): void
}

/** `onPeer` hears of the other child under the same parent. */
export function connectToParent(onPeer: (peer: PeerMessage) => void): Parent {
  const present = hasParent()
  if (present) {
    process.on('message', (message) => {
      if (isPeerMessage(message)) onPeer(message)
    })
    letGo()
  }
  return {
    present,
    ready(parts, leftOut, settled) {
      const message: ReadyMessage = {
        type: 'ready',
        parts,
        leftOut,
        ...(settled !== undefined && { settled }),
      }
      // A parent that has just gone is no error here: `stopSignal` hears of it.
      if (hasParent()) process.send?.(message, undefined, undefined, () => undefined)
    },
  }
}

/**
 * Aborts when this program is to stop: SIGTERM, SIGINT, or its parent has gone. A program that has not stopped
 * `deadlineMs` later is ended with exit code 1, and so is one that gets a second SIGINT later.
 */
export function stopSignal(deadlineMs: number): AbortSignal {
  const controller = new AbortController()
  const stop = (why: string) => {
    if (controller.signal.aborted) return
    setTimeout(() => process.exit(1), deadlineMs).unref()
    controller.abort(new Error(`stopped by ${why}`))
  }
  process.on('SIGTERM', () => stop('SIGTERM'))
  if (hasParent()) {
    // Ctrl-C reaches the whole process group; the parent decides and sends SIGTERM.
    process.on('SIGINT', () => undefined)
    process.once('disconnect', () => stop('the end of its parent'))
    letGo()
  } else {
    let firstMs = 0
    process.on('SIGINT', () => {
      // Ctrl-C may arrive twice, from the terminal and through npm; a second one a second later is impatience.
      if (firstMs > 0 && performance.now() - firstMs > 1000) process.exit(1)
      firstMs ||= performance.now()
      stop('SIGINT')
    })
  }
  return controller.signal
}

/** A message that is not one is ignored: a parent and a child of different versions must not kill each other. */
export function isReadyMessage(message: unknown): message is ReadyMessage {
  if (!isObject(message) || message.type !== 'ready') return false
  return Array.isArray(message.parts) && Array.isArray(message.leftOut)
}

// Without an IPC channel `connected` is not even there. The channel of bin.js, which only hands over to another
// runtime, is none of ours.
function hasParent(): boolean {
  return process.send !== undefined && process.connected && process.env.DPULSE_SHIM === undefined
}

// Who listens to the channel is kept alive by it, also when all else has stopped.
function letGo(): void {
  process.channel?.unref()
}

function isPeerMessage(message: unknown): message is PeerMessage {
  if (!isObject(message) || message.type !== 'peer') return false
  return typeof message.program === 'string' && typeof message.ready === 'boolean'
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
