// Texts with * (anything) and ? (one character), as names and values are written in rules; \ takes their meaning away.

/** What is wrong with one; undefined where nothing is. */
export function globProblem(text: string): string | undefined {
  if (text === '' || text === '!') return 'expected a text that is not empty'
  return /(^|[^\\])(\\\\)*\\$/.test(text) ? 'ends with a \\ that escapes nothing' : undefined
}

/** Whether a text fits. Takes at most length times length of the glob steps, whatever they are. */
export function globMatcher(glob: string): (text: string) => boolean {
  const { parts, isPlain } = parse(glob)
  const literal = parts.join('')
  if (isPlain) return (text) => text === literal
  return (text) => fits(text, parts)
}

/** One that begins with ! takes out what it fits; the order does not matter. All that is not taken out fits where only such are given. */
export function globList(globs: readonly string[]): (text: string) => boolean {
  const without = globs.filter((glob) => glob.startsWith('!')).map((glob) => globMatcher(glob.slice(1)))
  const within = globs.filter((glob) => !glob.startsWith('!')).map(globMatcher)
  return (text) =>
    (within.length === 0 || within.some((fitsOne) => fitsOne(text))) &&
    !without.some((fitsOne) => fitsOne(text))
}

const star = 0
const any = 1
type Part = string | typeof star | typeof any

/** Characters, and what stands for some. */
function parse(glob: string): { parts: Part[]; isPlain: boolean } {
  const parts: Part[] = []
  const characters = Array.from(glob)
  for (let at = 0; at < characters.length; at++) {
    const one = characters[at] ?? ''
    if (one === '\\') parts.push(characters[++at] ?? '')
    else if (one === '*') parts.push(star)
    else if (one === '?') parts.push(any)
    else parts.push(one)
  }
  return { parts, isPlain: parts.every((part) => typeof part === 'string') }
}

/** Goes on greedily, and back to the last star only: what stood before it needs no second try. */
function fits(text: string, parts: readonly Part[]): boolean {
  const characters = Array.from(text)
  let [at, part] = [0, 0]
  let [starPart, starAt] = [-1, 0]
  while (at < characters.length) {
    const wanted = parts[part]
    if (wanted === star) {
      starPart = part++
      starAt = at
    } else if (part < parts.length && (wanted === any || wanted === characters[at])) {
      at++
      part++
    } else if (starPart >= 0) {
      part = starPart + 1
      at = ++starAt
    } else return false
  }
  while (parts[part] === star) part++
  return part === parts.length
}
