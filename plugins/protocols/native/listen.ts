// What a receiver of datagrams is given and gives, however it receives.
import type { Log } from '../../contract/define.ts'

/** A UDP address (`host` an IP address) or a socket file. */
export type DatagramListen =
  | { readonly host: string; readonly port: number }
  | { readonly path: string; readonly mode: number }

/** Of the process that sent a datagram, as the kernel has checked them. */
export interface Credentials {
  readonly pid: number
  readonly uid: number
}

export interface DatagramOptions<Peer> {
  readonly listen: readonly DatagramListen[]
  /** Bytes that the kernel may hold for each socket. */
  readonly receiveBuffer: number
  /** Longer datagrams are cut. */
  readonly longest: number
  readonly log: Log
  /**
   * Made once for each sender while it is remembered. In the Unix domain `host` is empty, and the sender is told by its
   * credentials, where the system knows them.
   */
  peer(host: string, credentials?: Credentials): Peer
  /** `bytes` may be read only during the call; `ascii` says that they are known to be so. */
  take(bytes: Buffer, start: number, end: number, peer: Peer, ascii: boolean, truncated: boolean): void
  /** Nothing more is there for now. */
  pause(): void
  /** The kernel had no room for so many datagrams, or threw them away as it was asked to. */
  dropped(count: number): void
}

export interface DatagramReceiver {
  /** As given, with the ports that were chosen. */
  readonly listen: readonly DatagramListen[]
  /** Whether recvmmsg does it. */
  readonly native: boolean
  /** Rejects when receiving has failed by itself. */
  readonly failed: Promise<never>
  /**
   * Of syslog messages over UDP below severity "err", lets the kernel throw away the part (0 to 1), before they cost
   * anything here.
   */
  shed(part: number): void
  /** Whether it does; where it cannot, it is for the source to do. */
  readonly sheds: boolean
  /** Hands over what has arrived, then closes. */
  stop(): Promise<void>
}

/** Why a socket could not be opened, with the `code` of the system (`EADDRINUSE`). */
export class ListenError extends Error {
  readonly code: string
  readonly listen: DatagramListen
  constructor(code: string, listen: DatagramListen, options?: ErrorOptions) {
    super(`${code} at ${'path' in listen ? listen.path : `${listen.host}:${listen.port}`}`, options)
    this.code = code
    this.listen = listen
  }
}
