// The way of log lines through a pipeline while their source has a verbosity of its own: first a floor, the lowest severity
// that leaves the source, then the processors of the pipeline without what else drops by severity. All else they do to a
// line they go on doing, redaction first of all.
import type { Dropped, Log as Logger, Processor, RuleCount } from '../../plugins/contract/index.ts'
import type { SeverityName } from '../../plugins/protocols/change.ts'
import { severities } from '../../plugins/protocols/filter/index.ts'
import { Chain } from '../chain.ts'
import type { Stage } from '../chain.ts'
import type { ProcessorComponent } from '../config.ts'
import type { Meter } from '../measure.ts'

/** A pipeline as it is without floors. */
interface Way {
  id: string
  chain: Chain
  stages: readonly { component: ProcessorComponent; stage: Stage }[]
}

export interface FloorsParts {
  meter: () => Meter
  logger: (pipeline: string) => Logger
  /** Makes a processor of that component with another configuration. */
  make: (component: ProcessorComponent, config: unknown) => Stage
}

/** Chains with a floor, made once for each pipeline and source that has one. */
export class Floors {
  readonly #parts: FloorsParts
  readonly #chains = new Map<string, { chain: Chain; severity: SeverityName; of: Chain }>()
  severities: ReadonlyMap<string, SeverityName> = new Map()

  constructor(parts: FloorsParts) {
    this.#parts = parts
  }

  get stages(): Stage[] {
    return [...this.#chains.values()].flatMap(({ chain }) => chain.stages)
  }

  /** Undefined where the source has no floor. */
  chainFor({ id, chain: of, stages }: Way, source: string): Chain | undefined {
    const severity = this.severities.get(source)
    if (severity === undefined) return undefined
    const key = `${id}/${source}`
    const known = this.#chains.get(key)
    if (known?.of === of && known.severity === severity) return known.chain
    const { meter, logger, make } = this.#parts
    const chain = chainWithFloor({ source, severity, stages, meter: meter(), logger: logger(id), make })
    this.#chains.set(key, { chain, severity, of })
    return chain
  }

  keepOnly(inUse: ReadonlySet<Chain | undefined>): void {
    for (const [key, { chain }] of this.#chains) if (!inUse.has(chain)) this.#chains.delete(key)
  }
}

interface FloorParts {
  source: string
  severity: SeverityName
  stages: readonly { component: ProcessorComponent; stage: Stage }[]
  meter: Meter
  logger: Logger
  make: FloorsParts['make']
}

function chainWithFloor({ source, severity, stages, meter, logger, make }: FloorParts): Chain {
  const floor = { id: 'verbosity', processor: floorOf(source, severities[severity]), meter }
  const rest = stages.flatMap(({ component, stage }) => {
    const { definition, config } = component
    if (!definition.letThrough) return [stage]
    const through: unknown = definition.letThrough(config)
    if (through === undefined) return []
    return [through === config ? stage : make(component, through)]
  })
  return new Chain([floor, ...rest], logger)
}

/** Lines that name no severity pass: to drop them would be to guess. */
function floorOf(source: string, least: number): Processor {
  let matched = 0
  const dropped: Dropped = {}
  return {
    decide({ severityNumber }) {
      if (severityNumber === 0 || severityNumber >= least) return 'keep'
      matched++
      dropped.filter = (dropped.filter ?? 0) + 1
      return 'filter'
    },
    counts: (): RuleCount[] => [{ rule: source, matched, dropped }],
  }
}
