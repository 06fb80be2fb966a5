// Every plugin of the tree, one line each; the name in its definition is the `type` in a configuration.
import type { Definition } from './contract/define.ts'
import file from './exporters/file.ts'
import mqtt from './exporters/mqtt.ts'
import otlpExporter from './exporters/otlp.ts'
import prometheusExporter from './exporters/prometheus.ts'
import stdout from './exporters/stdout.ts'
import filter from './processors/filter.ts'
import severity from './processors/severity.ts'
import exec from './sources/exec.ts'
import fluentForward from './sources/fluent_forward.ts'
import hwmon from './sources/hwmon.ts'
import influx from './sources/influx.ts'
import mqttSource from './sources/mqtt.ts'
import otlp from './sources/otlp.ts'
import prometheus from './sources/prometheus.ts'
import statsd from './sources/statsd.ts'
import syslog from './sources/syslog.ts'
import system from './sources/system.ts'

export const plugins = [
  file,
  mqtt,
  otlpExporter,
  prometheusExporter,
  stdout,
  exec,
  fluentForward,
  hwmon,
  influx,
  mqttSource,
  otlp,
  prometheus,
  statsd,
  syslog,
  system,
  filter,
  severity,
] as const satisfies readonly Definition[]
