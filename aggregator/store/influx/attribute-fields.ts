// The field `attributes` of log lines: attributes of a program repeat from line to line, so what they were written as is
// kept, found again by their bytes, and copied.
import { Writer } from '../../../plugins/contract/wire.ts'
import { ByteInterner } from '../interner.ts'
import { JsonText } from '../json-text.ts'
import { fieldText } from './line.ts'
import type { ServiceTags } from './log-lines.ts'

const name = Buffer.from(',attributes="')
const nothing: Buffer = Buffer.alloc(0)
/** Larger ones are seldom equal. */
const sizeLimit = 1024
const countLimit = 4096
/** Looks after which it is asked whether keeping pays, and how many are left out where it does not. */
const trial = 4096
const rest = 16 * trial

export class AttributeFields {
  /** Of the attributes looked at last: `,attributes="…"`, or nothing. */
  field: Buffer = nothing
  /** The tag of the service that they name, or nothing. */
  service: Buffer = nothing
  readonly #services: ServiceTags
  readonly #json = new JsonText()
  readonly #scratch = new Writer(4096)
  readonly #out = new Writer(4096)
  readonly #known = new ByteInterner()
  #fields: Buffer[] = []
  #tags: Buffer[] = []
  #looks = 0
  #found = 0
  #skip = 0

  constructor(services: ServiceTags) {
    this.#services = services
  }

  /** Reads the attributes in `bytes[start, end)`. @throws WireError where they are malformed. */
  read(bytes: Buffer, start: number, end: number, extra?: Uint8Array): void {
    if (end <= start && !extra) {
      this.field = this.service = nothing
      return
    }
    const isKept = !extra && end - start <= sizeLimit && --this.#skip < 0
    const known = isKept ? this.#find(bytes, start, end) : -1
    if (known >= 0) {
      this.field = this.#fields[known] ?? nothing
      this.service = this.#tags[known] ?? nothing
      return
    }
    const isServiceKnown = this.#write(bytes, start, end, extra)
    if (isKept && isServiceKnown) this.#keep(bytes, start, end)
  }

  #find(bytes: Buffer, start: number, end: number): number {
    if (++this.#looks === trial) {
      this.#skip = this.#found * 4 < this.#looks ? rest : 0
      this.#looks = this.#found = 0
    }
    const known = this.#known.find(bytes, start, end)
    if (known >= 0) this.#found++
    return known
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    if (this.#known.size >= countLimit) {
      this.#known.clear()
      this.#fields = []
      this.#tags = []
    }
    this.field = Buffer.from(this.field)
    this.#known.set(bytes, start, end, this.#fields.push(this.field) - 1)
    this.#tags.push(this.service)
  }

  /** Whether their service, if they name one, has a tag. */
  #write(bytes: Buffer, start: number, end: number, extra: Uint8Array | undefined): boolean {
    const scratch = this.#scratch
    scratch.reset()
    this.#json.attributes(scratch, bytes, start, end, 6, extra)
    const { appNameStart, appNameEnd } = this.#json
    this.service = this.#services.of(bytes, appNameStart, appNameEnd)
    const out = this.#out
    out.reset()
    if (scratch.position > 2) {
      out.raw(name)
      fieldText(out, scratch.buffer, 0, scratch.position)
      out.byte(0x22)
    }
    this.field = out.buffer.subarray(0, out.position)
    return appNameEnd <= appNameStart || this.service.length > 0
  }
}
