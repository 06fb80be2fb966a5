// Writes batches to standard output as OTLP/JSON, one request a line, for people and for programs behind a pipe.
import * as z from 'zod'
import { defineExporter } from '../contract/define.ts'
import type { Context, Exporter } from '../contract/define.ts'
import { RetryableError } from '../contract/errors.ts'
import { requestToJson } from '../protocols/otlp/json.ts'

export default defineExporter({
  name: 'stdout',
  summary: 'Prints batches as OTLP/JSON, one request a line.',
  config: z.strictObject({}),
  create: (_config, context) => create(process.stdout, context),
})

function create(stream: NodeJS.WritableStream, context: Context): Exporter {
  return {
    /** Delivered when the stream has taken the line: a pipe that nobody reads holds the batch. */
    async export({ signal, bytes, header }, abort) {
      abort.throwIfAborted()
      // A batch of totals only is for the ledger; there is nothing in it to print.
      if (header.count === 0) return { rejected: 0 }
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const giveUp = (): void => reject(abort.reason as Error)
      abort.addEventListener('abort', giveUp, { once: true })
      stream.write(`${requestToJson(signal, bytes)}\n`, (cause) => {
        if (cause) reject(new RetryableError('PEER_UNREACHABLE', 'standard output is closed', { cause }))
        else resolve()
      })
      await promise.finally(() => abort.removeEventListener('abort', giveUp))
      return { rejected: 0 }
    },
    async run(signal) {
      // A closed pipe is told by the callback above; unheard, the same error as an event would end the process.
      const hear = (): void => undefined
      stream.on('error', hear)
      context.ready('standard output')
      if (!signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>()
        signal.addEventListener('abort', () => resolve(), { once: true })
        await promise
      }
      stream.removeListener('error', hear)
    },
  }
}
