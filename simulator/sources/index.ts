// The sources of a virtual device: every input of a real collector on a DPU that the model has something for.
import { PermanentError } from '../../plugins/contract/index.ts'
import type { Definition, SourceDefinition } from '../../plugins/contract/index.ts'
import { hardwareErrors } from './hardware-errors.ts'
import { hwmon } from './hwmon.ts'
import { pci, smbios } from './inventory.ts'
import { kmsg, syslog } from './lines.ts'
import { nic } from './nic.ts'
import { simulate } from './simulated.ts'
import type { DeviceOf, Simulated } from './simulated.ts'
import { system } from './system.ts'
import { systemd } from './systemd.ts'

const all: readonly Simulated[] = [hwmon, nic, system, hardwareErrors, systemd, smbios, pci, syslog, kmsg]

export interface SourceChoice {
  readonly definition: SourceDefinition
  /** Checked by the schema of the plugin. */
  readonly config: unknown
}

/** Those of the real plugins, reading from virtual devices; readings every `intervalMs`, inventory as rarely as ever. */
export function simulatedSources(
  plugins: readonly Definition[],
  deviceOf: DeviceOf,
  intervalMs: number,
): SourceChoice[] {
  return all.map((simulated) => {
    const real = plugins.find(({ kind, name }) => kind === 'source' && name === simulated.name)
    if (real?.kind !== 'source') throw new PermanentError('CONFIG_INVALID', `no plugin ${simulated.name}`)
    const isFast = fast.includes(simulated)
    return {
      definition: simulate(real, simulated, deviceOf),
      config: real.config.parse(isFast ? { interval: `${intervalMs}ms` } : {}),
    }
  })
}

const fast: readonly Simulated[] = [hwmon, nic, system, hardwareErrors, systemd]
