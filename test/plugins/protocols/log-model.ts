// The model that the durable log is tested against: arrays and maps of what was acknowledged, and of what was asked for
// and may or may not be there after a crash.
import { expect } from 'vitest'
import type { Log, LogEntry } from '../../../plugins/protocols/log/index.ts'

export type Action =
  | { do: 'append'; topic: string; sizes: number[] }
  | { do: 'commit'; topics: string[]; table: string; key: string; size: number }
  | { do: 'set'; table: string; key: string; size: number | undefined }
  | { do: 'truncate'; topic: string; part: number }
  | { do: 'position'; topic: string; consumer: string; part: number }
  | { do: 'read'; topic: string; part: number }

interface TopicModel {
  /** By offset. Holes are what was truncated. */
  entries: Map<number, string>
  next: number
  first: number
  maybeFirst: number[]
}

/** Undefined as a value: no such key. */
interface Register {
  value: string | undefined
  maybe: (string | undefined)[]
}

export const TOPICS = ['a', 'b/high', 'b/low']
export const TABLES = ['t', 'u']
export const KEYS = ['x', 'y', 'z']
export const CONSUMERS = ['writer', 'other']

export class Model {
  readonly #topics = new Map<string, TopicModel>(
    TOPICS.map((name) => [name, { entries: new Map(), next: 0, first: 0, maybeFirst: [] }]),
  )
  readonly #registers = new Map<string, Register>()
  /** Asked for, not acknowledged: values that may turn up once, in their topic. */
  #maybe = new Map<string, string>()
  /** What a table's value promises to be in the topics. */
  readonly #promised = new Map<string, string[]>()
  #serial = 0

  /** Does it to the log, and notes how it ended. */
  async run(log: Log, action: Action): Promise<void> {
    switch (action.do) {
      case 'append': {
        const values = action.sizes.map((size) => this.#value(action.topic, size))
        const entries = values.map((value) => ({ key: keyOf(value), value: Buffer.from(value) }))
        const first = await settled(log.topic(action.topic).appendAll(entries))
        if (first !== undefined)
          values.forEach((value, index) => this.#appended(action.topic, first + index, value))
        return
      }
      case 'commit':
        return this.#commit(log, action)
      case 'set': {
        const value = action.size === undefined ? undefined : this.#fill(action.size)
        const done = this.#ask(`${action.table} ${action.key}`, value)
        done(
          await succeeds(
            log.table(action.table).set(action.key, value === undefined ? undefined : Buffer.from(value)),
          ),
        )
        return
      }
      case 'truncate': {
        const topic = log.topic(action.topic)
        const before = topic.first + Math.floor((topic.next - topic.first) * action.part)
        const model = this.#topic(action.topic)
        model.maybeFirst.push(before)
        if (await succeeds(topic.truncate(before))) model.first = Math.max(model.first, before)
        return
      }
      case 'position': {
        const topic = log.topic(action.topic)
        const offset = Math.floor(topic.next * action.part)
        const done = this.#ask(`position ${action.topic} ${action.consumer}`, String(offset))
        done(await succeeds(topic.setPosition(action.consumer, offset)))
        return
      }
      case 'read': {
        const topic = log.topic(action.topic)
        const from = Math.floor(topic.next * action.part)
        await settled(topic.read(from, { entries: 3, bytes: 2000 }))
        return
      }
      default:
        action satisfies never
    }
  }

  /** The log was opened again, or some of it failed: all of it is as the model says. */
  async check(log: Log, reopened: boolean): Promise<void> {
    if (reopened) expect(log.damage).toEqual([])
    const present = new Set<string>()
    for (const name of TOPICS) {
      for (const value of await this.#checkTopic(log, name, reopened)) present.add(value)
    }
    for (const table of TABLES) {
      for (const key of KEYS) {
        const found = log.table(table).get(key)
        this.#checkRegister(`${table} ${key}`, found && Buffer.from(found).toString(), present, reopened)
      }
      expect([...log.table(table).keys()].every((key) => KEYS.includes(key))).toBe(true)
    }
    for (const topic of TOPICS) {
      for (const consumer of CONSUMERS) {
        const position = log.topic(topic).position(consumer)
        const found = position === undefined ? undefined : String(position)
        this.#checkRegister(`position ${topic} ${consumer}`, found, present, reopened)
      }
    }
    if (reopened) this.#maybe = new Map() // what is not there now must never come back
  }

  async #commit(log: Log, action: Extract<Action, { do: 'commit' }>): Promise<void> {
    const values = action.topics.map((topic) => this.#value(topic, action.size))
    const value = this.#fill(action.size)
    this.#promised.set(value, values)
    const done = this.#ask(`${action.table} ${action.key}`, value)
    const append = action.topics.map((topic, index) => {
      const text = values[index] ?? ''
      return { topic, key: keyOf(text), value: Buffer.from(text) }
    })
    const set = [{ table: action.table, key: action.key, value: Buffer.from(value) }]
    const offsets = await settled(log.commit({ append, set }))
    done(offsets !== undefined)
    for (const [index, offset] of offsets?.entries() ?? []) {
      this.#appended(action.topics[index] ?? '', offset, values[index] ?? '')
    }
  }

  async #checkTopic(log: Log, name: string, reopened: boolean): Promise<Set<string>> {
    const model = this.#topic(name)
    const topic = log.topic(name)
    const entries = await readAll(log, name)
    const values = new Set<string>()
    expect([model.first, ...model.maybeFirst]).toContain(topic.first)
    expect(topic.first).toBeGreaterThanOrEqual(model.first)
    expect(entries.map(({ offset }) => offset)).toEqual(range(topic.first, topic.next))
    expect(topic.next).toBeGreaterThanOrEqual(model.next)
    if (!reopened) expect(topic.next).toBe(model.next)
    for (const { offset, key, value } of entries) {
      const text = Buffer.from(value).toString()
      expect(key).toBe(keyOf(text))
      expect(values.has(text)).toBe(false)
      values.add(text)
      if (model.entries.has(offset)) expect(text).toBe(model.entries.get(offset))
      else expect([name, text]).toEqual([this.#maybe.get(text), text])
      model.entries.set(offset, text)
    }
    model.next = topic.next
    model.first = topic.first
    if (reopened) model.maybeFirst = []
    return values
  }

  #checkRegister(name: string, found: string | undefined, present: Set<string>, reopened: boolean): void {
    const register = this.#register(name)
    if (!reopened) {
      expect([name, found]).toEqual([name, register.value])
      return
    }
    expect([register.value, ...register.maybe]).toContain(found)
    for (const value of this.#promised.get(found ?? '') ?? []) {
      const topic = this.#topic(value.split(' ', 1)[0] ?? '')
      const offset = [...topic.entries].find(([, text]) => text === value)?.[0] ?? Infinity
      if (offset >= topic.first) expect(present).toContain(value)
    }
    register.value = found
    register.maybe = []
  }

  /** Of changes to one key that are asked for together the last that succeeds counts. */
  #ask(name: string, value: string | undefined): (succeeded: boolean) => void {
    const register = this.#register(name)
    register.maybe.push(value)
    return (succeeded) => {
      if (!succeeded) return
      register.value = value
      register.maybe = register.maybe.slice(register.maybe.lastIndexOf(value) + 1)
    }
  }

  #appended(topic: string, offset: number, value: string): void {
    const model = this.#topic(topic)
    expect(model.entries.has(offset)).toBe(false)
    model.entries.set(offset, value)
    model.next = Math.max(model.next, offset + 1)
    this.#maybe.delete(value)
  }

  #value(topic: string, size: number): string {
    const value = `${topic} ${this.#fill(size)}`
    this.#maybe.set(value, topic)
    return value
  }

  #fill(size: number): string {
    return `${++this.#serial} `.padEnd(size, 'abcdefghijk')
  }

  #topic(name: string): TopicModel {
    const model = this.#topics.get(name)
    if (model === undefined) throw new Error(`no topic ${name}`)
    return model
  }

  #register(name: string): Register {
    const register = this.#registers.get(name) ?? { value: undefined, maybe: [] }
    this.#registers.set(name, register)
    return register
  }
}

export async function readAll(log: Log, name: string): Promise<LogEntry[]> {
  const topic = log.topic(name)
  const entries: LogEntry[] = []
  for (let from = topic.first; ;) {
    const read = await topic.read(from, { entries: 7, bytes: 3000 })
    entries.push(...read)
    const last = read.at(-1)
    if (last === undefined) return entries
    from = last.offset + 1
  }
}

const keyOf = (value: string): string => `k${value.length}`

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, index) => from + index)

const settled = <T>(work: Promise<T>): Promise<T | undefined> => work.catch(() => undefined)

const succeeds = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  )
