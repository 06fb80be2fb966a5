// `/api/live`: server-sent events of records as sources hand them over. Each reader has a bounded queue, from which records
// are decoded when the pipeline has a moment; one that does not read misses records and is told how many.
//
//   event: record   a log record        event: point   a data point        event: missed   {"missed": records}
import type { ServerResponse } from 'node:http'
import { PointCursor, classes, isClass } from '../plugins/contract/index.ts'
import type { Class, Signal } from '../plugins/contract/index.ts'
import { globList, globProblem } from '../plugins/protocols/filter/globs.ts'
import { eachRecord } from '../plugins/protocols/log-json.ts'
import type { LogFilter } from '../plugins/protocols/log-json.ts'
import { pointFits, pointRow } from '../plugins/protocols/point-json.ts'
import { BadParameter, filterOf } from './api-logs.ts'
import { Fifo } from './fifo.ts'
import type { Meter } from './measure.ts'
import { heldBy } from './tail.ts'
import type { Kept, Tail } from './tail.ts'

const mostReaders = 16
/** Not decoded yet, and written but not read, of one reader. */
const mostQueued = 4 * 1024 * 1024
const mostUnread = 4 * 1024 * 1024
/** Decoded in one go, before whatever else waits has its turn. */
const atOnce = 128 * 1024
const heartbeatMs = 15_000

export interface LiveFilter extends LogFilter {
  signals: readonly Signal[]
  classes: readonly Class[] | undefined
  /** Of the event or the metric. */
  name: ((text: string) => boolean) | undefined
}

const shown: readonly string[] = ['logs', 'metrics']

/** @throws BadParameter */
export function liveFilterOf(parameters: URLSearchParams): LiveFilter {
  const filter = filterOf(parameters, ['signal', 'class', 'name'])
  const listed = (name: string) => parameters.getAll(name).flatMap((text) => text.split(','))
  const signals = listed('signal')
  for (const signal of signals) {
    if (!shown.includes(signal)) throw new BadParameter('signal', 'takes logs or metrics')
  }
  const names = listed('class')
  for (const name of names) {
    if (!isClass(name)) throw new BadParameter('class', `takes ${classes.join(', ')}`)
  }
  const globs = listed('name')
  for (const glob of globs) {
    const problem = globProblem(glob)
    if (problem !== undefined) throw new BadParameter('name', problem)
  }
  return {
    ...filter,
    signals: signals.length > 0 ? (signals as Signal[]) : ['logs'],
    classes: names.length > 0 ? names.filter(isClass) : undefined,
    name: globs.length > 0 ? globList(globs) : undefined,
  }
}

/** Open live tails of one API. */
export class LiveTails {
  readonly #tail: Tail
  readonly #meter: Meter
  #open = 0

  constructor(tail: Tail, meter: Meter) {
    this.#tail = tail
    this.#meter = meter
  }

  /** Answers with events until the reader goes; false when there are enough. @throws BadParameter */
  serve(parameters: URLSearchParams, response: ServerResponse, headers: Record<string, string>): boolean {
    const filter = liveFilterOf(parameters)
    if (this.#open >= mostReaders) return false
    this.#open++
    response.writeHead(200, { ...headers, 'Content-Type': 'text/event-stream' })
    response.write(': live\nretry: 2000\n\n')
    const reader = new LiveReader(this.#tail, filter, response, this.#meter)
    const stop = this.#tail.listen((kept) => reader.offer(kept))
    const heartbeat = setInterval(() => reader.beat(), heartbeatMs)
    response.on('drain', () => reader.tell())
    response.once('close', () => {
      clearInterval(heartbeat)
      stop()
      reader.close()
      this.#open--
    })
    return true
  }
}

class LiveReader {
  readonly #tail: Tail
  readonly #filter: LiveFilter
  readonly #response: ServerResponse
  readonly #meter: Meter
  readonly #points = new PointCursor()
  readonly #waiting = new Fifo<Kept>()
  #bytes = 0
  #missed = 0
  #turn: NodeJS.Immediate | undefined
  #isOpen = true

  constructor(tail: Tail, filter: LiveFilter, response: ServerResponse, meter: Meter) {
    this.#tail = tail
    this.#filter = filter
    this.#response = response
    this.#meter = meter
  }

  /** In the middle of the pipeline: what may fit is kept for later. */
  offer(kept: Kept): void {
    const { signal, class: name, device } = kept.records
    const { signals, classes: wanted, device: devices } = this.#filter
    if (!signals.includes(signal) || wanted?.includes(name) === false) return
    if (devices?.includes(device) === false) return
    this.#waiting.push(kept)
    this.#bytes += heldBy(kept.records)
    // What goes for lack of room was not looked at: some of it might not have fitted the filter.
    while (this.#bytes > mostQueued && this.#waiting.size > 1) this.#miss(this.#take())
    this.#turn ??= setImmediate(() => this.#drain())
  }

  close(): void {
    this.#isOpen = false
    clearImmediate(this.#turn)
    this.#waiting.clear()
  }

  /** Says what was missed, once there is room for it. */
  tell(): void {
    if (this.#missed === 0 || !this.#isOpen || this.#response.writableLength > mostUnread / 2) return
    this.#response.write(`event: missed\ndata: ${JSON.stringify({ missed: this.#missed })}\n\n`)
    this.#missed = 0
  }

  beat(): void {
    this.tell()
    if (this.#response.writableLength === 0) this.#response.write(': alive\n\n')
  }

  #take(): Kept | undefined {
    const kept = this.#waiting.shift()
    if (kept) this.#bytes -= heldBy(kept.records)
    return kept
  }

  #miss(kept: Kept | undefined): void {
    const count = kept?.records.count ?? 0
    this.#missed += count
    this.#meter.in += count
    this.#meter.missed += count
  }

  #drain(): void {
    this.#turn = undefined
    for (let done = 0; done < atOnce && this.#waiting.size > 0;) {
      const kept = this.#take()
      if (!kept) break
      done += kept.records.bytes.length
      if (kept.records.signal === 'logs') this.#logRows(kept)
      else this.#pointRows(kept)
    }
    if (this.#isOpen && this.#waiting.size > 0) this.#turn = setImmediate(() => this.#drain())
  }

  #logRows(kept: Kept): void {
    const { name } = this.#filter
    this.#tail.rows(
      kept,
      this.#filter,
      (cursor) => (!name || name(cursor.text(cursor.eventName))) && this.#hasRoom(),
      (row) => this.#write('record', row),
    )
  }

  #pointRows({ records }: Kept): void {
    const { where, name } = this.#filter
    const cursor = this.#points
    eachRecord(cursor, records.bytes, (_, resource) => {
      if (!pointFits(where, name, cursor, resource) || !this.#hasRoom()) return
      this.#write('point', pointRow(cursor, records.device, resource))
    })
  }

  /** A reader that does not read misses records, before anything is built for them. */
  #hasRoom(): boolean {
    this.#meter.in++
    if (this.#response.writableLength <= mostUnread) return true
    this.#missed++
    this.#meter.missed++
    return false
  }

  #write(event: string, row: object): void {
    this.tell()
    this.#meter.out++
    this.#response.write(`event: ${event}\ndata: ${JSON.stringify(row)}\n\n`)
  }
}
