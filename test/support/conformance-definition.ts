// The part of conformance that all four kinds of plugin share: names, documentation, strict configuration, an inert
// `create`, and nothing left open.
import { AsyncLocalStorage, createHook } from 'node:async_hooks'
import { readdirSync } from 'node:fs'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import * as z from 'zod'
import type { Definition, MetricDeclarations, Records } from '../../plugins/contract/index.ts'
import {
  RetryableError,
  batchLimits,
  classOfMetric,
  countRecords,
  isClass,
  isDeviceId,
  maxBatchBytes,
} from '../../plugins/contract/index.ts'
import { testContext } from './context.ts'
import { classOf, collect } from './records.ts'

/** How long a plugin may take to stop. */
export const stopLimitMs = 2000

/** A configuration as it stands in YAML, or a function that makes one (for ports and folders). */
export type ExampleConfig = unknown
export const exampleOf = async (example: ExampleConfig): Promise<unknown> =>
  typeof example === 'function' ? await (example as () => unknown)() : example

interface Schema {
  type?: string
  description?: string
  properties?: Record<string, Schema>
  additionalProperties?: boolean | Schema
  items?: Schema | Schema[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
}

/** Paths of the keys that lack a description, and of the objects that would take an unknown key. */
export function faultsOf(schema: Schema, path = ''): string[] {
  const faults: string[] = []
  for (const [key, value] of Object.entries(schema.properties ?? {})) {
    const here = path === '' ? key : `${path}.${key}`
    if (!value.description) faults.push(`${here} has no description`)
    faults.push(...faultsOf(value, here))
  }
  if (schema.properties && schema.additionalProperties !== false) {
    faults.push(`${path || 'the configuration'} is not a strict object`)
  }
  const inner = [schema.items, schema.anyOf, schema.oneOf, schema.allOf]
    .flat()
    .filter((one) => one !== undefined)
  if (typeof schema.additionalProperties === 'object') inner.push(schema.additionalProperties)
  return [...faults, ...inner.flatMap((one) => faultsOf(one, path))]
}

/** Parsed as the runtime parses it. */
export function configOf(definition: Definition, example: unknown): unknown {
  const parsed = definition.config.safeParse(example)
  if (!parsed.success)
    throw new Error(`the example configuration is refused: ${z.prettifyError(parsed.error)}`)
  return parsed.data
}

export function conformsToDefinition(definition: Definition, example: ExampleConfig): void {
  test('has a snake_case name, that of its test file', () => {
    expect(definition.name).toMatch(/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/)
    const file = expect.getState().testPath?.split('/').at(-1) ?? ''
    expect(file.replace(/[.-].*$/, '')).toBe(definition.name)
  })

  test('says in one sentence what it is', () => {
    expect(definition.summary).toMatch(/^[A-Z].{10,}\.$/)
    expect(definition.summary).not.toMatch(/\. [A-Z]/)
  })

  test('describes every key of a strict configuration', () => {
    const schema = z.toJSONSchema(definition.config, { io: 'input', unrepresentable: 'any' }) as Schema
    expect(schema.type).toBe('object')
    expect(faultsOf(schema)).toEqual([])
  })

  test('takes its example and refuses an unknown key by name', async () => {
    const given = await exampleOf(example)
    configOf(definition, given)
    const refused = definition.config.safeParse({ ...(given as object), no_such_key: 1 })
    expect(refused.success).toBe(false)
    expect(refused.error?.message).toContain('no_such_key')
  })

  test('is inert when it is created', async () => {
    const config = configOf(definition, await exampleOf(example))
    const context = testContext()
    const before = openHandles()
    definition.create(config, context)
    expect(openHandles()).toEqual(before)
    expect(context.addresses).toEqual([])
    expect(context.drops).toEqual([])
  })
}

/** Handles that keep a process alive, and open files, by kind. Timers are not told apart from the test runner's. */
export function openHandles(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) {
    if (kind !== 'Immediate' && kind !== 'FSReqPromise' && kind !== 'Timeout')
      counts[kind] = (counts[kind] ?? 0) + 1
  }
  try {
    counts.files = readdirSync('/proc/self/fd').length
  } catch {
    // Only Linux shows them.
  }
  return counts
}

