// What every plugin owes, as suites of tests: one line in a plugin's test file. For plugins outside the tree too:
// nothing here knows the collector or the aggregator, and vitest is that of whoever calls.
export { conformsToDriver } from './conformance-driver.ts'
export { conformsToExporter } from './conformance-exporter.ts'
export type { ExporterPeer } from './conformance-exporter.ts'
export { conformsToProcessor } from './conformance-processor.ts'
export { conformsToSource } from './conformance-source.ts'
export type { SourceOptions, SourceRun } from './conformance-source.ts'
