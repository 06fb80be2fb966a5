// Which partition of a topic a device belongs to: murmur2, as every Kafka client has it.

/** 32-bit murmur2, as Kafka's own producers hash keys: others that write with the device as key meet ours. */
export function murmur2(data: Uint8Array): number {
  const m = 0x5bd1e995
  const { length } = data
  let h = 0x9747b28c ^ length
  let at = 0
  for (; at + 4 <= length; at += 4) {
    let k =
      byte(data, at) | (byte(data, at + 1) << 8) | (byte(data, at + 2) << 16) | (byte(data, at + 3) << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    h = Math.imul(h, m) ^ Math.imul(k, m)
  }
  const rest = length - at
  if (rest >= 3) h ^= byte(data, at + 2) << 16
  if (rest >= 2) h ^= byte(data, at + 1) << 8
  if (rest >= 1) h = Math.imul(h ^ byte(data, at), m)
  h ^= h >>> 13
  h = Math.imul(h, m)
  return h ^ (h >>> 15)
}

const byte = (data: Uint8Array, at: number): number => data[at] ?? 0

export const partitionFor = (key: string | Uint8Array, partitions: number): number =>
  (murmur2(typeof key === 'string' ? Buffer.from(key) : key) & 0x7fffffff) % partitions
