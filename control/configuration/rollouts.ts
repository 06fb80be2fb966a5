// Rollouts in stages: a part of the devices first, and the next only when those that are online have the configuration in
// force and lose nothing. What is under way is a row of the journal, so that a rollout goes on after a kill, and on
// another aggregator.
//
//   table dpulse_operations:   rollout/<id> → JSON
import { createHash } from 'node:crypto'
import * as z from 'zod'
import { messageOf } from '../../plugins/contract/errors.ts'
import type { Log } from '../../plugins/contract/define.ts'
import { rolloutStates } from '../../plugins/protocols/fleet-changes.ts'
import type { ChangeState, DeviceChange, Rollout } from '../../plugins/protocols/fleet-changes.ts'
import type { Table } from './wishes.ts'

const rowSchema = z.object({
  id: z.string(),
  hash: z.string(),
  by: z.string(),
  time: z.string(),
  state: z.enum(rolloutStates),
  detail: z.string(),
  stages: z.array(z.number()),
  stage: z.int(),
  soakMs: z.number(),
  /** In the order in which they are reached. */
  devices: z.array(z.string()),
  /** How many of them were told, and when the last of these were. */
  told: z.int(),
  toldMs: z.number(),
  /** Since when the stage is in force; 0 while it is not. */
  soundMs: z.number(),
  /** What each had lost when it was told. */
  lost: z.record(z.string(), z.number()),
})
type Row = z.infer<typeof rowSchema>

/** An online device that says nothing for so long hinders the stages behind it no longer: the rollout stops. */
const answerMs = 15 * 60_000
const mostFinished = 50
const prefix = 'rollout/'

export interface RolloutParts {
  table: Table
  log: Log
  nowMs: () => number
  states: (devices: readonly string[]) => Promise<DeviceChange[]>
  /** Records that each has lost up to now. */
  losses: (devices: readonly string[]) => Promise<ReadonlyMap<string, number>>
  /** Wishes for the configuration of that rollout. */
  tell: (devices: readonly string[], row: { id: string; hash: string; by: string }) => Promise<void>
}

export class Rollouts {
  readonly #parts: RolloutParts

  constructor(parts: RolloutParts) {
    this.#parts = parts
  }

