// Where a virtual device sends: an ordinary exporter, chosen by the scheme of `--to`, behind a cable that can be pulled.
import * as z from 'zod'
import { PermanentError, RetryableError } from '../plugins/contract/index.ts'
import type { Context, Definition, Exporter, ExporterDefinition } from '../plugins/contract/index.ts'
import { ports } from '../plugins/contract/options.ts'

export interface Destination {
  readonly definition: ExporterDefinition
  readonly config: unknown
  /** As a person reads it. */
  readonly address: string
}

/** How long a peer may take, in seconds of the machine, whatever the speed of the simulation. */
const answerSeconds = 30

/** @throws PermanentError CONFIG_INVALID where the address means nothing. */
export function destinationOf(
  to: string | undefined,
  plugins: readonly Definition[],
  portOffset: number,
  speed: number,
): Destination {
  const address = to ?? `mqtt://127.0.0.1:${ports.mqtt + portOffset}`
  const [, scheme = '', rest = ''] = /^([a-z]+):(.*)$/.exec(address) ?? []
  const bare = rest.replace(/^\/\//, '')
  const patience = `${answerSeconds * speed}s`
  const choices: Readonly<Record<string, readonly [plugin: string, config: object]>> = {
    mqtt: ['mqtt', { urls: [address], ack_timeout: patience }],
    mqtts: ['mqtt', { urls: [address], ack_timeout: patience }],
    http: ['otlp', { endpoint: address }],
    https: ['otlp', { endpoint: address }],
    otlp: ['otlp', { endpoint: `http://${bare}` }],
    grpc: ['otlp', { endpoint: `http://${bare}`, protocol: 'grpc' }],
    kafka: ['kafka', { brokers: bare.split(',') }],
    // One file, however long: a run is read as a whole.
    file: ['file', { path: bare, max_size: '1024TiB' }],
  }
  const [name, settings] = choices[scheme] ?? []
  const definition = plugins.find((one) => one.kind === 'exporter' && one.name === name)
  if (definition?.kind !== 'exporter' || bare === '') {
    const known = Object.keys(choices).join(', ')
    throw new PermanentError(
      'CONFIG_INVALID',
      `--to ${address}: expected an address that begins with ${known}`,
    )
  }
  const config = definition.config.safeParse(settings)
  if (!config.success)
    throw new PermanentError('CONFIG_INVALID', `--to ${address}: ${z.prettifyError(config.error)}`)
  return { definition, config: config.data, address }
}

/** Between a device and the rest of the world. */
export class Cable {
  #isCut = false
  #changed = Promise.withResolvers<void>()

  get isCut(): boolean {
    return this.#isCut
  }

  set isCut(isCut: boolean) {
    if (isCut === this.#isCut) return
    this.#isCut = isCut
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** When it is cut, or joined again. */
  get changed(): Promise<void> {
    return this.#changed.promise
  }
}

/** The exporter of a device whose connection ends while its cable is cut, and is made anew behind that. */
export function behindCable(
  definition: ExporterDefinition,
  cableOf: (device: string) => Cable,
): ExporterDefinition {
  return {
    ...definition,
    create(config, context) {
      const cable = cableOf(context.device)
      return new Cut(definition.create(config, context), cable, context)
    },
  }
}

class Cut implements Exporter {
  readonly #exporter: Exporter
  readonly #cable: Cable
  readonly #context: Context

  constructor(exporter: Exporter, cable: Cable, context: Context) {
    this.#exporter = exporter
    this.#cable = cable
    this.#context = context
  }

  export: Exporter['export'] = (batch, signal) => {
    if (!this.#cable.isCut) return this.#exporter.export(batch, signal)
    return Promise.reject(new RetryableError('PEER_UNREACHABLE', 'the network is unreachable'))
  }

  async run(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    while (!signal.aborted) {
      const { changed } = this.#cable
      if (!this.#cable.isCut) await this.#connected(signal, changed)
      if (!signal.aborted && this.#cable.changed === changed) await Promise.race([changed, stopped])
    }
  }

  /** Until the cable is cut. */
  async #connected(signal: AbortSignal, changed: Promise<void>): Promise<void> {
    if (!this.#exporter.run) return this.#context.ready()
    const cut = new AbortController()
    const pull = () => cut.abort(new RetryableError('PEER_UNREACHABLE', 'the network is unreachable'))
    void changed.then(pull)
    signal.addEventListener('abort', pull, { once: true })
    try {
      await this.#exporter.run(cut.signal)
    } finally {
      signal.removeEventListener('abort', pull)
    }
  }
}
