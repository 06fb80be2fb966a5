// Every plugin of the tree, one line each; the name in its definition is the `type` in a configuration.
import type { Definition } from './contract/define.ts'
import file from './exporters/file.ts'
import mqtt from './exporters/mqtt.ts'
import otlpExporter from './exporters/otlp.ts'
import stdout from './exporters/stdout.ts'
import filter from './processors/filter.ts'
import severity from './processors/severity.ts'
import hardwareErrors from './sources/hardware_errors.ts'
import hwmon from './sources/hwmon.ts'
import nic from './sources/nic.ts'
import otlp from './sources/otlp.ts'
import pci from './sources/pci.ts'
import syslog from './sources/syslog.ts'
import system from './sources/system.ts'

export const plugins = [
  file,
  mqtt,
  otlpExporter,
  stdout,
  hardwareErrors,
  hwmon,
  nic,
  otlp,
  pci,
  syslog,
  system,
  filter,
  severity,
] as const satisfies readonly Definition[]
