// Whose configuration a file is: a file is one program's (DESIGN §9), and it shows in what it speaks of.
import { isMap, isScalar, parseDocument } from 'yaml'

export type ConfiguredProgram = 'collector' | 'aggregator'

const onlyCollector = ['collector', 'sources', 'processors', 'exporters', 'pipelines', 'plugins']
const onlyAggregator = ['aggregator', 'mqtt', 'otlp', 'journal', 'store', 'metrics']

/**
 * The program that a configuration is for. What speaks of neither is the aggregator's, all of whose keys may be left
 * out; what is no YAML goes to the collector, which says where it is wrong.
 */
export function programOf(text: string): ConfiguredProgram {
  const { contents, errors } = parseDocument(text)
  if (errors.length > 0 || !isMap(contents)) return 'collector'
  const keys = contents.items.map(({ key }) => (isScalar(key) ? String(key.value) : ''))
  const hits = (known: readonly string[]): number => keys.filter((key) => known.includes(key)).length
  // `source:` for `sources:` must not make it the other's.
  const [collector, aggregator] = [hits(onlyCollector), hits(onlyAggregator)]
  return collector > 0 && collector >= aggregator ? 'collector' : 'aggregator'
}
