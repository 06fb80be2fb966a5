// What a line tells of its sender and its worth, before it is taken in: for sources that hold senders to quotas.
import { classOfLog, classOfMetric } from '../../contract/signal.ts'
import type { Class } from '../../contract/signal.ts'
import { namesService } from '../quota.ts'
import { readEvent } from './events.ts'
import { tagsOf } from './line.ts'

/** The service that the tags of a line name: DogStatsD's behind `#`, Telegraf's in the name. */
export function serviceOf(line: string): string | undefined {
  const behind = line.indexOf('|#')
  if (behind >= 0) {
    const end = line.indexOf('|', behind + 1)
    return find(line.slice(behind + 2, end < 0 ? undefined : end), ':')
  }
  const colon = line.indexOf(':')
  const comma = line.indexOf(',')
  return comma >= 0 && comma < colon ? find(line.slice(comma + 1, colon), '=') : undefined
}

const find = (tags: string, separator: '=' | ':'): string | undefined =>
  tagsOf(tags, separator).find(([key]) => namesService(key))?.[1]

/** The class under which the line counts. */
export function classOf(line: string): Class {
  if (line.startsWith('_e{') || line.startsWith('_sc|')) {
    const event = readEvent(line)
    if (typeof event !== 'string') return classOfLog(event.severity, false)
  }
  return classOfMetric(/^[^:,|]*/.exec(line)?.[0] ?? '')
}
