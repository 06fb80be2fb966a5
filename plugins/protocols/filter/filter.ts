// The filter itself: goes over Records once, asks the rules of each record in their order, and writes what is left.
// Records that stay as they are are copied in runs; where all of them do, nothing is written.
import { SpanCursor, PointCursor } from '../../contract/cursor.ts'
import type { Records } from '../../contract/batch.ts'
import type { Made, Passed, RuleCount } from '../../contract/define.ts'
import { Rewriter, replaced } from '../../contract/rewrite.ts'
import type { Class, Dropped, DropReason } from '../../contract/signal.ts'
import { Bank, bankSize } from './bank.ts'
import { Editor } from './edit.ts'
import { SeriesKey } from './keys.ts'
import { LiteralSearch } from './literals.ts'
import type { Pattern } from './pattern.ts'
import { RecordFacts, logLayout, pointLayouts, spanLayout, textStart } from './record.ts'
import { Rule } from './rule.ts'
import type { OpenWindow, Sought } from './rule.ts'
import type { FilterSettings } from './settings.ts'
import { Window, Windows } from './windows.ts'

/** What becomes of a record: kept, taken into a window, or the reason for which it is dropped. */
type Fate = 'keep' | 'taken' | DropReason

interface RuleBank {
  readonly bank: Bank
  readonly rules: readonly Rule[]
  /** Rules that do nothing to a log record without any of the literals. */
  readonly needLiteral: number
  /** Rules that only set attributes of which none of the bank asks: what matched goes on to match. */
  readonly inert: number
}

export class Filter {
  readonly rules: readonly Rule[]
  readonly #banks: RuleBank[] = []
  readonly #search: LiteralSearch
  readonly windows: Windows | undefined
  readonly #nowMs: () => number
  readonly #record = new RecordFacts()
  readonly #editor = new Editor()
  readonly #series = new SeriesKey()
  readonly #spans = new SpanCursor()
  readonly #points = new PointCursor()
  readonly #out = new Rewriter()
  readonly #others = new Map<Class, Rewriter>()
  // The run of records that stay as they are, not yet copied.
  #runFrom = 0
  #runTo = 0
  #runCount = 0
  #atMs = 0
  /** The container whose Resource the rules have been told of. */
  #container = -1
  #metric = -1
  #metricName = ''
  #scope = -1
  /** The body at hand is no text. */
  #isOther = false
  /** For those who watch one record: called with each rule that matches. */
  onMatch: ((rule: Rule) => void) | undefined

  /** `windowOf` makes the windows of those who keep them themselves; without it they are the filter's own. */
  constructor({ rules }: Pick<FilterSettings, 'rules'>, nowMs: () => number, windowOf?: OpenWindow) {
    this.#nowMs = nowMs
    const literals: string[] = []
    const seek = (pattern: Pattern): Sought => {
      const numbers = pattern.literals?.map((text) => literals.push(text) - 1)
      return { pattern, literals: numbers }
    }
    const windows: Window[] = []
    const ownWindow: OpenWindow = (name, aggregate) => {
      const window = new Window(name, aggregate)
      windows.push(window)
      return window
    }
    this.rules = rules.map((rule, index) => new Rule(rule, index, seek, windowOf ?? ownWindow))
    this.#search = new LiteralSearch(literals)
    for (let at = 0; at < rules.length; at += bankSize) {
      const own = this.rules.slice(at, at + bankSize)
      const bank = new Bank(own.map(({ settings }) => settings.match))
      const needLiteral = own.reduce((bits, rule, bit) => (rule.needsLiteral ? bits | (1 << bit) : bits), 0)
      const inert = own.reduce((bits, rule, bit) => (isInert(rule, own) ? bits | (1 << bit) : bits), 0)
      this.#banks.push({ bank, rules: own, needLiteral, inert })
    }
    this.windows = windows.length > 0 ? new Windows(windows, nowMs) : undefined
  }

  counts(): RuleCount[] {
    return this.rules.map(({ name, matched, dropped }) => ({ rule: name, matched, dropped: { ...dropped } }))
  }

  flush(last: boolean): Made | undefined {
    return this.windows?.flush(last)
  }

