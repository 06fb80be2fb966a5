// Every plugin of the tree, one line each; the name in its definition is the `type` in a configuration. All are loaded,
// because a change of configuration may name any of them: with one source in use that is 8 MB of 80, as libraries of
// some weight (kafkajs, mqtt, koffi, what redfish and ipmi are made of) are loaded by those who use them.
import type { Definition } from './contract/define.ts'
import fileExporter from './exporters/file.ts'
import fluent from './exporters/fluent.ts'
import kafka from './exporters/kafka.ts'
import mqtt from './exporters/mqtt.ts'
import otlpExporter from './exporters/otlp.ts'
import prometheusExporter from './exporters/prometheus.ts'
import stdout from './exporters/stdout.ts'
import syslogExporter from './exporters/syslog.ts'
import filter from './processors/filter.ts'
import severity from './processors/severity.ts'
import containers from './sources/containers.ts'
import dpdk from './sources/dpdk.ts'
import exec from './sources/exec.ts'
import file from './sources/file.ts'
import fluentForward from './sources/fluent_forward.ts'
import hardwareErrors from './sources/hardware_errors.ts'
import hwmon from './sources/hwmon.ts'
import influx from './sources/influx.ts'
import ipmi from './sources/ipmi.ts'
import journald from './sources/journald.ts'
import kmsg from './sources/kmsg.ts'
import mqttSource from './sources/mqtt.ts'
import nic from './sources/nic.ts'
import otlp from './sources/otlp.ts'
import pci from './sources/pci.ts'
import process from './sources/process.ts'
import prometheus from './sources/prometheus.ts'
import redfish from './sources/redfish.ts'
import smbios from './sources/smbios.ts'
import spdk from './sources/spdk.ts'
import statsd from './sources/statsd.ts'
import syslog from './sources/syslog.ts'
import system from './sources/system.ts'
import systemd from './sources/systemd.ts'

export const plugins = [
  fileExporter,
  fluent,
  kafka,
  mqtt,
  otlpExporter,
  prometheusExporter,
  stdout,
  syslogExporter,
  filter,
  severity,
  containers,
  dpdk,
  exec,
  file,
  fluentForward,
  hardwareErrors,
  hwmon,
  influx,
  ipmi,
  journald,
  kmsg,
  mqttSource,
  nic,
  otlp,
  pci,
  process,
  prometheus,
  redfish,
  smbios,
  spdk,
  statsd,
  syslog,
  system,
  systemd,
] as const satisfies readonly Definition[]
