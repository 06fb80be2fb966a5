// Every component is measured alike, by the runtime: records in, out and dropped by reason, failures by code, time
// spent. The figures become a source (`dpulse`) and the Prometheus text of the local API.
import { Readings, defineSource, duration } from '../plugins/contract/index.ts'
import type {
  Dropped,
  DropReason,
  ErrorCode,
  MetricDeclarations,
  RuleCount,
} from '../plugins/contract/index.ts'
import * as z from 'zod'
import type { Budget } from './budget.ts'

export type ComponentKind = 'source' | 'processor' | 'exporter' | 'subscriber'

/** The counters of one component. Plain numbers, added to in place. */
export class Meter {
  readonly id: string
  readonly kind: ComponentKind
  readonly type: string;
  in = 0
  out = 0
  /** Of a local subscriber: what it was too slow for. In no account of records: they go their way without it. */
  missed = 0
  batches = 0
  bytes = 0
  readonly dropped: Dropped = {}
  readonly failures: Partial<Record<ErrorCode, number>> = {}
  durationMs = 0
  restarts = 0
  constructor(id: string, kind: ComponentKind, type: string) {
    this.id = id
    this.kind = kind
    this.type = type
  }
  drop(reason: DropReason, count: number): void {
    if (count > 0) this.dropped[reason] = (this.dropped[reason] ?? 0) + count
  }
  fail(code: ErrorCode): void {
    this.failures[code] = (this.failures[code] ?? 0) + 1
  }
}

/** What stands in front of an exporter now. */
export interface BufferGauges {
  id: string
  memoryBytes: number
  diskBytes: number
  diskBatches: number
  inFlight: number
  waiting: number
  /** What its streams lost, by reason; of this session. */
  lost: Dropped
}

export const collectorMetrics = {
  'dpulse.collector.records.in': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records that a component was given.',
  },
  'dpulse.collector.records.out': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records that a component handed on; for exporters, that the peer acknowledged.',
  },
  'dpulse.collector.records.dropped': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records dropped, by reason.',
  },
  'dpulse.collector.records.missed': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records that a local subscriber was too slow for.',
  },
  'dpulse.collector.rule.matched': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records that a rule of a processor matched.',
  },
  'dpulse.collector.rule.dropped': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records that a rule of a processor dropped, by reason.',
    class: 'resource',
  },
  'dpulse.collector.batches': {
    kind: 'counter',
    unit: '{batch}',
    description: 'Batches that the peer acknowledged.',
  },
  'dpulse.collector.bytes': {
    kind: 'counter',
    unit: 'By',
    description: 'Bytes of these batches, before compression.',
  },
  'dpulse.collector.failures': {
    kind: 'counter',
    unit: '{failure}',
    description: 'Failures of a component, by code.',
    class: 'resource',
  },
  'dpulse.collector.duration': { kind: 'counter', unit: 's', description: 'Time that exports took, summed.' },
  'dpulse.collector.restarts': {
    kind: 'counter',
    unit: '{restart}',
    description: 'Times a component was started again.',
  },
  'dpulse.collector.buffer.memory': {
    kind: 'gauge',
    unit: 'By',
    description: 'Bytes of the buffer in memory.',
  },
  'dpulse.collector.buffer.disk': { kind: 'gauge', unit: 'By', description: 'Bytes of the buffer on disk.' },
  'dpulse.collector.buffer.backlog': {
    kind: 'gauge',
    unit: '{batch}',
    description: 'Batches on disk that wait.',
  },
  'dpulse.collector.buffer.in_flight': { kind: 'gauge', unit: '{batch}', description: 'Batches under way.' },
  'dpulse.collector.buffer.waiting': {
    kind: 'gauge',
    unit: '{emit}',
    description: 'Emits that wait for room.',
  },
  'dpulse.collector.budget.used': {
    kind: 'gauge',
    unit: '1',
    description: 'Of a limit, what is used of it; 1 is all.',
  },
  'dpulse.collector.budget.slowed': {
    kind: 'counter',
    unit: 's',
    description: 'Time that emits waited for the budget, summed.',
  },
  'dpulse.collector.sender.records': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records that a sender brought in, where senders have quotas.',
  },
  'dpulse.collector.sender.dropped': {
    kind: 'counter',
    unit: '{record}',
    description: 'Records of a sender that were beyond its quota, and dropped.',
  },
  'dpulse.collector.sender.slowed': {
    kind: 'counter',
    unit: 's',
    description: 'For how long a sender was held back for being beyond its quota.',
  },
  'process.cpu.time': { kind: 'counter', unit: 's', description: 'CPU time of the collector.' },
  'process.memory.usage': { kind: 'gauge', unit: 'By', description: 'Resident memory of the collector.' },
} as const satisfies MetricDeclarations

