// Sensors that measure nothing but say what is the case, as ipmitool lists them (`-c -v sdr elist`), one line each:
//
//   PS1_Status,C8h,ok,10.1,Presence detected, Power Supply AC lost        name, number, status, entity, what is asserted
//   PS2_Status,C9h,ns,10.2,No Reading

/** A component and its state, as far as what is asserted says one. */
export interface Condition {
  readonly id: string
  readonly name: string
  /** Of OTel's `hw.type`. */
  readonly type: string
  readonly state: 'ok' | 'degraded' | 'failed'
}

const line = /^([^,]+),[0-9A-F]{2}h,([a-z]{2}),(\d+\.\d+),(.*)$/i

/** Entities of IPMI's table 43-13 by number → `hw.type`. */
const entities: Readonly<Record<string, string>> = {
  3: 'cpu',
  4: 'physical_disk',
  8: 'memory',
  10: 'power_supply',
  19: 'power_supply',
  20: 'power_supply',
  21: 'power_supply',
  26: 'physical_disk',
  29: 'fan',
  30: 'fan',
  32: 'memory',
  40: 'battery',
}

type Verdict = Condition['state'] | 'none'

/**
 * What tables 42-2 and 42-3 call the offsets of sensors; the first that fits one of them counts. What is good in one sensor
 * and bad in another ("State Asserted", "Limit Exceeded", "Device Absent") says nothing, and neither does what OEMs add.
 */
const verdicts: readonly [Verdict, RegExp][] = [
  ['failed', /\b(ac|input|power|redundancy) lost\b/i],
  ['degraded', /^predictive failure|out-of-range|degraded|^non-redundant: sufficient|in critical array/i],
  ['degraded', /^correctable|bus correctable|limit reached|non-critical|throttled|intrusion|rebuild|^low$/i],
  ['failed', /fail|fault|critical|fatal|non-recoverable|uncorrectable|insufficient|ierr|thermal trip/i],
  ['failed', /config(uration)? error|[ps]err|parity(?! check)/i],
  ['none', /state (de)?asserted|limit (not )?exceeded|performance|^device |unplugged/i],
  ['none', /no reading|disabled|unknown|unspecified|oem|event-only|^\d/i],
]

/** Components of the lines, each with an id of its own; lines of other sensors are passed over. */
export function conditionsOf(lines: readonly string[]): Condition[] {
  const taken = new Map<string, number>()
  return lines.flatMap((text): Condition[] => {
    const [, name = '', status = '', entity = '', said = ''] = line.exec(text.trim()) ?? []
    // `ns` is no reading. What lists units of measure is a reading, told elsewhere.
    if (name === '' || status.toLowerCase() === 'ns') return []
    const base = `${name.trim()}@${entity}`
    const count = (taken.get(base) ?? 0) + 1
    taken.set(base, count)
    const state = stateOf(said)
    if (state === undefined) return []
    const type = entities[entity.split('.')[0] ?? ''] ?? 'enclosure'
    return [{ id: count === 1 ? base : `${base}#${count}`, name: name.trim(), type, state }]
  })
}

/** The worst of what is asserted. Nothing is well: a slot may be empty, and a fault is one that is asserted. */
function stateOf(said: string): Condition['state'] | undefined {
  const found = new Set(
    said.split(', ').map((one) => verdicts.find(([, pattern]) => pattern.test(one.trim()))?.[0] ?? 'ok'),
  )
  if (found.has('failed')) return 'failed'
  if (found.has('degraded')) return 'degraded'
  return found.has('none') ? undefined : 'ok'
}
