// StatsD with the tags of DogStatsD and of Telegraf, from datagrams to Records.
export { readEvent } from './events.ts'
export type { StatsdEvent } from './events.ts'
export { StatsdLine, tagsOf } from './line.ts'
export { StatsdSeries } from './series.ts'
export { classOf, serviceOf } from './sender.ts'
export { StatsdStreams } from './streams.ts'