type Name = keyof typeof collectorMetrics
type Add = (name: Name, value: number, attributes: Readonly<Record<string, string>>) => void

export class Measures {
  readonly #meters = new Map<string, Meter>()
  readonly startedUnixNano: bigint
  buffers: () => BufferGauges[] = () => []
  /** Of the processors that go by rules; one that several pipelines have is there several times. */
  budget: Budget | undefined
  rules: () => { id: string; counts: readonly RuleCount[] }[] = () => []

  constructor(startedUnixNano: bigint) {
    this.startedUnixNano = startedUnixNano
  }

  /** The same one after a reload, so that its counters go on. */
  meter(id: string, kind: ComponentKind, type: string): Meter {
    const key = `${kind}/${id}`
    const known = this.#meters.get(key)
    if (known?.type === type) return known
    const meter = new Meter(id, kind, type)
    this.#meters.set(key, meter)
    return meter
  }

  forget(id: string, kind: ComponentKind): void {
    this.#meters.delete(`${kind}/${id}`)
  }

  get meters(): Meter[] {
    return [...this.#meters.values()]
  }

  /** Calls `add` for each point; points of one metric follow each other. */
  each(add: Add): void {
    const meters = this.meters.map((meter) => ({
      meter,
      who: {
        'dpulse.component': meter.id,
        'dpulse.component.kind': meter.kind,
        'dpulse.component.type': meter.type,
      },
    }))
    for (const { meter, who } of meters) add('dpulse.collector.records.in', meter.in, who)
    for (const { meter, who } of meters) add('dpulse.collector.records.out', meter.out, who)
    const lost = new Map(this.buffers().map((gauges) => [gauges.id, gauges.lost]))
    for (const { meter, who } of meters) {
      const dropped = meter.kind === 'exporter' ? (lost.get(meter.id) ?? {}) : meter.dropped
      for (const [reason, count] of Object.entries(dropped)) {
        add('dpulse.collector.records.dropped', count, { ...who, 'dpulse.reason': reason })
      }
    }
    for (const { meter, who } of meters) {
      if (meter.kind === 'subscriber') add('dpulse.collector.records.missed', meter.missed, who)
    }
    this.#eachRule(add)
    for (const { meter, who } of meters) {
      for (const [code, count] of Object.entries(meter.failures)) {
        add('dpulse.collector.failures', count, { ...who, 'error.type': code })
      }
    }
    for (const { meter, who } of meters) add('dpulse.collector.restarts', meter.restarts, who)
    const exporters = meters.filter(({ meter }) => meter.kind === 'exporter')
    for (const { meter, who } of exporters) add('dpulse.collector.batches', meter.batches, who)
    for (const { meter, who } of exporters) add('dpulse.collector.bytes', meter.bytes, who)
    for (const { meter, who } of exporters) add('dpulse.collector.duration', meter.durationMs / 1000, who)
    this.#eachBuffer(add)
    this.#eachLimit(add)
    const { user, system } = process.cpuUsage()
    add('process.cpu.time', user / 1e6, { 'cpu.mode': 'user' })
    add('process.cpu.time', system / 1e6, { 'cpu.mode': 'system' })
    add('process.memory.usage', process.memoryUsage.rss(), {})
  }

  #eachBuffer(add: Add): void {
    const buffers = this.buffers().map((gauges) => ({ gauges, who: { 'dpulse.component': gauges.id } }))
    for (const { gauges, who } of buffers) add('dpulse.collector.buffer.memory', gauges.memoryBytes, who)
    for (const { gauges, who } of buffers) add('dpulse.collector.buffer.disk', gauges.diskBytes, who)
    for (const { gauges, who } of buffers) add('dpulse.collector.buffer.backlog', gauges.diskBatches, who)
    for (const { gauges, who } of buffers) add('dpulse.collector.buffer.in_flight', gauges.inFlight, who)
    for (const { gauges, who } of buffers) add('dpulse.collector.buffer.waiting', gauges.waiting, who)
  }

