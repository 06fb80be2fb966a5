// What messages of registries mean, as data: which are events, and how grave. Services give severities that cannot be relied
// on ("cable status error", severity OK), so the message decides where it is known (DSP2065, OpenBMC's registries).
import { numberOf } from './json.ts'
import { readingOf } from './sensor-kinds.ts'

export interface Meaning {
  readonly eventName: string
  /** OTel's severity number; undefined where what the service says stands. */
  readonly severity?: number
}

const warning = 13
const critical = 18

interface Row {
  /** Matched with the message id, without the version of its registry: `OpenBMC.SensorCableStatusError`. */
  readonly message: RegExp
  readonly eventName: string
  readonly severity?: number
}

const rows: readonly Row[] = [
  { message: /\.SensorCableStatusError$/, eventName: 'dpu.cable.failed', severity: warning },
  { message: /\.SensorCableStatusNormal$/, eventName: 'dpu.cable.recovered' },
  {
    message: /^Update\.(Transfer|Verification|Apply|Activate)Failed$/,
    eventName: 'dpu.update.failed',
    severity: critical,
  },
  { message: /^Update\.UpdateSuccessful$/, eventName: 'dpu.update.succeeded' },
  {
    message: /^ResourceEvent\.ResourceStatusChangedCritical$/,
    eventName: 'dpu.component.failed',
    severity: critical,
  },
  {
    message: /^ResourceEvent\.(ResourceStatusChangedWarning|ResourceErrorsDetected)$/,
    eventName: 'dpu.component.degraded',
    severity: warning,
  },
  {
    message: /^ResourceEvent\.(ResourceStatusChangedOK|ResourceErrorsCorrected)$/,
    eventName: 'dpu.component.recovered',
  },
  {
    message: /^ResourceEvent\.ResourceErrorThresholdExceeded$/,
    eventName: 'dpu.component.failed',
    severity: critical,
  },
  {
    message: /^ResourceEvent\.ResourceVersionIncompatible$/,
    eventName: 'dpu.component.incompatible',
    severity: warning,
  },
  { message: /^ResourceEvent\.(ResourcePoweredOn|ResourcePoweredOff)$/, eventName: 'dpu.power.changed' },
  {
    message: /^Environmental\.(Temperature|Fan|Humidity|Power).*Critical/,
    eventName: 'dpu.sensor.alarm',
    severity: critical,
  },
  {
    message: /^Environmental\.(Temperature|Fan|Humidity|Power).*(Warning|Caution)/,
    eventName: 'dpu.sensor.alarm',
    severity: warning,
  },
  { message: /^Environmental\.(Temperature|Fan|Humidity|Power).*Normal/, eventName: 'dpu.sensor.recovered' },
  {
    message: /\.(DumpCreated|CrashDump\w*|CPUError|BIOSFirmwarePanic\w*)$/,
    eventName: 'dpu.crash.recorded',
    severity: critical,
  },
]

const threshold =
  /\.SensorThreshold(Warning|Critical|HardShutdown|SoftShutdown|PerformanceLoss)(Low|High)Going(Low|High)$/

/** What a message says beside its text; undefined where it is a line of a log and no more. */
export function meaningOf(messageId: string | undefined, args: readonly string[]): Meaning | undefined {
  if (messageId === undefined) return undefined
  const message = messageId.replace(/(\.\d+)+(?=\.)/, '')
  const crossed = threshold.exec(message)
  if (crossed) return crossing(crossed, args)
  return rows.find((row) => row.message.test(message))
}

/** A limit that is crossed outward is an alarm, inward its end; by a placeholder (an empty cage: −128) it is neither. */
function crossing([, level, side, direction]: RegExpExecArray, args: readonly string[]): Meaning | undefined {
  const [sensor = '', reading] = args
  const isTemperature = /temp/i.test(sensor)
  if (
    reading !== undefined &&
    (isTemperature ? readingOf('temperature', reading) : numberOf(reading)) === undefined
  ) {
    return undefined
  }
  if (side !== direction) return { eventName: 'dpu.sensor.recovered' }
  return { eventName: 'dpu.sensor.alarm', severity: level === 'Warning' ? warning : critical }
}

/** Of a severity of Redfish; 9 (INFO) where it says nothing. */
export function severityOf(text: string | undefined): number {
  if (text === 'Critical') return critical
  return text === 'Warning' ? warning : 9
}