/** Runs `use`; the timers that it set, and that still keep the process alive, are what the result counts. */
async function withTimers(use: () => Promise<void>): Promise<{ timers: () => number } & Disposable> {
  const scope = new AsyncLocalStorage<true>()
  const set = new Map<number, NodeJS.Timeout>()
  const hook = createHook({
    init(id, type, _, resource) {
      if (type === 'Timeout' && scope.getStore()) set.set(id, resource as NodeJS.Timeout)
    },
    destroy: (id) => void set.delete(id),
  }).enable()
  await scope.run(true, use)
  return {
    timers: () => [...set.values()].filter((timer) => timer.hasRef()).length,
    [Symbol.dispose]: () => void hook.disable(),
  }
}

/**
 * Runs `use` twice and demands that the second time leaves open no more than there was before it: what is loaded
 * once for ever (a library, a thread pool) shows in the first.
 */
export async function leavesNothingOpen(use: () => Promise<void>): Promise<void> {
  await use()
  const before = await settled()
  using left = await withTimers(use)
  const deadline = performance.now() + stopLimitMs
  for (;;) {
    const more = Object.entries(openHandles()).filter(([kind, count]) => count > (before[kind] ?? 0))
    if (left.timers() > 0) more.push(['timers', left.timers()])
    if (more.length === 0) return
    if (performance.now() > deadline)
      throw new Error(`left open: ${JSON.stringify(Object.fromEntries(more))}`)
    await sleep(10)
  }
}

/** Open handles once they have not grown fewer for a while: sockets close late. */
async function settled(): Promise<Record<string, number>> {
  const sum = (of: Record<string, number>) => Object.values(of).reduce((total, one) => total + one, 0)
  let last = openHandles()
  for (let same = 0; same < 5;) {
    await sleep(10)
    const now = openHandles()
    same = sum(now) < sum(last) ? 0 : same + 1
    if (sum(now) < sum(last)) last = now
  }
  return last
}

/** Rejects where `promise` takes longer than a plugin may take to stop. */
export async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  const timer = new AbortController()
  const late = sleep(stopLimitMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`${what} took longer than ${stopLimitMs} ms`)
  })
  late.catch(() => undefined)
  try {
    return await Promise.race([promise, late])
  } finally {
    timer.abort()
  }
}

/** After an abort a plugin may also reject, with what the abort did: that is quiet. */
export async function endsQuietly(run: Promise<void>): Promise<void> {
  try {
    await inTime(run, 'stopping')
  } catch (error) {
    const stopping = error instanceof RetryableError && error.code === 'STOPPING'
    if (!stopping && (error as Error).name !== 'AbortError') throw error
  }
}

export const stopping = (): RetryableError => new RetryableError('STOPPING', 'the program is stopping')

/** Count, times, class, device and limits of Records say what their bytes say. */
export function expectWellFormed(records: Records, declared: MetricDeclarations = {}): void {
  expect(isDeviceId(records.device), `device ${records.device}`).toBe(true)
  expect(isClass(records.class), `class ${records.class}`).toBe(true)
  expect(countRecords(records.signal, records.bytes)).toBe(records.count)
  expect(records.count).toBeGreaterThan(0)
  expect(records.count).toBeLessThanOrEqual(batchLimits.records)
  expect(records.bytes.length).toBeLessThanOrEqual(maxBatchBytes)
  expect(records.from <= records.to, 'from is not after to').toBe(true)
  if (records.signal === 'traces') return
  const found = collect(records)
  const times = found.map((one) => one.time).filter((time) => time > 0n)
  if (times.length === found.length) {
    expect(records.from).toBe(times.reduce((least, time) => (time < least ? time : least)))
    expect(records.to).toBe(times.reduce((most, time) => (time > most ? time : most)))
  }
  for (const one of found) {
    const expected =
      one.signal === 'logs' ? classOf(one) : (declared[one.name]?.class ?? classOfMetric(one.name))
    expect(records.class, `class of ${one.signal === 'logs' ? one.severityText : one.name}`).toBe(expected)
  }
}

/** The metrics of Records are declared, with the unit and kind that they have. */
export function expectDeclared(records: Records, declared: MetricDeclarations): void {
  for (const one of collect(records)) {
    if (one.signal !== 'metrics') continue
    const kind = one.type === 'gauge' ? 'gauge' : one.monotonic ? 'counter' : 'updowncounter'
    const { kind: declaredKind, unit } = declared[one.name] ?? {}
    expect({ name: one.name, kind, unit: one.unit }).toEqual({ name: one.name, kind: declaredKind, unit })
    if (one.type !== 'gauge') expect(one.temporality, `${one.name} is cumulative`).toBe(2)
  }
}
