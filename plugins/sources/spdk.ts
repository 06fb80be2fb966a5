// Source of what an SPDK program (storage target, virtual host) does: its block devices, NVMe-oF groups, threads and
// reactors, asked over JSON-RPC. Ticks become seconds by the rate that the same answer names.
import { existsSync } from 'node:fs'
import * as z from 'zod'
import { PermanentError, defineSource, duration, messageOf } from '../contract/index.ts'
import type { Attributes, Context, Detected, MetricDeclaration, Records } from '../contract/index.ts'
import { Complaints } from '../protocols/complaints.ts'
import { counter, level } from '../protocols/declared.ts'
import { countOf, objectOf, objectsOf, textOf } from '../protocols/exact-json.ts'
import type { JsonObject } from '../protocols/exact-json.ts'
import { emitInGroups } from '../protocols/lines/batches.ts'
import { selection, selects } from '../protocols/proc-selection.ts'
import { ReadingWithStarts, Resets } from '../protocols/resets.ts'
import { SpdkClient } from '../protocols/spdk/client.ts'

const emits = {
  'dpu.spdk.up': level('1', '1 where the program answers, else 0.'),
  'dpu.spdk.bdev.io': counter('By', 'Bytes moved by a block device.'),
  'dpu.spdk.bdev.operations': counter('{operation}', 'Operations of a block device.'),
  'dpu.spdk.bdev.operation_time': counter('s', 'Time that operations took, summed.'),
  'dpu.spdk.bdev.latency.max': {
    kind: 'gauge',
    unit: 's',
    description: 'Longest operation since the counters began.',
  },
  'dpu.spdk.bdev.queue_depth': level('{operation}', 'Operations under way, where that is measured.'),
  'dpu.spdk.bdev.errors': counter('{error}', 'Operations that failed, by status.'),
  'dpu.spdk.nvmf.connections': counter('{connection}', 'Queue pairs that were ever made.'),
  'dpu.spdk.nvmf.qpairs': level('{connection}', 'Queue pairs that are connected.'),
  'dpu.spdk.nvmf.pending_bdev_io': counter('{operation}', 'Operations that had to wait for a free buffer.'),
  'dpu.spdk.nvmf.operations': counter('{operation}', 'Operations completed.'),
  'dpu.spdk.nvmf.requests': counter('{request}', 'Requests over an RDMA device.'),
  'dpu.spdk.nvmf.request_time': counter('s', 'Time that requests over an RDMA device took, summed.'),
  'dpu.spdk.thread.time': counter('s', 'Time of a thread, busy and idle.'),
  'dpu.spdk.thread.pollers': level('{poller}', 'Pollers of a thread.'),
  'dpu.spdk.reactor.time': counter('s', 'Time of a reactor, busy and idle.'),
} as const satisfies Record<string, MetricDeclaration>
type Metric = keyof typeof emits

const usual = '/var/tmp/spdk.sock'

const config = z.strictObject({
  socket: z.string().startsWith('/').default(usual).describe('Path of the JSON-RPC socket.'),
  interval: duration.prefault('15s').describe('Time between readings.'),
  bdevs: selection('block devices', []).describe('Which block devices to read, by name.'),
  most: z
    .int()
    .min(1)
    .max(4096)
    .default(256)
    .describe('Most block devices and threads to read, of each kind.'),
  timeout: duration.prefault('5s').describe('Longest wait for one answer.'),
})
type Config = z.output<typeof config>

const scope = { name: 'spdk' }
const operations = ['read', 'write', 'unmap', 'copy'] as const
const bytesOf = {
  read: 'bytes_read',
  write: 'bytes_written',
  unmap: 'bytes_unmapped',
  copy: 'bytes_copied',
} as const

export class SpdkReader {
  readonly #config: Config
  readonly #context: Context
  readonly #isWanted: (name: string) => boolean
  readonly #resets = new Resets()
  readonly #complaints: Complaints

  constructor(settings: Config, context: Context) {
    this.#config = settings
    this.#context = context
    this.#complaints = new Complaints(context.log, 'SPDK cannot be read in full')
    this.#isWanted = selects(settings.bdevs)
  }

