// OTLP into the ingest, over gRPC and HTTP: the answer is the acknowledgement.
import type { Log } from '../plugins/contract/define.ts'
import { messageOf } from '../plugins/contract/errors.ts'
import { startOtlpServer } from '../plugins/protocols/otlp/server.ts'
import type { OtlpServer, OtlpServerOptions } from '../plugins/protocols/otlp/server.ts'
import type { Ingest } from './ingest.ts'

type Options = Omit<OtlpServerOptions, 'handle' | 'report'> & { log: Log }

/** Without a login, only who is on this machine is believed to be the collector that a header names. */
const isLocal = (peer: string): boolean => /^(127\.|::1$|::ffff:127\.|unix$)/.test(peer)

/** @throws PermanentError ADDRESS_IN_USE, CREDENTIAL_MISSING. */
export function startOtlpIngest(ingest: Ingest, { log, ...options }: Options): Promise<OtlpServer> {
  return startOtlpServer({
    ...options,
    handle: (request) => ingest.onRequest({ ...request, believed: () => isLocal(request.peer) }),
    report: (error) =>
      log.error('OTLP request failed', {
        error: messageOf(error),
        stack: error instanceof Error ? error.stack : undefined,
      }),
  })
}
