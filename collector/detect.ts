// Starting without a file: what this machine has something for becomes one pipeline to the MQTT port of this machine.
import { PermanentError, messageOf } from '../plugins/contract/index.ts'
import type { Definition, ExporterDefinition, SourceDefinition } from '../plugins/contract/index.ts'
import type { LeftOut } from '../plugins/contract/parent.ts'
import type { CollectorConfig, SourceComponent } from './config.ts'
import { bufferSettings, outline } from './settings.ts'

export interface DetectOptions {
  /** `embedded`, or the URL of a broker. */
  broker: string
  /** To look at one source at most. */
  timeoutMs?: number
}

export async function detectConfig(
  definitions: readonly Definition[],
  options: DetectOptions,
): Promise<{ config: CollectorConfig; leftOut: LeftOut[] }> {
  const leftOut: LeftOut[] = []
  const found = await Promise.all(
    definitions
      .filter((one) => one.kind === 'source')
      .map((definition) => detectSource(definition, options.timeoutMs ?? 5000)),
  )
  const sources: SourceComponent[] = []
  for (const one of found) {
    if (one && 'reason' in one) leftOut.push(one)
    else if (one) sources.push(one)
  }
  const mqtt = definitions.find(
    (one): one is ExporterDefinition => one.kind === 'exporter' && one.name === 'mqtt',
  )
  if (!mqtt)
    throw new PermanentError('CONFIG_INVALID', 'this build has no mqtt exporter: name another in --config')
  const settings = options.broker === 'embedded' ? {} : { urls: [options.broker] }
  const parsed = mqtt.config.safeParse(settings)
  if (!parsed.success) {
    throw new PermanentError(
      'CONFIG_INVALID',
      `--broker ${options.broker}: expected embedded or mqtt://host:port`,
    )
  }
  const written = JSON.stringify(settings)
  const { collector, api } = outline.parse({})
  const exporter = {
    id: 'aggregator',
    definition: mqtt,
    config: parsed.data,
    written,
    buffer: bufferSettings.parse({}),
  }
  const ids = [...sources.map(({ id }) => id), 'dpulse']
  const pipeline = { id: 'default', sources: ids, processors: [], exporters: ['aggregator'] }
  const rest = { collector, api, limits: {}, modules: [], subscribers: [] }
  const config = { ...rest, sources, processors: [], exporters: [exporter] }
  return { config: { ...config, pipelines: [pipeline] }, leftOut }
}

/** Undefined for a source that only a configuration can start. */
async function detectSource(
  definition: SourceDefinition,
  timeoutMs: number,
): Promise<SourceComponent | LeftOut | undefined> {
  const { name } = definition
  if (!definition.detect) return undefined
  const timer = Promise.withResolvers<never>()
  const timeout = setTimeout(() => timer.reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
  try {
    const detected = await Promise.race([definition.detect(), timer.promise])
    if ('leftOut' in detected) return { name, reason: detected.leftOut }
    const written = JSON.stringify(detected.config)
    return { id: name, definition, config: definition.config.parse(detected.config), written }
  } catch (error) {
    return { name, reason: messageOf(error) }
  } finally {
    clearTimeout(timeout)
  }
}
