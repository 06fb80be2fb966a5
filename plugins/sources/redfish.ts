// Source of what a BMC says over Redfish: sensors, states, logs and events of the systems that it manages.
import { defineSource } from '../contract/index.ts'
import { redfishMetrics } from '../protocols/redfish/metrics.ts'
import { redfishSettings } from '../protocols/redfish/settings.ts'

export default defineSource({
  name: 'redfish',
  summary: 'Sensors, health, power, boot, reset, firmware, logs and events that a BMC tells over Redfish.',
  config: redfishSettings,
  emits: redfishMetrics,
  signals: ['metrics', 'logs'],
  create: (settings, context) => ({
    async run(emit, signal) {
      if (signal.aborted) return
      // Loaded by those who have a BMC.
      const { watch } = await import('../protocols/redfish/watch.ts')
      await watch(settings, context, emit, signal)
    },
  }),
  detect: async () => ({ leftOut: 'only a configuration says which BMC to ask, and as whom' }),
})