  async read(signal: AbortSignal): Promise<Records[]> {
    const answers = await this.#ask(signal)
    const reading = new ReadingWithStarts(this.#context, scope, emits, 'spdk')
    const before = this.#resets.count
    reading.add('dpu.spdk.up' satisfies Metric, answers === undefined ? 0n : 1n, {})
    if (answers !== undefined) {
      this.#bdevs(reading, objectOf(answers.bdev_get_iostat))
      this.#nvmf(reading, objectOf(answers.nvmf_get_stats))
      this.#threads(reading, objectOf(answers.thread_get_stats))
      this.#reactors(reading, objectOf(answers.framework_get_reactors))
      this.#resets.retain(reading.timeUnixNano)
      if (this.#resets.count > before) this.#context.log.info('counters of SPDK began anew')
    }
    return reading.finish()
  }

  /** Undefined where nobody answers; a method that fails or is not known is absent. */
  async #ask(signal: AbortSignal): Promise<JsonObject | undefined> {
    const { socket, timeout } = this.#config
    const methods = ['bdev_get_iostat', 'nvmf_get_stats', 'thread_get_stats', 'framework_get_reactors']
    const answers: Record<string, unknown> = {}
    try {
      using client = await SpdkClient.open(socket, timeout, signal)
      for (const method of methods) answers[method] = await client.call(method, signal)
    } catch (error) {
      if (signal.aborted) throw error
      if (error instanceof PermanentError) throw error
      this.#complaints.tell(messageOf(error))
      return Object.keys(answers).length > 0 ? answers : undefined
    }
    return answers
  }

  #bdevs(reading: ReadingWithStarts, answer: JsonObject): void {
    const seconds = secondsBy(answer.tick_rate)
    const wanted = objectsOf(answer.bdevs).filter(
      ({ name }) => textOf(name) !== '' && this.#isWanted(textOf(name)),
    )
    for (const bdev of this.#complaints.first('block devices', wanted, this.#config.most)) {
      const who = { 'dpu.spdk.bdev': textOf(bdev.name) }
      const counts = operations.flatMap((one) => [
        countOf(bdev[bytesOf[one]]),
        countOf(bdev[`num_${one}_ops`]),
      ])
      const start = this.#resets.startOf(`bdev ${who['dpu.spdk.bdev']}`, counts, reading.timeUnixNano)
      const add = (metric: Metric, value: number | bigint | undefined, more?: Attributes) =>
        reading.add(metric, value, { ...who, ...more }, start)
      for (const one of operations) {
        const which = { 'dpu.spdk.operation': one }
        add('dpu.spdk.bdev.io', countOf(bdev[bytesOf[one]]), which)
        add('dpu.spdk.bdev.operations', countOf(bdev[`num_${one}_ops`]), which)
        add('dpu.spdk.bdev.operation_time', seconds(bdev[`${one}_latency_ticks`]), which)
        const longest = seconds(bdev[`max_${one}_latency_ticks`])
        if (longest !== undefined && longest > 0) add('dpu.spdk.bdev.latency.max', longest, which)
      }
      // Zero is what is written where no period is set, too.
      if ((countOf(bdev.queue_depth_polling_period) ?? 0n) > 0n)
        add('dpu.spdk.bdev.queue_depth', countOf(bdev.queue_depth))
      for (const [status, count] of Object.entries(objectOf(bdev.io_error)).slice(0, 64))
        add('dpu.spdk.bdev.errors', countOf(count), { 'error.type': status })
    }
  }