  #eachLimit(add: Add): void {
    const { budget } = this
    if (!budget) return
    for (const { name, share } of budget.used())
      add('dpulse.collector.budget.used', share, { 'dpulse.budget': name })
    if (budget.slowedSeconds > 0) add('dpulse.collector.budget.slowed', budget.slowedSeconds, {})
    const senders = budget.quotas
      .counts()
      .map((counts) => ({ counts, who: { 'dpulse.sender': counts.sender } }))
    for (const { counts, who } of senders) add('dpulse.collector.sender.records', counts.records, who)
    for (const { counts, who } of senders) add('dpulse.collector.sender.dropped', counts.dropped, who)
    for (const { counts, who } of senders) add('dpulse.collector.sender.slowed', counts.slowedSeconds, who)
  }

  #eachRule(add: Add): void {
    const rules = this.ruleCounts().map((count) => ({
      count,
      who: { 'dpulse.component': count.id, 'dpulse.rule': count.rule },
    }))
    for (const { count, who } of rules) add('dpulse.collector.rule.matched', count.matched, who)
    for (const { count, who } of rules) {
      for (const [reason, dropped] of Object.entries(count.dropped)) {
        add('dpulse.collector.rule.dropped', dropped, { ...who, 'dpulse.reason': reason })
      }
    }
  }

  /** Each rule once, whatever the number of pipelines that go by it. */
  ruleCounts(): (RuleCount & { id: string })[] {
    const sums = new Map<string, { id: string; rule: string; matched: number; dropped: Dropped }>()
    for (const { id, counts } of this.rules()) {
      for (const { rule, matched, dropped } of counts) {
        const key = `${id}/${rule}`
        const sum = sums.get(key) ?? { id, rule, matched: 0, dropped: {} }
        sum.matched += matched
        for (const [reason, count] of Object.entries(dropped) as [DropReason, number][]) {
          sum.dropped[reason] = (sum.dropped[reason] ?? 0) + count
        }
        sums.set(key, sum)
      }
    }
    return [...sums.values()]
  }

  /** Prometheus text format 0.0.4. */
  prometheus(): string {
    const lines: string[] = []
    let last = ''
    this.each((name, value, attributes) => {
      const { kind, unit, description } = collectorMetrics[name]
      const base = name.replaceAll('.', '_')
      const suffix = unit === 'By' ? '_bytes' : unit === 's' ? '_seconds' : ''
      const metric = `${base}${base.endsWith(suffix) ? '' : suffix}${kind === 'counter' ? '_total' : ''}`
      if (metric !== last) lines.push(`# HELP ${metric} ${description}`, `# TYPE ${metric} ${kind}`)
      last = metric
      const labels = Object.entries(attributes).map(
        ([key, text]) => `${key.replaceAll('.', '_')}=${quoted(text)}`,
      )
      lines.push(`${metric}${labels.length > 0 ? `{${labels.join(',')}}` : ''} ${value}`)
    })
    return `${lines.join('\n')}\n`
  }
}

const quoted = (text: string): string =>
  `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`

/** The source that emits them; a pipeline names it as any other. */
export const measureSource = (measures: Measures) =>
  defineSource({
    name: 'dpulse',
    summary: 'What the collector measures of itself: records, drops, failures and buffers of each component.',
    config: z.strictObject({ interval: duration.prefault('15s').describe('Time between readings.') }),
    emits: collectorMetrics,
    create: ({ interval }, context) => ({
      run: (emit, signal) =>
        context.clock.every(interval, signal, async () => {
          const readings = new Readings({
            scope: { name: 'dpulse.collector' },
            declared: collectorMetrics,
            device: context.device,
            resource: context.resource({ 'service.name': 'dpulse-collector' }),
            timeUnixNano: context.clock.nowUnixNano(),
            startUnixNano: measures.startedUnixNano,
          })
          measures.each((name, value, attributes) => readings.add(name, value, attributes))
          await Promise.all(readings.finish().map((records) => emit(records)))
        }),
    }),
  })
