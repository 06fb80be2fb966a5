// One line of StatsD, by offsets (github.com/b/statsd_spec; docs.datadoghq.com, "DogStatsD datagram"; Telegraf's tags in
// the name). Nothing is copied.
//
//   line  = name *("," key "=" value) ":" value *(":" value) "|" type *("|" section)
//   type  = "c" counter | "g" gauge | "ms" | "h" | "d" timings and distributions | "s" set
//   section = "@" rate | "#" tag *("," tag) | anything else, which is skipped (container, timestamp)

export type LineType = 'counter' | 'gauge' | 'timing' | 'set'

const colon = 0x3a
const pipe = 0x7c
const comma = 0x2c

export class StatsdLine {
  type: LineType = 'counter'
  /** Milliseconds, by its own type; other distributions have no unit. */
  isMilliseconds = false
  nameStart = 0
  nameEnd = 0
  /** Tags in the name, `key=value` with commas; empty where there are none. */
  innerStart = 0
  innerEnd = 0
  /** Tags behind `#`, `key:value` with commas. */
  tagsStart = 0
  tagsEnd = 0
  valuesStart = 0
  valuesEnd = 0
  rateStart = 0
  rateEnd = 0

  /** Undefined where it could be read, else why not. Values, rate and tags are judged by whoever reads them. */
  read(bytes: Buffer, start: number, end: number): string | undefined {
    let at = start
    while (at < end && bytes[at] !== colon && bytes[at] !== pipe) at++
    if (at >= end || bytes[at] !== colon) return 'no value: expected name:value|type'
    this.#name(bytes, start, at)
    if (this.nameEnd === this.nameStart) return 'no name'
    this.valuesStart = ++at
    while (at < end && bytes[at] !== pipe) at++
    this.valuesEnd = at
    if (at >= end) return 'no type: expected name:value|type'
    if (this.valuesEnd === this.valuesStart) return 'no value'
    const typeStart = ++at
    while (at < end && bytes[at] !== pipe) at++
    if (!this.#type(bytes, typeStart, at)) return 'a type that is none of c, g, ms, h, d and s'
    this.tagsStart = this.tagsEnd = this.rateStart = this.rateEnd = 0
    while (at < end) {
      const section = ++at
      while (at < end && bytes[at] !== pipe) at++
      if (bytes[section] === 0x40) {
        this.rateStart = section + 1
        this.rateEnd = at
      } else if (bytes[section] === 0x23) {
        this.tagsStart = section + 1
        this.tagsEnd = at
      }
    }
    return undefined
  }

  #name(bytes: Buffer, start: number, end: number): void {
    this.nameStart = start
    let at = start
    while (at < end && bytes[at] !== comma) at++
    this.nameEnd = at
    this.innerStart = Math.min(at + 1, end)
    this.innerEnd = end
  }

  #type(bytes: Buffer, start: number, end: number): boolean {
    const size = end - start
    const first = bytes[start]
    this.isMilliseconds = size === 2 && first === 0x6d && bytes[start + 1] === 0x73
    if (this.isMilliseconds) this.type = 'timing'
    else if (size !== 1) return false
    else if (first === 0x63) this.type = 'counter'
    else if (first === 0x67) this.type = 'gauge'
    else if (first === 0x68 || first === 0x64) this.type = 'timing'
    else if (first === 0x73) this.type = 'set'
    else return false
    return true
  }
}

/** A tag list as pairs: `key=value` or `key:value`; one without a value is `true`, as elsewhere. */
export function tagsOf(text: string, separator: '=' | ':'): [string, string][] {
  return text
    .split(',')
    .filter((tag) => tag !== '' && !tag.startsWith(separator))
    .map((tag) => {
      const at = tag.indexOf(separator)
      return at < 0 ? [tag, 'true'] : [tag.slice(0, at), tag.slice(at + 1)]
    })
}
