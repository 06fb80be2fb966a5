// Whose lines of the kernel (facility 0) are made events: those of other machines, as long as nobody says otherwise. What
// this machine's own kernel says is read by kmsg or journald, which know its order and its gaps, and must not count twice.
import { networkInterfaces } from 'node:os'

export const kernelSenders = ['others', 'all', 'none'] as const
export type KernelSenders = (typeof kernelSenders)[number]

/** Of a sender by its address; without one it is a program of this machine. Ask once for each. */
export function makesKernelEvents(which: KernelSenders, host: string | undefined): boolean {
  return which === 'all' || (which === 'others' && host !== undefined && !isThisMachine(host))
}

function isThisMachine(host: string): boolean {
  const address = host.replace(/^::ffff:/i, '').replace(/%.*$/, '')
  if (address === '::1' || address.startsWith('127.')) return true
  return Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === address))
}
