// Processor that lets through log records of a severity and above; everything else passes.
import * as z from 'zod'
import { defineProcessor } from '../contract/index.ts'

/** Lowest severityNumber of each range of the OTel log data model. */
const lowest = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 } as const
const names = Object.keys(lowest) as (keyof typeof lowest)[]

export default defineProcessor({
  name: 'severity',
  summary: 'Drops log records below a severity; events, and records that name no severity, pass.',
  config: z.strictObject({
    minimum: z.enum(names).default('info').describe('The least severe that passes.'),
  }),
  letThrough: () => undefined,
  create: ({ minimum }) => {
    const least = lowest[minimum]
    return {
      // 0 is a severity that nobody gave: to drop it would be to guess. An event is a change of state, not a line.
      decide: ({ signal, class: name, severityNumber }) =>
        signal === 'logs' && name !== 'event' && severityNumber > 0 && severityNumber < least
          ? 'filter'
          : 'keep',
    }
  },
})
