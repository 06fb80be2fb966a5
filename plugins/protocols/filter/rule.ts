// One rule, made ready: what it asks of the body, what it changes, what becomes of the record then, and its counts.
import type { PointCursor } from '../../contract/cursor.ts'
import type { Class, Dropped, DropReason } from '../../contract/signal.ts'
import { bodyTest } from './conditions.ts'
import type { BodyTest } from './conditions.ts'
import { editOf } from './edit.ts'
import type { Edit } from './edit.ts'
import { changeGate, rateGate, sampleGate } from './limits.ts'
import type { Gate } from './limits.ts'
import type { Pattern } from './pattern.ts'
import type { RecordFacts } from './record.ts'
import type { RuleSettings } from './settings.ts'
import type { ReadingTaker, WindowSettings } from './windows.ts'

/** A pattern, and the numbers of its literals among those of all rules; undefined where it is asked of every record. */
export interface Sought {
  readonly pattern: Pattern
  readonly literals: readonly number[] | undefined
}

export type End =
  | { readonly kind: 'none' | 'keep' | 'drop' }
  | { readonly kind: 'gate'; readonly reason: DropReason; readonly passes: Gate }
  | {
      readonly kind: 'change'
      readonly passes: (series: number, point: PointCursor, nowMs: number) => boolean
    }
  | { readonly kind: 'window'; readonly window: ReadingTaker }

/** The window of a rule that aggregates, by the rule's name. */
export type OpenWindow = (name: string, settings: WindowSettings) => ReadingTaker

export class Rule {
  readonly name: string
  readonly settings: RuleSettings
  readonly edit: Edit | undefined
  readonly class: Class | undefined
  readonly end: End
  readonly any: readonly Sought[]
  readonly contains: readonly Sought[]
  readonly none: readonly Sought[]
  readonly asksBody: boolean
  /** Patterns that it replaces in the body, where it does nothing else: without a literal it does nothing. */
  readonly replaces: readonly Sought[] | undefined
  matched = 0
  readonly dropped: Dropped = {}

  constructor(
    settings: RuleSettings,
    index: number,
    seek: (pattern: Pattern) => Sought,
    windowOf: OpenWindow,
  ) {
    this.name = settings.name ?? `rule_${index + 1}`
    this.settings = settings
    this.edit = editOf(settings)
    this.class = settings.class
    this.end = endOf(settings, this.name, windowOf)
    const body: BodyTest = settings.match.body
      ? bodyTest(settings.match.body)
      : { any: [], contains: [], none: [] }
    this.any = body.any.map(seek)
    this.contains = body.contains.map(seek)
    this.none = body.none.map(seek)
    this.asksBody = this.any.length + this.contains.length + this.none.length > 0
    this.replaces = onlyReplaces(this) ? this.edit?.redact?.patterns?.map(seek) : undefined
  }

  /** Whether it does nothing to a log record whose body has none of the literals that are looked for. */
  get needsLiteral(): boolean {
    const needed = (list: readonly Sought[] | undefined) =>
      list !== undefined && list.length > 0 && list.every(({ literals }) => literals !== undefined)
    return needed(this.any) || needed(this.contains) || needed(this.replaces)
  }

  drop(reason: DropReason): void {
    this.dropped[reason] = (this.dropped[reason] ?? 0) + 1
  }

  /** `event` and `usage` are sampled and limited only by a rule that names them. */
  mayThin(record: RecordFacts): boolean {
    const { class: name } = record
    return (name !== 'event' && name !== 'usage') || this.settings.match.class?.includes(name) === true
  }
}

function onlyReplaces({ edit, class: name, end }: Rule): boolean {
  if (!edit?.redact?.body || edit.redact.attributes || !edit.redact.patterns) return false
  return (
    end.kind === 'none' &&
    name === undefined &&
    edit.set.size + edit.rename.size === 0 &&
    edit.severity === undefined &&
    edit.body === undefined &&
    edit.name === undefined
  )
}

function endOf(settings: RuleSettings, name: string, windowOf: OpenWindow): End {
  const { keep, drop, sample, rate, deadband, on_change: onChange, aggregate } = settings
  if (keep) return { kind: 'keep' }
  if (drop) return { kind: 'drop' }
  if (sample) return { kind: 'gate', reason: 'sample', passes: sampleGate(sample) }
  if (rate) return { kind: 'gate', reason: 'rate', passes: rateGate(rate) }
  const change = deadband ?? onChange
  if (change) return { kind: 'change', passes: changeGate(change) }
  if (aggregate) return { kind: 'window', window: windowOf(name, aggregate) }
  return { kind: 'none' }
}
