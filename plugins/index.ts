// Every plugin of the tree, one line each; the name in its definition is the `type` in a configuration.
import type { Definition } from './contract/define.ts'
import mqtt from './exporters/mqtt.ts'
import otlpExporter from './exporters/otlp.ts'
import severity from './processors/severity.ts'
import hwmon from './sources/hwmon.ts'
import otlp from './sources/otlp.ts'
import syslog from './sources/syslog.ts'
import system from './sources/system.ts'

export const plugins = [
  mqtt,
  otlpExporter,
  hwmon,
  otlp,
  syslog,
  system,
  severity,
] as const satisfies readonly Definition[]
