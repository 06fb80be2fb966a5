// What travels over MQTT between collectors and aggregators besides telemetry: the names of the topics, and the
// shapes of acknowledgements and births. Both ends parse with these schemas.
import * as z from 'zod'
import { isDeviceId, totalLimit } from '../contract/batch.ts'
import { classes, isClass, isSignal } from '../contract/signal.ts'
import type { Class, Signal } from '../contract/signal.ts'

/** Topics under one root, `dpulse` unless configured; the collector that speaks or is spoken to comes first. */
export const topics = (root = 'dpulse') => ({
  telemetry: (collector: string, name: Class, signal: Signal) =>
    `${root}/${collector}/telemetry/${name}/${signal}`,
  ack: (collector: string) => `${root}/${collector}/ack`,
  status: (collector: string) => `${root}/${collector}/status`,
  allTelemetry: `${root}/+/telemetry/+/+`,
  allStatus: `${root}/+/status`,
  desired: (collector: string) => `${root}/${collector}/config/desired`,
  reported: (collector: string) => `${root}/${collector}/config/reported`,
  /** Desired and reported. */
  allConfig: `${root}/+/config/+`,
  allDesired: `${root}/+/config/desired`,
  allReported: `${root}/+/config/reported`,
})

/** The parts of a telemetry topic; undefined where it is none under this root. */
export function parseTelemetryTopic(
  root: string,
  topic: string,
): { collector: string; class: Class; signal: Signal } | undefined {
  if (!topic.startsWith(`${root}/`)) return undefined
  const [collector, kind, name, signal, more] = topic.slice(root.length + 1).split('/')
  if (kind !== 'telemetry' || more !== undefined || !collector || !name || !signal) return undefined
  return isClass(name) && isSignal(signal) ? { collector, class: name, signal } : undefined
}

/** MQTT 3.1.1 §4.7: `+` is one level, `#` the rest, its parent included; neither begins a match with `$`. */
export function topicFits(pattern: string, topic: string): boolean {
  if (topic.startsWith('$') && !pattern.startsWith('$')) return false
  const wanted = pattern.split('/')
  const given = topic.split('/')
  for (const [index, level] of wanted.entries()) {
    if (level === '#') return true
    if (index >= given.length) return false
    if (level !== '+' && level !== given[index]) return false
  }
  return wanted.length === given.length
}

const range = z.tuple([z.number().int().min(1), z.number().int().min(1)])

/**
 * `<root>/<collector>/ack`: batches that an aggregator's journal has on disk. All up to `through` (0: it cannot
 * tell), and those within the ranges of `beyond`, ends included. Only this lets a collector forget a batch. `trial` is that
 * of a report that was heard: only this lets a collector keep a configuration that it tries.
 */
export const ackSchema = z.object({
  streams: z.array(
    z.object({
      session: z.string(),
      device: z.string(),
      class: z.enum(classes),
      through: z.number().int().min(0),
      beyond: z.array(range),
    }),
  ),
  trial: z.string().max(64).optional(),
})
export type Ack = z.infer<typeof ackSchema>

const id = z.string().refine(isDeviceId, 'expected 1 to 64 of a-z, 0-9 and -')
const session = z.string().max(64)
/** What is only shown. */
const shown = z.string().max(256).default('')

const total = z.number().int().min(0).max(totalLimit)

const streamEnd = z.object({
  session,
  device: id,
  class: z.enum(classes),
  /** Number of the stream's last batch. */
  seq: total,
  produced: total,
  dropped: z.record(z.string(), total),
})
export type StreamEnd = z.infer<typeof streamEnd>

/**
 * `<root>/<collector>/status`, retained: the birth, again whenever `held` changes much, and as the will with state
 * `offline`. `instance` is one run of the collector, so that the will of an old run does not bury the birth of a new
 * one, and two live collectors under one id are seen.
 */
export const statusSchema = z.object({
  state: z.enum(['online', 'offline']),
  collector: id,
  instance: z.string().max(64),
  version: shown,
  /** RFC 3339. */
  since: shown,
  hostname: shown,
  arch: shown,
  labels: z.record(z.string(), z.string()).default({}),
  /** Where the collector's id comes from: `dmi product_serial`, `machine-id`, … */
  identity: shown,
  /** Devices about which it reports. */
  devices: z.array(id).default([]),
  /** The session in force of the exporter that speaks here. */
  session: session.default(''),
  /** Where each stream of earlier sessions ended, as far as the buffer kept it. */
  ended: z.array(streamEnd).default([]),
  /** Records of earlier sessions that the buffer still holds: they will come. What is in neither is unknown. */
  held: z.array(z.object({ session, device: id, class: z.enum(classes), count: total })).default([]),
})
export type Status = z.infer<typeof statusSchema>
