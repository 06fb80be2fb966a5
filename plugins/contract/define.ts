// What a plugin is: a value made by one of the four `define…` functions. Schemas are pure, `create` is inert,
// `run` and `export` own every resource. The runtime (collector/) supplies the Context.
import type * as z from 'zod'
import type { Batch, Records } from './batch.ts'
import type { MetricDeclarations } from './readings.ts'
import type { AttributeValue, Attributes } from './values.ts'
import type { Class, Dropped, DropReason, Signal } from './signal.ts'
import type { CollectorStatus } from './status.ts'

/**
 * Hands records over. Resolved means safe downstream: this IS the acknowledgement. It waits while buffers are full
 * and rejects only while the program stops (RetryableError STOPPING).
 */
export type Emit = (records: Records, options?: EmitOptions) => Promise<void>

export interface EmitOptions {
  /**
   * False where these records cannot wait, as those of one UDP listener among others: a full buffer then drops the
   * oldest of the least precious class, counted. The default is the definition's `canWait`.
   */
  readonly wait?: boolean
}

export interface Source {
  /** Until `signal` aborts; owns every socket, timer and file that it opens. */
  run(emit: Emit, signal: AbortSignal): Promise<void>
}

/** A record in place: attributes are looked up on demand, nothing is copied. */
export interface RecordView {
  readonly signal: Signal
  readonly class: Class
  readonly device: string
  /** Log records: 0–24. Others: 0. */
  readonly severityNumber: number
  /** Metric name, event name, or empty. */
  readonly name: string
  /** Text of the body; empty for data points. */
  body(): string
  /** Gauge and sum: the value. */
  value(): number | bigint | undefined
  attribute(key: string): AttributeValue | undefined
  resource(key: string): AttributeValue | undefined
}

/** `keep`, or a reason to drop; a rewrite replaces attributes of a log record or data point. */
export type Verdict = 'keep' | DropReason | { readonly set: Attributes }

/** What a processor did with Records: `kept`, `dropped` and `taken` add up to what it was given. */
export interface Passed {
  /** Several where their class was changed; what was kept as it was is the very object that was given. */
  readonly kept: readonly Records[]
  readonly dropped: Dropped
  /** Records taken into a window: they come out of `flush` later, or what was made of them. */
  readonly taken: number
}

/** What a processor made of records that it had taken in. */
export interface Made {
  readonly records: Records
  /** How many became these. */
  readonly taken: number
  /** Rows of its state that these records stand for: they are gone from it, and the runtime keeps the records instead. */
  readonly rows: readonly string[]
}

/** One thing that a processor keeps over the end of its process; no value removes it. */
export interface StateRow {
  readonly key: string
  readonly value: Uint8Array | undefined
}

/** What a processor that takes records in keeps: they are acknowledged once its rows are in the collector's log. */
export interface ProcessorState {
  /** Rows that changed since the last call. */
  changes(): StateRow[]
  /** Before the first record, with what an earlier run left behind. Rows that it cannot read it leaves out. */
  restore(rows: ReadonlyMap<string, Uint8Array>): void
}

/** How often a rule of a processor matched, and what it dropped. */
export interface RuleCount {
  readonly rule: string
  readonly matched: number
  readonly dropped: Dropped
}

interface Windows {
  /** What is ready of what was taken in, until there is nothing; all that there is when it is `last`. */
  flush?(nowUnixNano: bigint, last: boolean): Made | undefined
  readonly state?: ProcessorState
  /** Of each rule, where there are rules. */
  counts?(): readonly RuleCount[]
}

/** Decides record by record. */
export interface Decider extends Windows {
  /** No I/O, no waiting. `aggregated` by one that flushes says that the record is taken in. */
  decide(record: RecordView): Verdict
}

/** Works on the bytes of many records at once. */
export interface Passer extends Windows {
  /** No I/O, no waiting. @throws WireError where the bytes are malformed. */
  pass(records: Records): Passed
}

export type Processor = Decider | Passer

/** What a peer did with a batch: `rejected` records were refused for good and are counted as dropped. */
export interface Receipt {
  readonly rejected: number
  readonly reason?: string
  /** Bytes that went over the wire, where the exporter knows; the batch's own otherwise. */
  readonly wireBytes?: number
}

