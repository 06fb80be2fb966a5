// What the name says that a driver gives to what it counts.

/** `rx0_packets`, `tx_queue_3_bytes`, `rx-0.packets`, `[0]: rx_ucast_packets`; not `rx_prio0_bytes`, `rx_64_bytes_phy`. */
const ofQueue = /^(?:rx|tx|ch|q|txq|rxq|queue)-?\d+[_.:]|queue[_-]?\d+[_.:]|^\[\d+\]/
const ofError =
  /(?:^|[_. ])(?:err(?:or)?s?|discards?|discarded|drops?|dropped|crc|fcs|jabbers?|missed|timeouts?|downed|out_of_buffer|out_of_sequence|nak|retrans)(?:[_. ]|$)/
export type Counted = 'error' | 'statistic'

/** What the name of a statistic says: an error or drop, in or out. Undefined where it is of one queue. */
export function whatIs(name: string): { kind: Counted; isOfQueue: boolean; direction: string | undefined } {
  const lower = name.toLowerCase()
  const direction = /(?:^|[_. ])(?:rx|rcv)/.test(lower)
    ? 'receive'
    : /(?:^|[_. ])(?:tx|xmit)/.test(lower)
      ? 'transmit'
      : undefined
  return { kind: ofError.test(lower) ? 'error' : 'statistic', isOfQueue: ofQueue.test(lower), direction }
}
