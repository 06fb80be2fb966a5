// Scrapes targets that expose their metrics as Prometheus reads them, in the classic text format or as OpenMetrics.
import { isUtf8 } from 'node:buffer'
import * as z from 'zod'
import type { Records } from '../contract/batch.ts'
import { defineSource } from '../contract/define.ts'
import type { Context, Emit } from '../contract/define.ts'
import { messageOf } from '../contract/errors.ts'
import { duration, secret, size, tls } from '../contract/settings.ts'
import { clientTls } from '../protocols/otlp/delivery.ts'
import { deviceFromHostId } from '../protocols/otlp/device.ts'
import { ExpositionRecords, Scraper } from '../protocols/prometheus/index.ts'

const form =
  'expected http://host:port/metrics or https://host:port/metrics; a login goes into username and password'
const target = z
  .string()
  .transform((value, context) => {
    const url = URL.parse(value)
    if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '') {
      if (url.pathname === '/' && !value.endsWith('/')) url.pathname = '/metrics'
      return url
    }
    context.issues.push({ code: 'custom', input: value, message: form })
    return z.NEVER
  })
  .meta({ title: 'URL' })

const config = z
  .strictObject({
    targets: z.array(target).min(1).max(500).describe('What to scrape; without a path it is /metrics.'),
    job: z.string().min(1).max(200).default('prometheus').describe('The service.name of what is scraped.'),
    device: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('Whom the metrics are about, where it is not the device of the collector.'),
    interval: duration
      .refine((ms) => ms >= 100, 'expected 100ms or more')
      .prefault('15s')
      .describe('Time between scrapes.'),
    timeout: duration
      .refine((ms) => ms >= 10, 'expected 10ms or more')
      .prefault('10s')
      .describe('For one scrape; at most the interval.'),
    username: z.string().optional().describe('Name to log in with.'),
    password: secret.optional().describe('Password to log in with.'),
    token: secret.optional().describe('Bearer token to log in with.'),
    tls: tls.prefault({}).describe('For https targets.'),
    max_size: size
      .prefault('16MiB')
      .refine((bytes) => bytes <= 128 * 1024 ** 2, 'expected at most 128MiB')
      .describe('Largest exposition, also decompressed.'),
    max_samples: z.int().min(1).max(5_000_000).default(100_000).describe('Most samples of one scrape.'),
  })
  .refine(({ token, username }) => token === undefined || username === undefined, {
    path: ['token'],
    message: 'either a token or a user name',
  })
type Config = z.output<typeof config>

/** Scrapes under way at once. */
const mostAtOnce = 4

export default defineSource({
  name: 'prometheus',
  summary: 'Metrics of programs that expose them to Prometheus, in its text format or as OpenMetrics.',
  config,
  signals: ['metrics'],
  create: (config, context) => ({ run: (emit, signal) => run(config, context, emit, signal) }),
  detect: async () => ({ leftOut: 'only a configuration says which programs to scrape' }),
})

async function run(config: Config, context: Context, emit: Emit, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const scraper = new Scraper({
    timeoutMs: Math.min(config.timeout, config.interval),
    maxBytes: config.max_size,
    tls: clientTls(config.tls),
    headers: () => loginOf(config),
  })
  const targets = config.targets.map((url) => new Target(url, config, context, scraper))
  try {
    context.ready(config.targets.map(({ href }) => href).join(', '))
    await context.clock.every(config.interval, signal, async () => {
      const waiting = [...targets]
      const worker = async (): Promise<void> => {
        for (let next = waiting.shift(); next && !signal.aborted; next = waiting.shift()) {
          const records = await next.scrape(signal)
          if (!signal.aborted) await Promise.all(records.map((one) => emit(one)))
        }
      }
      await Promise.all(Array.from({ length: mostAtOnce }, worker))
    })
  } finally {
    scraper.close()
  }
}

function loginOf({ username, password, token }: Config): Record<string, string> {
  if (token) return { authorization: `Bearer ${token.reveal()}` }
  if (username === undefined) return {}
  const login = Buffer.from(`${username}:${password?.reveal() ?? ''}`).toString('base64')
  return { authorization: `Basic ${login}` }
}

class Target {
  readonly #url: URL
  readonly #config: Config
  readonly #context: Context
  readonly #scraper: Scraper
  readonly #exposition: ExpositionRecords

  constructor(url: URL, config: Config, context: Context, scraper: Scraper) {
    this.#url = url
    this.#config = config
    this.#context = context
    this.#scraper = scraper
    const device = config.device === undefined ? context.device : deviceFromHostId(config.device)
    const isSecure = url.protocol === 'https:'
    const port = Number(url.port || (isSecure ? 443 : 80))
    this.#exposition = new ExpositionRecords({
      scope: { name: 'prometheus' },
      device,
      // As OpenTelemetry's compatibility specification names job, instance and the rest.
      resource: context.resource({
        'service.name': config.job,
        'service.instance.id': `${url.hostname}:${port}`,
        'server.address': url.hostname,
        'server.port': port,
        'url.scheme': url.protocol.slice(0, -1),
        ...(device === context.device ? {} : { 'host.id': device, 'host.name': device }),
      }),
    })
  }

  /** What was scraped, and how it went: a target that does not answer is down, not absent. */
  async scrape(signal: AbortSignal): Promise<Records[]> {
    const { clock, log } = this.#context
    const began = clock.elapsedMs()
    const now = clock.nowUnixNano()
    const exposition = this.#exposition
    let up = 0
    let samples = 0
    try {
      const { body, openMetrics } = await this.#scraper.scrape(this.#url, signal)
      // What is no UTF-8 is replaced once, for the whole body.
      const text = isUtf8(body) ? body : Buffer.from(body.toString('utf8'))
      const taken = exposition.take(text, openMetrics, now, this.#config.max_samples)
      samples = taken.samples
      up = 1
      if (taken.refused > 0) {
        this.#context.dropped('resource', 'invalid', taken.refused)
        log.warn('samples were refused', { target: this.#url.href, count: taken.refused, ...taken.first })
      }
    } catch (error) {
      if (signal.aborted) return []
      exposition.at(now)
      log.warn('target was not scraped', { target: this.#url.href, error: messageOf(error) })
    }
    exposition.addGauge('up', up)
    exposition.addGauge('scrape_duration_seconds', (clock.elapsedMs() - began) / 1000)
    exposition.addGauge('scrape_samples_scraped', samples)
    return exposition.flush()
  }
}