  /** @throws WireError where the bytes are malformed. */
  pass(records: Records): Passed {
    this.#atMs = this.#nowMs()
    this.#container = -1
    this.#runCount = 0
    this.#runFrom = this.#runTo = -1
    this.#others.clear()
    this.#out.begin(records.bytes)
    const record = this.#record
    record.signal = records.signal
    record.device = records.device
    const dropped: Dropped = {}
    let [seen, taken] = [0, 0]
    let isChanged = false
    const cursor = (records.signal === 'metrics' ? this.#points : this.#spans).reset(records.bytes)
    for (; cursor.next(); seen++) {
      this.#enter(records, cursor)
      const fate = this.#judge(cursor)
      if (fate === 'keep') {
        if (record.isEdited || record.isRenamed || record.class !== records.class) {
          isChanged = true
          this.#write(records, cursor)
        } else this.#extend(cursor)
        continue
      }
      isChanged = true
      if (fate === 'taken') taken++
      else dropped[fate] = (dropped[fate] ?? 0) + 1
    }
    // What the source counted and what there is must agree, or the account would not.
    const missing = records.count - seen
    if (missing > 0) dropped.invalid = (dropped.invalid ?? 0) + missing
    if (!isChanged && missing === 0) return { kept: [records], dropped, taken }
    return { kept: this.#finish(records), dropped, taken }
  }

  /** The record at which the cursor stands. */
  #enter(records: Records, cursor: SpanCursor | PointCursor): void {
    const record = this.#record
    record.class = records.class
    record.isEdited = record.isRenamed = false
    if (cursor.container.start !== this.#container) this.#resource(cursor)
    if (cursor instanceof SpanCursor) {
      record.layout = records.signal === 'logs' ? logLayout : spanLayout
      return record.read(cursor.bytes, cursor.record.start, cursor.record.end)
    }
    if (this.#metric !== cursor.metric.start) {
      this.#metric = cursor.metric.start
      this.#metricName = cursor.text(cursor.name)
    }
    record.metricName = this.#metricName
    record.layout = pointLayouts[cursor.type]
    record.read(cursor.bytes, cursor.point.start, cursor.point.end)
  }

  #resource(cursor: SpanCursor | PointCursor): void {
    this.#container = cursor.container.start
    this.#metric = this.#scope = -1
    if (this.#banks.every(({ bank }) => !bank.asksResource)) return
    const attributes = cursor.resourceAttributes()
    for (const { bank } of this.#banks) bank.resource(attributes)
  }

  #judge(cursor: SpanCursor | PointCursor): Fate {
    const record = this.#record
    for (const { bank, rules, needLiteral, inert } of this.#banks) {
      let alive = this.#withLiterals(bank.match(record), needLiteral)
      while (alive !== 0) {
        const index = 31 - Math.clz32(alive & -alive)
        alive &= alive - 1
        const rule = rules[index] as Rule // a bit for each
        if (rule.asksBody && !this.#bodyFits(rule)) continue
        if (rule.edit ?? rule.class) {
          const isChanged = this.#change(rule)
          if (isChanged && (inert & (1 << index)) === 0) {
            alive = this.#withLiterals(bank.match(record), needLiteral) & (-2 << index)
          } else if (!isChanged && rule.replaces) continue
        }
        rule.matched++
        this.onMatch?.(rule)
        const fate = this.#end(rule, cursor)
        if (fate !== undefined) return fate
      }
    }
    return 'keep'
  }

  /** Of those rules, the ones that may do something: most bodies have no literal, and then no pattern is tried. */
  #withLiterals(alive: number, needLiteral: number): number {
    if ((alive & needLiteral) === 0 || this.#record.signal !== 'logs') return alive
    return this.#hasLiteral() ? alive : alive & ~needLiteral
  }

  #hasLiteral(): boolean {
    const record = this.#record
    if (record.literals === 'unknown') {
      const { bytes, bodyStart, bodyEnd } = record
      const text = bodyEnd > bodyStart ? textStart(bytes, bodyStart, bodyEnd) : bodyEnd
      // A body of another kind is asked as JSON, in which the bytes may look otherwise.
      record.literals = text < 0 || this.#search.run(bytes, text, bodyEnd) ? 'some' : 'none'
      this.#isOther = text < 0
    }
    return record.literals === 'some'
  }

  #mayHold({ literals }: Sought): boolean {
    if (literals === undefined) return true
    return this.#hasLiteral() && (this.#isOther || literals.some((literal) => this.#search.has(literal)))
  }

  #bodyFits({ any, contains, none }: Rule): boolean {
    const record = this.#record
    let body: string | undefined
    const holds = (sought: Sought): boolean =>
      this.#mayHold(sought) && sought.pattern.test((body ??= record.body))
    if (any.length > 0 && !any.some(holds)) return false
    if (contains.length > 0 && !contains.some(holds)) return false
    return !none.some(holds)
  }

