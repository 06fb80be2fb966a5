// Health of devices as their drivers report it to the kernel (Documentation/networking/devlink/devlink-health.rst): of each
// reporter, such as `fw_fatal` or `tx`, how often it failed and was recovered. Asked over netlink, which takes no right;
// `devlink health show` prints the same.
import { NetlinkError, attributesIn, numberOf, textOf } from './native/netlink.ts'
import type { Netlink, NetlinkAttributes } from './native/netlink.ts'

// include/uapi/linux/devlink.h
const DEVLINK_CMD_HEALTH_REPORTER_GET = 52
const DEVLINK_ATTR_BUS_NAME = 1
const DEVLINK_ATTR_DEV_NAME = 2
const DEVLINK_ATTR_PORT_INDEX = 3
const DEVLINK_ATTR_HEALTH_REPORTER = 114
const [reporterName, reporterState, reporterErrors, reporterRecoveries, reporterDumpNanos] = [
  115, 116, 117, 118, 137,
]

export interface HealthReporter {
  /** `pci`, `auxiliary`, `netdevsim` … */
  bus: string
  /** On it, such as `0000:03:00.0`. */
  device: string
  /** Undefined where it is of the whole device. */
  port: number | undefined
  name: string
  isHealthy: boolean
  errors: bigint
  recoveries: bigint
  /** When the driver last wrote down what it saw; undefined where it holds nothing. */
  dumpUnixNano: bigint | undefined
}

/** All of this machine; none where the kernel has no devlink, as where no driver that uses it is loaded. */
export async function readHealth(netlink: Netlink): Promise<HealthReporter[]> {
  const family = await netlink.family('devlink')
  if (family === undefined) return []
  try {
    const question = { family, command: DEVLINK_CMD_HEALTH_REPORTER_GET, version: 1 }
    const found = await netlink.ask({ ...question, attributes: Buffer.alloc(0), isDump: true })
    return found.flatMap((one) => reporterOf(one) ?? [])
  } catch (error) {
    if (error instanceof NetlinkError) return []
    throw error
  }
}

/** Undefined where a message is of something else. */
export function reporterOf(message: NetlinkAttributes): HealthReporter | undefined {
  const about = message.get(DEVLINK_ATTR_HEALTH_REPORTER)
  const device = textOf(message.get(DEVLINK_ATTR_DEV_NAME))
  if (about === undefined || device === '') return undefined
  const reporter = attributesIn(about)
  const [name, state] = [textOf(reporter.get(reporterName)), numberOf(reporter.get(reporterState))]
  if (name === '' || state === undefined) return undefined
  const port = numberOf(message.get(DEVLINK_ATTR_PORT_INDEX))
  return {
    bus: textOf(message.get(DEVLINK_ATTR_BUS_NAME)),
    device,
    port: port === undefined ? undefined : Number(port),
    name,
    isHealthy: state === 0n,
    errors: numberOf(reporter.get(reporterErrors)) ?? 0n,
    recoveries: numberOf(reporter.get(reporterRecoveries)) ?? 0n,
    dumpUnixNano: numberOf(reporter.get(reporterDumpNanos)),
  }
}
