// What a collector hears after a commit: of each stream that had a batch in it, how far all is acknowledged, and the
// ranges beyond that hold the batches in question. So an ack names what its collector waits for, and stays small however
// many gaps a stream has.
import { streamKey } from '../plugins/contract/batch.ts'
import type { Header } from '../plugins/contract/batch.ts'
import type { Ack } from '../plugins/protocols/topics.ts'
import type { Accounts } from './account.ts'
import { IntervalSet } from './intervals.ts'

/** Streams in one message. */
const streamsPerAck = 200

export function acksOf(headers: readonly Header[], accounts: Accounts): [collector: string, ack: Ack][] {
  const byStream = new Map<string, Header[]>()
  for (const header of headers) {
    const key = streamKey(header)
    const some = byStream.get(key)
    if (some) some.push(header)
    else byStream.set(key, [header])
  }
  const acks: [string, Ack][] = []
  const open = new Map<string, Ack>()
  for (const [key, some] of byStream) {
    const [first] = some
    const acknowledged = accounts.get(key)?.acknowledged
    if (!first || !acknowledged) continue
    const { collector, session, device, class: name } = first
    let ack = open.get(collector)
    if (!ack || ack.streams.length >= streamsPerAck) {
      ack = { streams: [] }
      open.set(collector, ack)
      acks.push([collector, ack])
    }
    const through = acknowledged.through
    const beyond = new Map<number, [number, number]>()
    for (const { seq } of some) {
      const range = seq > through ? acknowledged.rangeOf(seq) : undefined
      if (range) beyond.set(range[0], [...range])
    }
    ack.streams.push({
      session,
      device,
      class: name,
      through,
      beyond: [...beyond.values()].sort((a, b) => a[0] - b[0]),
    })
  }
  return acks
}

/** The batches themselves, where nobody here knows what else of their streams was acknowledged. */
export function acksOfBatches(headers: readonly Header[]): [collector: string, ack: Ack][] {
  const byStream = new Map<string, { header: Header; seqs: IntervalSet }>()
  for (const header of headers) {
    const key = streamKey(header)
    const stream = byStream.get(key) ?? { header, seqs: new IntervalSet() }
    stream.seqs.add(header.seq)
    byStream.set(key, stream)
  }
  const acks: [string, Ack][] = []
  const open = new Map<string, Ack>()
  for (const { header, seqs } of byStream.values()) {
    const { collector, session, device, class: name } = header
    let ack = open.get(collector)
    if (!ack || ack.streams.length >= streamsPerAck) {
      ack = { streams: [] }
      open.set(collector, ack)
      acks.push([collector, ack])
    }
    const beyond = seqs.ranges().map(([from, to]): [number, number] => [from, to])
    ack.streams.push({ session, device, class: name, through: 0, beyond })
  }
  return acks
}
