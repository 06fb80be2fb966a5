// The live tail as server-sent events: `record` with a log record, `missed` with how many a slow reader lost (or at least
// how many were left out where a fleet sends more than one aggregator can read), a comment every 15 s so that a dead connection is found. Each subscriber has a queue of its own with a limit.
import type { Live, LogFilter } from '../query.ts'

const mostRecords = 1000
const mostBytes = 4 * 1024 * 1024
const heartbeatMs = 15_000

export interface Subscribers {
  /** A stream for one more, or undefined when there are enough. It ends with `signal`. */
  open(filter: LogFilter, signal: AbortSignal): ReadableStream<Uint8Array> | undefined
}

export function createSubscribers(live: Live, most: number): Subscribers {
  let count = 0
  return {
    open(filter, signal) {
      if (count >= most) return undefined
      count += 1
      return subscription(live, filter, signal, () => {
        count -= 1
      })
    },
  }
}

// What waits for one reader: bounded in records and bytes, and what did not fit is counted.
function createQueue() {
  const encoder = new TextEncoder()
  let waiting: string[] = [': live\nretry: 2000\n\n']
  let bytes = 0
  let missed = 0
  let wake: (() => void) | undefined
  return {
    room: () => (bytes >= mostBytes ? 0 : Math.max(0, mostRecords - waiting.length)),
    isIdle: () => waiting.length === 0 && missed === 0,
    push(text: string) {
      waiting.push(text)
      bytes += text.length
      wake?.()
    },
    miss(records: number) {
      missed += records
      wake?.()
    },
    take(): Uint8Array {
      let text = waiting.join('')
      if (missed > 0) text += `event: missed\ndata: ${JSON.stringify({ missed })}\n\n`
      waiting = []
      bytes = 0
      missed = 0
      return encoder.encode(text)
    },
    wake: () => wake?.(),
    woken: () => new Promise<void>((resolve) => (wake = resolve)),
  }
}

function subscription(
  live: Live,
  filter: LogFilter,
  signal: AbortSignal,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  const queue = createQueue()
  let unsubscribe = () => undefined as void
  let ended = false
  const heartbeat = setInterval(() => {
    if (queue.isIdle()) queue.push(': alive\n\n')
  }, heartbeatMs)
  const end = () => {
    if (ended) return
    ended = true
    clearInterval(heartbeat)
    signal.removeEventListener('abort', end)
    unsubscribe()
    onEnd()
    queue.wake()
  }
  if (signal.aborted) end()
  else {
    signal.addEventListener('abort', end, { once: true })
    unsubscribe = live.subscribe(
      filter,
      (record) => {
        if (queue.room() === 0) queue.miss(1)
        else queue.push(`event: record\ndata: ${JSON.stringify(record)}\n\n`)
      },
      { room: queue.room, missed: (records) => queue.miss(records) },
    )
  }
  const isIdle = () => queue.isIdle() && !ended
  return new ReadableStream<Uint8Array>(
    {
      // Called only when the connection takes more, so that a slow reader fills its own queue and nobody's else.
      async pull(controller) {
        while (isIdle()) await queue.woken()
        return ended ? controller.close() : controller.enqueue(queue.take())
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  )
}
