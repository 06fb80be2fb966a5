// Verbosities that are in force for a while: each ends by itself, also after a restart and with nobody to ask. Time is
// counted since the boot of the machine where that goes on, so that a clock that steps neither ends nor prolongs one;
// over a reboot the wall clock says how long it took, and what was left when that was last written is the most.
import { readFileSync } from 'node:fs'
import os from 'node:os'
import type { SeverityName, WishedVerbosity } from '../../plugins/protocols/change.ts'
import type { KeptVerbosity } from './kept.ts'

export interface BootClock {
  /** Another one after each boot. */
  boot: string
  uptimeMs(): number
  unixMs(): number
}

export const bootClock = (): BootClock => ({
  boot: bootId(),
  uptimeMs: () => Math.round(os.uptime() * 1000),
  unixMs: () => Date.now(),
})

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  } catch {
    return `pid-${process.pid}` // then every restart counts as a boot
  }
}

/** How much of it is left. */
export function remainingMs(row: KeptVerbosity, clock: BootClock): number {
  if (row.state === 'ended') return 0
  if (row.boot === clock.boot) return Math.max(0, row.endsUptimeMs - clock.uptimeMs())
  return Math.max(0, Math.min(row.remainingMs, row.endsUnixMs - clock.unixMs()))
}

/** The row as it stands now, on the clocks of this boot. */
export function counted(row: KeptVerbosity, clock: BootClock): KeptVerbosity {
  const left = remainingMs(row, clock)
  // When it ended is for people.
  if (left === 0) return row.state === 'ended' ? row : { ...row, state: 'ended', endsUnixMs: clock.unixMs() }
  return {
    ...row,
    remainingMs: left,
    boot: clock.boot,
    endsUptimeMs: clock.uptimeMs() + left,
    endsUnixMs: clock.unixMs() + left,
  }
}

/**
 * What is remembered after a wish: what is wished and new begins, what is no longer wished is forgotten, and what has
 * ended stays so for as long as it is wished.
 */
export function merged(
  rows: readonly KeptVerbosity[],
  wished: readonly WishedVerbosity[],
  clock: BootClock,
): KeptVerbosity[] {
  return wished.map(({ id, source, severity, forMs }) => {
    const known = rows.find((row) => row.id === id)
    if (known) return counted(known, clock)
    return {
      id,
      source,
      severity,
      state: 'in_force',
      remainingMs: forMs,
      boot: clock.boot,
      endsUptimeMs: clock.uptimeMs() + forMs,
      endsUnixMs: clock.unixMs() + forMs,
    }
  })
}

/** The lowest severity that leaves each source; of several for one, the newest. */
export function floorsOf(rows: readonly KeptVerbosity[]): Map<string, SeverityName> {
  return new Map(
    rows.filter(({ state }) => state === 'in_force').map(({ source, severity }) => [source, severity]),
  )
}