  #nvmf(reading: ReadingWithStarts, answer: JsonObject): void {
    const seconds = secondsBy(answer.tick_rate)
    for (const group of this.#complaints.first(
      'poll groups',
      objectsOf(answer.poll_groups),
      this.#config.most,
    )) {
      const who = { 'dpu.spdk.poll_group': textOf(group.name) }
      const totals = ['admin_qpairs', 'io_qpairs', 'pending_bdev_io', 'completed_nvme_io'].map((key) =>
        countOf(group[key]),
      )
      const start = this.#resets.startOf(`group ${who['dpu.spdk.poll_group']}`, totals, reading.timeUnixNano)
      for (const kind of ['admin', 'io']) {
        const which = { ...who, 'dpu.spdk.queue': kind }
        reading.add('dpu.spdk.nvmf.connections', countOf(group[`${kind}_qpairs`]), which, start)
        reading.add('dpu.spdk.nvmf.qpairs', countOf(group[`current_${kind}_qpairs`]), which, start)
      }
      reading.add('dpu.spdk.nvmf.pending_bdev_io', countOf(group.pending_bdev_io), who, start)
      reading.add('dpu.spdk.nvmf.operations', countOf(group.completed_nvme_io), who, start)
      for (const transport of objectsOf(group.transports)) {
        for (const device of this.#complaints.first(
          'devices',
          objectsOf(transport.devices),
          this.#config.most,
        )) {
          const which = { ...who, 'dpu.rdma.device': textOf(device.name) }
          reading.add('dpu.spdk.nvmf.requests', countOf(device.requests), which, start)
          reading.add('dpu.spdk.nvmf.request_time', seconds(device.request_latency), which, start)
        }
      }
    }
  }

  #threads(reading: ReadingWithStarts, answer: JsonObject): void {
    const seconds = secondsBy(answer.tick_rate)
    for (const thread of this.#complaints.first('threads', objectsOf(answer.threads), this.#config.most)) {
      const who = { 'thread.name': textOf(thread.name), 'thread.id': Number(countOf(thread.id) ?? 0n) }
      const counts = [countOf(thread.busy), countOf(thread.idle)]
      const start = this.#resets.startOf(`thread ${who['thread.id']}`, counts, reading.timeUnixNano)
      for (const state of ['busy', 'idle'])
        reading.add(
          'dpu.spdk.thread.time',
          seconds(thread[state]),
          { ...who, 'dpu.spdk.state': state },
          start,
        )
      for (const kind of ['active', 'timed', 'paused']) {
        const which = { ...who, 'dpu.spdk.poller': kind }
        reading.add('dpu.spdk.thread.pollers', countOf(thread[`${kind}_pollers_count`]), which, start)
      }
    }
  }

  #reactors(reading: ReadingWithStarts, answer: JsonObject): void {
    const seconds = secondsBy(answer.tick_rate)
    for (const reactor of this.#complaints.first('reactors', objectsOf(answer.reactors), this.#config.most)) {
      const core = countOf(reactor.lcore)
      if (core === undefined) continue
      const counts = [countOf(reactor.busy), countOf(reactor.idle)]
      const start = this.#resets.startOf(`reactor ${core}`, counts, reading.timeUnixNano)
      for (const state of ['busy', 'idle']) {
        const which = { 'cpu.logical_number': Number(core), 'dpu.spdk.state': state }
        reading.add('dpu.spdk.reactor.time', seconds(reactor[state]), which, start)
      }
    }
  }
}

/** Ticks as seconds. Without a rate there are none: another program's would be wrong. */
function secondsBy(rate: unknown): (ticks: unknown) => number | undefined {
  const perSecond = countOf(rate)
  return (ticks) => {
    const count = countOf(ticks)
    return count === undefined || perSecond === undefined || perSecond === 0n
      ? undefined
      : Number(count) / Number(perSecond)
  }
}

/** Whether a program answers on the socket. */
export async function detectSpdk(socket: string): Promise<Detected<z.input<typeof config>>> {
  if (!existsSync(socket)) return { leftOut: `no SPDK program: there is no ${socket}` }
  try {
    using client = await SpdkClient.open(socket, 2000, AbortSignal.timeout(4000))
    await client.call('framework_get_reactors', AbortSignal.timeout(4000))
    return { config: {} }
  } catch (error) {
    return { leftOut: messageOf(error) }
  }
}

export default defineSource({
  name: 'spdk',
  summary: 'Block devices, NVMe-oF groups, threads and reactors of an SPDK program.',
  config,
  emits,
  create: (settings, context) => ({
    async run(emit, signal) {
      const reader = new SpdkReader(settings, context)
      context.ready(`unix:${settings.socket}`)
      await context.clock.every(settings.interval, signal, async () => {
        const records = await reader.read(signal)
        if (!signal.aborted) await emitInGroups(emit, records)
      })
    },
  }),
  detect: () => detectSpdk(usual),
})
