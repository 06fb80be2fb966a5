// Which part of a device's firmware is which: kinds call theirs as their vendors do.
import type { State } from '../model.ts'

/** The version of the first part whose name fits. */
export function firmwareOf({ firmware }: State, part: RegExp): string | undefined {
  const name = Object.keys(firmware).find((one) => part.test(one))
  return name === undefined ? undefined : firmware[name]
}

export const ofNic = /nic/i
export const ofBoot = /uefi|bios/i
export const ofDrives = /nvme|ssd/i
