// Data points of a batch into columns. NaN, infinities and points without a value are rejected, as InfluxDB does it.
import { PointCursor } from '../../plugins/contract/point-cursor.ts'
import { WireError } from '../../plugins/contract/wire.ts'
import { Chunk } from './columns.ts'
import type { TextColumn } from './columns.ts'
import type { Dictionaries } from './dictionaries.ts'
import { Rows, isSuspect, setSeq } from './log-rows.ts'
import type { BatchPlace, Stored } from './log-rows.ts'
import { readDetail } from '../../plugins/protocols/point-detail.ts'
import { columnIndex, pointForm, pointLayout } from './schema.ts'
import type { SeriesCatalogue } from './series.ts'

const two32 = 4_294_967_296
const noRecordedValue = 1
const column = (name: keyof typeof pointLayout): number => columnIndex(pointLayout, name)

export class PointRows extends Rows {
  readonly #dictionaries: Dictionaries
  readonly #series: SeriesCatalogue
  readonly #cursor = new PointCursor()
  /** Points refused because there are too many series, since the last look. */
  overLimit = 0
  device = ''
  readonly #at: Uint32Array
  readonly #arrival: Uint32Array
  readonly #claimed: Uint32Array
  readonly #start: Uint32Array
  readonly #seriesIds: Int32Array
  readonly #stream: Int32Array
  readonly #seq: Uint32Array
  readonly #idx: Int32Array
  readonly #flags: Int32Array
  readonly #form: Uint8Array
  readonly #value: Float64Array
  readonly #number: Uint32Array
  readonly #detail: TextColumn

  constructor(dictionaries: Dictionaries, series: SeriesCatalogue) {
    const chunk = new Chunk(pointLayout)
    super(chunk)
    this.#dictionaries = dictionaries
    this.#series = series
    this.#at = chunk.words(column('ts'))
    this.#arrival = chunk.words(column('arrival'))
    this.#claimed = chunk.words(column('claimed'))
    this.#start = chunk.words(column('start'))
    this.#seriesIds = chunk.integers(column('series'))
    this.#stream = chunk.integers(column('stream'))
    this.#seq = chunk.words(column('seq'))
    this.#idx = chunk.integers(column('idx'))
    this.#flags = chunk.integers(column('flags'))
    this.#form = chunk.bytes(column('form'))
    this.#value = chunk.doubles(column('value'))
    this.#number = chunk.words(column('number'))
    this.#detail = chunk.text(column('detail'))
  }

  add(bytes: Uint8Array, place: BatchPlace, flush: () => void): Stored {
    const cursor = this.#cursor.reset(bytes)
    this.#series.beginBatch()
    let stored = 0
    let seen = 0
    let resourceIndex = 0
    let resource = 0
    try {
      while (cursor.next()) {
        const index = seen++
        if (cursor.resourceIndex !== resourceIndex) {
          resourceIndex = cursor.resourceIndex
          resource = this.#dictionaries.resources.intern(
            cursor.bytes,
            cursor.resource.start,
            cursor.resource.end,
          )
          this.#series.beginBatch()
        }
        try {
          if (!this.#row(cursor, place, index, resource)) continue
        } catch (error) {
          if (!(error instanceof WireError)) throw error
          continue
        }
        this.chunk.rows++
        stored++
        if (this.chunk.full) flush()
      }
    } catch (error) {
      // Malformed from here on: what was read stays, the rest cannot be held.
      if (!(error instanceof WireError)) throw error
    }
    return { stored, rejected: Math.max(place.count, seen) - stored }
  }

  /** Fills the next row; false where the point cannot be held. */
  #row(cursor: PointCursor, place: BatchPlace, index: number, resource: number): boolean {
    const row = this.chunk.rows
    if ((cursor.flags & noRecordedValue) !== 0) return false
    if (!this.#setNumber(cursor, row)) return false
    const series = this.#series.intern(cursor, this.device, place.device, resource)
    if (series === 0) {
      this.overLimit++
      return false
    }
    this.#seriesIds[row] = series
    this.#times(cursor, place, row)
    this.#start[row * 2] = cursor.startLow
    this.#start[row * 2 + 1] = cursor.startHigh
    this.#stream[row] = place.stream
    setSeq(this.#seq, row, place.seq)
    this.#idx[row] = place.first + index
    this.#flags[row] = cursor.flags
    return true
  }

  /** Sets value, number, form and detail; false where there is no number to store. */
  #setNumber(cursor: PointCursor, row: number): boolean {
    this.#value[row] = 0
    this.#number[row * 2] = 0
    this.#number[row * 2 + 1] = 0
    const { text, count, sum } = readDetail(cursor)
    if (cursor.type !== 'gauge' && cursor.type !== 'sum') {
      const mean = sum === undefined || count === 0n ? Number.NaN : sum / Number(count)
      this.#form[row] = Number.isFinite(mean) ? pointForm.mean : pointForm.count
      if (Number.isFinite(mean)) this.#value[row] = mean
      this.#number[row * 2] = Number(count & 0xffffffffn)
      this.#number[row * 2 + 1] = Number((count >> 32n) & 0xffffffffn)
    } else if (cursor.valueKind === 'double') {
      if (!Number.isFinite(cursor.double)) return false
      this.#form[row] = pointForm.double
      this.#value[row] = cursor.double
    } else if (cursor.valueKind === 'int') {
      this.#form[row] = pointForm.integer
      this.#number[row * 2] = cursor.intLow
      this.#number[row * 2 + 1] = cursor.intHigh
    } else return false
    const { slab } = this.chunk
    this.#detail.starts[row] = slab.position
    this.#detail.lengths[row] = 0
    if (text !== '') {
      const bytes = Buffer.from(text)
      slab.raw(bytes)
      this.#detail.lengths[row] = bytes.length
    }
    return true
  }

  #times(cursor: PointCursor, place: BatchPlace, row: number): void {
    const low = row * 2
    const high = low + 1
    const arrivedNano = place.arrivedHigh * two32 + place.arrivedLow
    const absent = cursor.timeLow === 0 && cursor.timeHigh === 0
    const timeLow = absent ? place.arrivedLow : cursor.timeLow
    const timeHigh = absent ? place.arrivedHigh : cursor.timeHigh
    const timeNano = timeHigh * two32 + timeLow
    const suspect = isSuspect(timeNano, arrivedNano)
    this.#arrival[low] = place.arrivedLow
    this.#arrival[high] = place.arrivedHigh
    this.#at[low] = suspect ? place.arrivedLow : timeLow
    this.#at[high] = suspect ? place.arrivedHigh : timeHigh
    this.#claimed[low] = suspect ? timeLow : 0
    this.#claimed[high] = suspect ? timeHigh : 0
    this.seen(suspect ? arrivedNano : timeNano)
  }
}
