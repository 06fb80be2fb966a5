// Which partition a device belongs to, and which aggregator a partition: an assignment that gives partition N of all topics
// to one member and moves as few as it can.

export { partitionFor } from '../../plugins/protocols/kafka/partition.ts'

export interface Member {
  id: string
  /** What it had when it joined. */
  owned: readonly number[]
}

/**
 * Shares partitions out so that nobody has two more than another, and that of what a member had as much as can be stays
 * with it. The same answer whatever the order of the members.
 */
export function assign(partitions: number, members: readonly Member[]): Map<string, number[]> {
  const sorted = members.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const result = new Map(sorted.map(({ id }) => [id, [] as number[]]))
  if (sorted.length === 0) return result
  const least = Math.floor(partitions / sorted.length)
  let larger = partitions % sorted.length
  const taken = new Set<number>()
  // Those who have most may keep one more than the least.
  for (const { id, owned } of sorted.toSorted((a, b) => b.owned.length - a.owned.length)) {
    const free = [...new Set(owned)].filter((one) => one >= 0 && one < partitions && !taken.has(one))
    const quota = free.length > least && larger > 0 ? least + 1 : least
    if (quota > least) larger--
    const kept = free.sort((a, b) => a - b).slice(0, quota)
    for (const one of kept) taken.add(one)
    result.set(id, kept)
  }
  const left = Array.from({ length: partitions }, (_, index) => index).filter((one) => !taken.has(one))
  for (const quota of [least, least + 1]) {
    for (const own of result.values()) {
      while (own.length < quota && left.length > 0) own.push(left.shift() ?? 0)
    }
  }
  return result
}
