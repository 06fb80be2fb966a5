// Waits until devices have done what was wished of them, and says how it ended: progress for people, one JSON document
// for programs, and an exit code that is 0 only where none refused.
import process from 'node:process'
import { DeviceChanges } from './answers.ts'
import type { DeviceChange } from './answers.ts'
import { ask } from './asking.ts'
import type { AskOptions } from './asking.ts'
import { configTable, summaryOf } from './change-table.ts'
import { CommandFailure } from './failure.ts'
import { milliseconds } from './options.ts'
import { note, print, printJson, terminalWidth } from './terminal.ts'

export interface WaitOptions extends AskOptions {
  output: 'table' | 'json'
  /** A duration. */
  wait: string
}

/** What of a device is waited for, and how it can go wrong. */
export interface Awaited {
  what: string
  isDone: (one: DeviceChange) => boolean
  /** Why it went wrong. */
  wrong: (one: DeviceChange) => string | undefined
}

const bad = ['refused', 'rolled_back', 'drift']
export const theConfiguration = (what: string): Awaited => ({
  what,
  isDone: ({ state }) => state !== 'pending' && state !== 'trial',
  wrong: ({ state, detail }) => (bad.includes(state) ? `${state.replace('_', ' ')}: ${detail}` : undefined),
})

/** Labels and verbosities go with a revision of their own, whatever becomes of the configuration. */
export const theRevision = (what: string, wrong: Awaited['wrong'] = () => undefined): Awaited => ({
  what,
  isDone: ({ desired, reported }) => (reported?.revision ?? 0) >= (desired?.revision ?? 0),
  wrong,
})

const pauseMs = 250

/** @throws CommandFailure where it is none. */
export function durationOf(option: string, text: string): number {
  const ms = milliseconds(text)
  if (ms === undefined) throw new CommandFailure(`--${option}: takes a duration such as 30s, 2m or 0`, 2)
  return ms
}

/**
 * `online` were so when it was wished: one that tries a configuration may be away for a while, and is waited for.
 * @throws CommandFailure where one refused or went back, or does not answer in time.
 */
export async function settle(
  options: WaitOptions,
  { devices, online }: { devices: readonly string[]; online: readonly string[] },
  { what, isDone, wrong }: Awaited,
  more: Record<string, unknown> = {},
): Promise<void> {
  const awaited = new Set(online)
  const isUnderWay = (one: DeviceChange): boolean => awaited.has(one.device) && !isDone(one)
  const until = performance.now() + durationOf('wait', options.wait)
  let list = await changesOf(options, devices)
  for (; list.some(isUnderWay) && performance.now() < until; list = await changesOf(options, devices)) {
    progress(summaryOf(list))
    await new Promise((resume) => setTimeout(resume, pauseMs))
  }
  progress('')
  if (options.output === 'json') printJson({ ...more, devices: list })
  else if (list.length <= 20) print(configTable(list, Date.now(), terminalWidth()))
  else print(summaryOf(list))
  const reasons = list.flatMap((one) => {
    const why = wrong(one)
    return why === undefined ? [] : [`${one.device}: ${why}`]
  })
  if (reasons.length > 0) {
    throw new CommandFailure(`${reasons.length} of ${list.length} devices did not ${what}; ${reasons[0]}`, 1)
  }
  if (durationOf('wait', options.wait) > 0 && list.some(isUnderWay)) {
    throw new CommandFailure(`not all devices that were online did ${what} within ${options.wait}`, 1)
  }
  const away = list.filter((one) => !isDone(one) && !awaited.has(one.device)).length
  if (away > 0)
    note(`${away} ${away === 1 ? 'device is' : 'devices are'} offline, and will hear of it when back`)
}

/** A URL has room for a few names; of more all are asked for. */
async function changesOf(options: AskOptions, devices: readonly string[]): Promise<DeviceChange[]> {
  const parameters = devices.length <= 50 ? { device: devices } : {}
  const wanted = new Set(devices)
  return (await ask(options, '/api/config', parameters, DeviceChanges)).filter(({ device }) =>
    wanted.has(device),
  )
}

/** One line that is written over, where somebody looks. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
}