  #change(rule: Rule): boolean {
    const record = this.#record
    let isChanged = false
    if (rule.class !== undefined && rule.class !== record.class) {
      record.class = rule.class
      isChanged = true
    }
    if (!rule.edit) return isChanged
    if (rule.replaces && !rule.replaces.some((sought) => this.#mayHold(sought))) return isChanged
    return this.#editor.apply(rule.edit, record) || isChanged
  }

  #end(rule: Rule, cursor: SpanCursor | PointCursor): Fate | undefined {
    const { end } = rule
    const record = this.#record
    switch (end.kind) {
      case 'none':
        return undefined
      case 'keep':
        return 'keep'
      case 'drop':
        rule.drop('filter')
        return 'filter'
      case 'gate':
        if (!rule.mayThin(record) || end.passes(record, cursor, this.#atMs)) return undefined
        rule.drop(end.reason)
        return end.reason
      case 'change': {
        if (!(cursor instanceof PointCursor) || cursor.type !== 'gauge' || cursor.valueKind === 'none')
          return undefined
        if (end.passes(this.#seriesOf(cursor), cursor, this.#atMs)) return undefined
        rule.drop('unchanged')
        return 'unchanged'
      }
      case 'window': {
        if (!(cursor instanceof PointCursor) || cursor.valueKind === 'none') return undefined
        const series = this.#seriesOf(cursor).toString(36)
        return end.window.take(series, record, cursor, this.#atMs) ? 'taken' : undefined
      }
      default:
        return end satisfies never
    }
  }

  #seriesOf(cursor: PointCursor): number {
    if (cursor.scopeContainer.start !== this.#scope) {
      this.#scope = cursor.scopeContainer.start
      this.#series.resource(this.#record.device, cursor)
    }
    return this.#series.of(this.#record)
  }

  /** One more that stays as it is. */
  #extend(cursor: SpanCursor | PointCursor): void {
    const { start, end } = cursor instanceof SpanCursor ? cursor.record : cursor.point
    // The length before the record ends with the only byte below 0x80, and the tag before it is below too.
    const { bytes } = cursor
    let from = start - 1
    while ((bytes[from - 1] ?? 0) >= 0x80) from--
    from--
    if (from !== this.#runTo) {
      this.#flushRun()
      this.#out.at(cursor)
      this.#runFrom = from
    }
    this.#runTo = end
    this.#runCount++
  }

  #flushRun(): void {
    if (this.#runCount > 0) this.#out.copy(this.#runFrom, this.#runTo, this.#runCount)
    this.#runCount = 0
    this.#runFrom = this.#runTo = -1
  }

  #write(records: Records, cursor: SpanCursor | PointCursor): void {
    const record = this.#record
    const name = record.isRenamed ? record.metricName : undefined
    let out = this.#out
    if (record.class === records.class) this.#flushRun()
    else {
      const known = this.#others.get(record.class)
      out = known ?? new Rewriter()
      if (!known) {
        out.begin(records.bytes)
        this.#others.set(record.class, out)
      }
    }
    out.item(cursor, record.bytes, record.start, record.end, name)
  }

  #finish(records: Records): Records[] {
    this.#flushRun()
    const kept: Records[] = []
    if (this.#out.count > 0) kept.push(replaced(records, this.#out.finish(), this.#out.count))
    for (const [name, out] of this.#others) kept.push(replaced(records, out.finish(), out.count, name))
    return kept
  }
}

function isInert({ edit, class: name }: Rule, among: readonly Rule[]): boolean {
  if (!edit?.appended || name !== undefined) return false
  return among.every(({ settings }) =>
    Object.keys(settings.match.attributes ?? {}).every((key) => !edit.set.has(key)),
  )
}
