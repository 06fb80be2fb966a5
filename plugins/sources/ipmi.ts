// Source of what a BMC says over IPMI, through ipmitool: sensors, power, units and the system event log.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { defineSource, messageOf } from '../contract/index.ts'
import { ipmiMetrics, ipmiSettings } from '../protocols/ipmi/settings.ts'

export default defineSource({
  name: 'ipmi',
  summary:
    'Sensors, power state, replaceable units and the event log of a BMC that speaks IPMI, by ipmitool.',
  config: ipmiSettings,
  emits: ipmiMetrics,
  signals: ['metrics', 'logs'],
  create: (settings, context) => ({
    async run(emit, signal) {
      if (signal.aborted) return
      // Loaded by those who have a BMC.
      const { watch } = await import('../protocols/ipmi/watch.ts')
      await watch(settings, context, emit, signal)
    },
  }),
  async detect() {
    const { findLocal } = await import('../protocols/ipmi/watch.ts')
    try {
      const path = await findLocal((file) => access(file, constants.R_OK | constants.W_OK))
      if (path === undefined) return { leftOut: 'this machine has no BMC of its own (no /dev/ipmi0)' }
      const folders = (process.env.PATH ?? '').split(':').filter((one) => one.startsWith('/'))
      for (const folder of folders) {
        const isHere = await access(`${folder}/ipmitool`, constants.X_OK).then(
          () => true,
          () => false,
        )
        if (isHere) return { config: {} }
      }
      return { leftOut: `${path} is there, but ipmitool is not installed` }
    } catch (error) {
      return { leftOut: messageOf(error) }
    }
  },
})