export interface Exporter {
  /**
   * One attempt; retry, back-off and order belong to the sender.
   * @throws RetryableError to keep the batch, PermanentError to count it as dropped.
   */
  export(batch: Batch, signal: AbortSignal): Promise<Receipt>
  /** Where there is a connection to hold: until `signal` aborts. The sender exports only after `ready`. */
  run?(signal: AbortSignal): Promise<void>
}

/** A change that a driver would make; plain, printable data. */
export interface Step {
  kind: string
  summary: string
  disruptive: boolean
}

export interface Driver<Desired, Observed, S extends Step> {
  observe(signal: AbortSignal): Promise<Observed>
  /** Pure; [] means converged. */
  plan(desired: Desired, observed: Observed): readonly S[]
  /** Starts the step; repeatable. */
  apply(step: S, signal: AbortSignal): Promise<void>
}

type Fields = Readonly<Record<string, unknown>>

/** Our own log. The message is constant, facts are fields; repeats are folded. */
export interface Log {
  error(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  debug(message: string, fields?: Fields): void
}

export interface Clock {
  nowUnixNano(): bigint
  /** Monotonic, for measuring. */
  elapsedMs(): number
  /** Runs `task` now and then at the interval until aborted; a late one is not made up for. Errors reach the caller. */
  every(intervalMs: number, signal: AbortSignal, task: () => Promise<void> | void): Promise<void>
  /** Resolves after the time; rejects when aborted. */
  delay(ms: number, signal: AbortSignal): Promise<void>
}

/**
 * For an exporter behind which somebody may change this collector: it hands over what is wished and sends back what is
 * reported, both as JSON whose shape is in protocols/change.ts.
 */
export interface Changes {
  /** The newest wish; the same may come again and again. */
  hear(desired: unknown): void
  /** The other end has heard the report of this trial. */
  confirm(trial: string): void
  /** What is to be reported now. */
  report(): unknown
  /** Hears of each report worth sending. Returns how to stop hearing. */
  onReport(listener: () => void): () => void
}

/** A source's durable cursor: plain JSON, kept with the buffer. */
export interface Checkpoint {
  load(): Promise<unknown>
  save(cursor: unknown): Promise<void>
}

/**
 * What the limits of the collector leave room for. Sources whose `emit` waits need not ask; those that cannot wait ask
 * before they do any work, and whoever knows senders apart holds each to its quota.
 */
export interface Admission {
  /** Of records of that class that cannot wait, the part (0 to 1) to drop now; count them as `budget`. */
  shed(name: Class): number
  /** Hears when `shed` answers otherwise. Returns how to stop hearing. */
  onShed(listener: () => void): () => void
  /** Of the bytes that a source would hold until they are acknowledged, how many the memory allows now. */
  queue(bytes: number): number
  /** The account of a local sender, to be kept for as long as it is connected. */
  sender(name: string): SenderQuota
  /** Whether senders have quotas now. */
  hasQuota(): boolean
  /** How to name a sender whose socket shows no process. */
  senderBy(): 'address' | 'service'
}

/** What one local sender has brought in, held against its rates. */
export interface SenderQuota {
  /** For what cannot wait: whether it is within the quota, and charged; else to be dropped, and counted as `budget`. */
  admits(name: Class, records: number, bytes: number): boolean
  /** For what can wait: charges it. */
  charge(records: number, bytes: number): void
  /** How many milliseconds to take nothing more from it. */
  readonly owedMs: number
  /** It was held back for so long. */
  slowed(ms: number): void
}

/** Where nothing is limited. */
export const unlimited: Admission = {
  shed: () => 0,
  onShed: () => () => undefined,
  queue: (bytes) => bytes,
  sender: () => ({ admits: () => true, charge: () => undefined, owedMs: 0, slowed: () => undefined }),
  hasQuota: () => false,
  senderBy: () => 'address',
}

export interface Context {
  /** The component's key in the configuration. */
  readonly id: string
  readonly log: Log
  readonly clock: Clock
  readonly checkpoint: Checkpoint
  /** The device that the collector runs on: what Records of this machine are about. */
  readonly device: string
  /** The id under which this collector speaks; often the same. */
  readonly collector: string
  /**
   * An encoded Resource of this device: host.*, service.instance.id, labels, and what is given (service.name). It may be
   * kept: an encoder that begins with it later takes the labels of then.
   */
  resource(attributes?: Attributes): Uint8Array
  readonly admission: Admission
  /** Added to every default port. */
  readonly portOffset: number
  /** Says that the component is up, with where it listens or connects. May be called again when it changes. */
  ready(address?: string): void
  /** Counts records that a source itself had to drop (it cannot wait, or they are invalid). They count as produced. */
  dropped(name: Class, reason: DropReason, count: number): void
  /** For exporters that announce the collector: how it stands now. Made anew for each call. */
  status(): CollectorStatus
  /** Hears of changes worth announcing: devices, and what is held of earlier sessions. Returns how to stop hearing. */
  onStatusChange(listener: () => void): () => void
  /** Absent where nobody may change this collector: outside a running one. */
  readonly changes?: Changes | undefined
}

/** What `dpulse up` finds on this machine for a source: a configuration to start it with, or why not. */
export type Detected<C> = { config: C } | { leftOut: string }

interface Base<C extends z.ZodType, Instance> {
  /** snake_case; the `type` in the configuration. */
  name: string
  /** One sentence; the documentation is generated from it. */
  summary: string
  /** A z.strictObject in which every key is described. */
  config: C
  create(config: z.output<C>, context: Context): Instance
}

export interface SourceDefinition<C extends z.ZodType = z.ZodType> extends Base<C, Source> {
  kind: 'source'
  /** The metrics that it may emit, by name; empty for sources of logs and of others' records. */
  emits: MetricDeclarations
  /** Signals that it may emit. */
  signals: readonly Signal[]
  /** False for UDP and kernel rings: when the buffer is full it must drop instead. */
  canWait: boolean
  /** For starting without a configuration. */
  detect?(): Promise<Detected<z.input<C>>>
}
/** What `dpulse check` says of a component beside its schema; `path` is within its configuration. */
export interface Finding {
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly severity: 'error' | 'warning'
}

export interface ProcessorDefinition<
  C extends z.ZodType = z.ZodType,
  P extends Processor = Processor,
> extends Base<C, P> {
  kind: 'processor'
  /**
   * For log lines of a source whose lowest severity somebody has set: the configuration without what drops by severity
   * alone or among other things. Undefined where nothing is left of it.
   */
  letThrough?(config: z.output<C>): z.output<C> | undefined
  /** For `dpulse check` only: examples that the configuration holds, and what it will cost. Nothing is opened. */
  check?(config: z.output<C>, context: Context): readonly Finding[]
}
export interface ExporterDefinition<C extends z.ZodType = z.ZodType> extends Base<C, Exporter> {
  kind: 'exporter'
}
export interface DriverDefinition<
  C extends z.ZodType = z.ZodType,
  D = unknown,
  O = unknown,
  S extends Step = Step,
> extends Base<C, Driver<D, O, S>> {
  kind: 'driver'
  desired: z.ZodType<D>
}
export type Definition = SourceDefinition | ProcessorDefinition | ExporterDefinition | DriverDefinition

type Given<T extends { kind: string }> = Omit<T, 'kind'>

/** A source; `signals` defaults to metrics where it declares some, else logs; `canWait` to true. */
export function defineSource<C extends z.ZodType>(
  source: Omit<Given<SourceDefinition<C>>, 'signals' | 'canWait' | 'emits'> &
    Partial<Pick<SourceDefinition<C>, 'signals' | 'canWait' | 'emits'>>,
): SourceDefinition<C> {
  const emits = source.emits ?? {}
  const signals: readonly Signal[] = Object.keys(emits).length > 0 ? ['metrics'] : ['logs']
  return { signals, canWait: true, ...source, emits, kind: 'source' }
}
export const defineProcessor = <C extends z.ZodType, P extends Processor>(
  processor: Given<ProcessorDefinition<C, P>>,
): ProcessorDefinition<C, P> => ({ ...processor, kind: 'processor' })
export const defineExporter = <C extends z.ZodType>(
  exporter: Given<ExporterDefinition<C>>,
): ExporterDefinition<C> => ({
  ...exporter,
  kind: 'exporter',
})
export const defineDriver = <C extends z.ZodType, D, O, S extends Step>(
  driver: Given<DriverDefinition<C, D, O, S>>,
): DriverDefinition<C, D, O, S> => ({ ...driver, kind: 'driver' })
