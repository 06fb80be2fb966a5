// The live tail as server-sent events: `record` with a log record, `missed` with how many a slow reader lost,
// a comment every 15 s so that a dead connection is found. Each subscriber has a queue of its own with a limit.
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

function subscription(
  live: Live,
  filter: LogFilter,
  signal: AbortSignal,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  let queue: string[] = [': live\nretry: 2000\n\n']
  let bytes = 0
  let missed = 0
  let wake: (() => void) | undefined
  let unsubscribe = () => undefined as void

  const push = (text: string) => {
    queue.push(text)
    bytes += text.length
    wake?.()
  }
  const room = () => (bytes >= mostBytes ? 0 : Math.max(0, mostRecords - queue.length))
  const miss = (records: number) => {
    missed += records
    wake?.()
  }
  const heartbeat = setInterval(() => {
    if (queue.length === 0) push(': alive\n\n')
  }, heartbeatMs)
  let ended = false
  const idle = () => queue.length === 0 && missed === 0 && !ended
  const end = () => {
    if (ended) return
    ended = true
    clearInterval(heartbeat)
    signal.removeEventListener('abort', end)
    unsubscribe()
    queue = []
    onEnd()
    wake?.()
  }
  if (signal.aborted) end()
  else {
    signal.addEventListener('abort', end, { once: true })
    unsubscribe = live.subscribe(
      filter,
      (record) => {
        if (room() === 0) miss(1)
        else push(`event: record\ndata: ${JSON.stringify(record)}\n\n`)
      },
      { room, missed: miss },
    )
  }

  return new ReadableStream<Uint8Array>(
    {
      // Called only when the connection takes more, so that a slow reader fills its own queue and nobody's else.
      async pull(controller) {
        while (idle()) await new Promise<void>((resolve) => (wake = resolve))
        if (ended) return controller.close()
        let text = queue.join('')
        if (missed > 0) text += `event: missed\ndata: ${JSON.stringify({ missed })}\n\n`
        queue = []
        bytes = 0
        missed = 0
        return controller.enqueue(encoder.encode(text))
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  )
}