  async start(given: {
    id: string
    hash: string
    by: string
    stages: readonly number[]
    soakMs: number
    devices: readonly { device: string; online: boolean }[]
  }): Promise<void> {
    const { devices, stages, ...rest } = given
    const time = new Date(this.#parts.nowMs()).toISOString()
    const row: Row = {
      ...rest,
      time,
      stages: [...stages],
      devices: inOrder(devices, given.id),
      state: 'running',
      detail: '',
      stage: 0,
      told: 0,
      toldMs: 0,
      soundMs: 0,
      lost: {},
    }
    await this.#save(row)
    await this.#forgetOld()
  }

  async list(): Promise<Rollout[]> {
    const rows = this.#rows().toSorted((one, other) => (one.id < other.id ? 1 : -1))
    return Promise.all(rows.map((row) => this.#shown(row)))
  }

  needs = (hash: string): boolean => this.#rows().some((row) => row.state === 'running' && row.hash === hash)

  async stop(id: string, by: string): Promise<boolean> {
    const row = this.#rows().find((one) => one.id === id)
    if (row?.state !== 'running') return false
    await this.#save({ ...row, state: 'stopped', detail: `stopped by ${by}` })
    return true
  }

  /** One step of each that runs. */
  async step(): Promise<void> {
    for (const row of this.#rows()) {
      if (row.state !== 'running') continue
      try {
        const next = await this.#next(row)
        if (next) await this.#save(next)
      } catch (error) {
        this.#parts.log.error('a rollout cannot go on', { rollout: row.id, error: messageOf(error) })
      }
    }
  }

  async #next(row: Row): Promise<Row | undefined> {
    const { nowMs, losses, tell, log } = this.#parts
    const members = row.devices.slice(0, reachOf(row))
    if (row.told < members.length) {
      const fresh = members.slice(row.told)
      const lost = Object.fromEntries([...(await losses(fresh))].filter(([, count]) => count > 0))
      // Before they are told: whatever they lose from now on counts, also when this process is killed meanwhile.
      const counted = { ...row, lost: { ...lost, ...row.lost } }
      await this.#save(counted)
      await tell(fresh, row)
      log.info('a stage of a rollout begins', {
        rollout: row.id,
        stage: row.stages[row.stage],
        devices: fresh.length,
      })
      return { ...counted, told: members.length, toldMs: nowMs(), soundMs: 0 }
    }
    const states = await this.#parts.states(members)
    const problem = await this.#problem(row, members, states)
    if (problem !== undefined) {
      log.error('a rollout is stopped', { rollout: row.id, reason: problem })
      return { ...row, state: 'stopped', detail: problem }
    }
    const isLast = members.length === row.devices.length
    const waits = states.filter(({ online, state }) => online && (state === 'pending' || state === 'trial'))
    const isProven = states.some(({ state }) => state === 'in_force')
    if (waits.length > 0 || (!isProven && !isLast)) {
      const detail = waits.length > 0 ? `waits for ${named(waits)}` : 'waits until one of the stage is online'
      return row.detail === detail && row.soundMs === 0 ? undefined : { ...row, detail, soundMs: 0 }
    }
    if (row.soundMs === 0) return { ...row, soundMs: nowMs(), detail: 'in force, and watched for losses' }
    if (nowMs() - row.soundMs < row.soakMs) return undefined
    // A stage that has no more devices than this one would show nothing new.
    const next = row.stages.findIndex((_, stage) => reachOf({ ...row, stage }) > members.length)
    if (next < 0) return { ...row, state: 'done', stage: row.stages.length - 1, detail: '' }
    return { ...row, stage: next, soundMs: 0, detail: '' }
  }

  /** Why it must not go on. */
  async #problem(
    row: Row,
    members: readonly string[],
    states: readonly DeviceChange[],
  ): Promise<string | undefined> {
    const bad = states.find(({ state }) => state === 'refused' || state === 'rolled_back')
    if (bad) return `${bad.device}: ${bad.state === 'refused' ? 'refused' : 'rolled back'}: ${bad.detail}`
    const losses = await this.#parts.losses(members)
    for (const device of members) {
      const more = (losses.get(device) ?? 0) - (row.lost[device] ?? 0)
      if (more > 0) return `${device}: ${more} records were lost since it was reached`
    }
    const silent = states.find(({ online, state }) => online && state === 'pending')
    if (silent && this.#parts.nowMs() - row.toldMs > answerMs) return `${silent.device}: it does not answer`
    return undefined
  }

  async #shown(row: Row): Promise<Rollout> {
    const { id, hash, by, time, state, detail, stages, stage, devices, told } = row
    const states: Partial<Record<ChangeState, number>> = {}
    for (const one of await this.#parts.states(devices.slice(0, told))) {
      states[one.state] = (states[one.state] ?? 0) + 1
    }
    return {
      id,
      hash,
      by,
      time,
      state,
      detail,
      stages,
      stage,
      devices: devices.length,
      reached: told,
      states,
    }
  }

  #rows(): Row[] {
    const rows: Row[] = []
    for (const [key, value] of this.#parts.table.entries()) {
      if (!key.startsWith(prefix)) continue
      const parsed = rowSchema.safeParse(JSON.parse(Buffer.from(value).toString()))
      if (parsed.success) rows.push(parsed.data)
      else this.#parts.log.error('a rollout cannot be read', { key, error: messageOf(parsed.error) })
    }
    return rows
  }

  #save(row: Row): Promise<void> {
    return this.#parts.table.set(prefix + row.id, Buffer.from(JSON.stringify(row)))
  }

  async #forgetOld(): Promise<void> {
    const over = this.#rows()
      .filter(({ state }) => state !== 'running')
      .toSorted((one, other) => (one.id < other.id ? 1 : -1))
    for (const { id } of over.slice(mostFinished)) await this.#parts.table.set(prefix + id, undefined)
  }
}

/** How many devices the stages up to the present one have: at least one. */
export const reachOf = ({ devices, stages, stage }: Pick<Row, 'devices' | 'stages' | 'stage'>): number =>
  Math.min(devices.length, Math.max(1, Math.ceil((devices.length * (stages[stage] ?? 100)) / 100)))

/** Those that can answer first, otherwise spread: neighbours by name are neighbours in a rack. */
function inOrder(devices: readonly { device: string; online: boolean }[], id: string): string[] {
  const keyed = devices.map(({ device, online }) => ({
    device,
    key: `${online ? 0 : 1}${createHash('sha256').update(`${id}/${device}`).digest('hex')}`,
  }))
  return keyed.toSorted((one, other) => (one.key < other.key ? -1 : 1)).map(({ device }) => device)
}

const named = (list: readonly DeviceChange[]): string =>
  list.length > 3
    ? `${list.length} devices`
    : list.map(({ device, state }) => `${device} (${state})`).join(', ')
