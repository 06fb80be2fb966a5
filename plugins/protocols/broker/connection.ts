// Stands between a client's socket and an embedded broker: ends the connection before an oversized packet is in memory,
// and keeps count of what a slow reader has not taken, so that the broker never waits for one client while others have
// something to say.
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { PacketFrames, connectType } from '../mqtt-frames.ts'

export interface ConnectionLimits {
  /** The largest packet. */
  packetBytes: number
  /** The largest CONNECT, which must come first. */
  connectBytes: number
  /** What a client may have in the process, unread or unanswered, before reading from its socket stops. */
  heldBytes: number
  /** When all clients together have more than this, each may have `fairBytes` only. */
  allHeldBytes: number
  fairBytes: number
  /** Of packets that have begun to arrive, over all connections. */
  unfinishedBytes: number
  /** What a client may leave unread, at the utmost, and all clients together. */
  outgoingBytes: number
  allOutgoingBytes: number
}

/** What all connections of one broker share. */
export interface Shared {
  readonly limits: ConnectionLimits
  heldBytes: number
  unfinishedBytes: number
  outgoingBytes: number
}

export class Connection extends Duplex {
  readonly socket: Socket
  /** Address and port of the client, for the log. */
  readonly remote: string
  /** The collector that the client's certificate or login names; undefined where it may speak for all. */
  owner: string | undefined
  /** Why we ended it, for the log. */
  refusal: string | undefined
  /** When the packet that is under way began, or 0. */
  unfinishedSinceMs = 0
  readonly #shared: Shared
  readonly #frames: PacketFrames
  #outgoing = 0
  /** Of publishes that are not answered yet. */
  #busy = 0
  #isPaused = false

  constructor(socket: Socket, shared: Shared, remote: string, owner: string | undefined) {
    const { heldBytes, outgoingBytes } = shared.limits
    // The broker's own waiting for `drain` would hold up everyone: this side never asks it to.
    super({ readableHighWaterMark: heldBytes, writableHighWaterMark: outgoingBytes * 4 })
    this.socket = socket
    this.remote = remote
    this.owner = owner
    this.#shared = shared
    this.#frames = new PacketFrames({
      first: connectType,
      firstBytes: shared.limits.connectBytes,
      bytes: shared.limits.packetBytes,
    })
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    socket.on('end', () => this.push(null))
    socket.on('error', (error) => this.destroy(error))
    socket.on('close', () => this.destroy())
  }

  /** Bytes that the client has not taken yet. */
  get outgoing(): number {
    return this.#outgoing + this.writableLength
  }

  /**
   * A publish waits for its answer; `release` ends that. Aedes alone would read on and on while large packets wait.
   */
  hold(bytes: number): void {
    this.#busy += bytes
    this.#shared.heldBytes += bytes
    this.#adjust()
  }

  release(bytes: number): void {
    this.#busy -= bytes
    this.#shared.heldBytes -= bytes
    this.#adjust()
  }

  /** Ends the connection at once; `reason` is for the log. */
  refuse(reason: string): void {
    this.refusal ??= reason
    this.destroy(new Error(reason))
  }

  #receive(chunk: Buffer): void {
    const frames = this.#frames
    const shared = this.#shared
    const before = frames.begun
    const refusal = frames.take(chunk)
    shared.unfinishedBytes += frames.begun - before
    if (refusal !== undefined) return this.refuse(refusal)
    if (shared.unfinishedBytes > shared.limits.unfinishedBytes && frames.begun > 0) {
      return this.refuse('too many unfinished packets')
    }
    if (frames.begun === 0) this.unfinishedSinceMs = 0
    else if (frames.begun <= chunk.length || this.unfinishedSinceMs === 0)
      this.unfinishedSinceMs = performance.now()
    shared.heldBytes += chunk.length
    this.push(chunk)
    this.#adjust()
  }

  override read(size?: number): Buffer | null {
    const chunk = super.read(size) as Buffer | null
    if (chunk) this.#shared.heldBytes -= chunk.length
    this.#adjust()
    return chunk
  }

  override _read(): void {
    this.#adjust()
  }

  #adjust(): void {
    const { limits, heldBytes } = this.#shared
    const allowed = heldBytes > limits.allHeldBytes ? limits.fairBytes : limits.heldBytes
    const isFull = this.readableLength + this.#busy >= allowed
    if (isFull === this.#isPaused) return
    this.#isPaused = isFull
    if (isFull) this.socket.pause()
    else this.socket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#send(chunk)
    done()
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.socket.cork()
    for (const { chunk } of chunks) this.#send(chunk)
    this.socket.uncork()
    done()
  }

  #send(chunk: Buffer): void {
    if (this.socket.destroyed) return
    const { length } = chunk
    this.#outgoing += length
    this.#shared.outgoingBytes += length
    this.socket.write(chunk, () => {
      this.#outgoing -= length
      this.#shared.outgoingBytes -= length
    })
    const { outgoingBytes, allOutgoingBytes } = this.#shared.limits
    if (this.#outgoing > outgoingBytes) this.refuse('the client reads too slowly')
    else if (this.#shared.outgoingBytes > allOutgoingBytes) this.refuse('clients read too slowly')
  }

  override _final(done: () => void): void {
    this.socket.end()
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#shared.unfinishedBytes -= this.#frames.begun
    this.#shared.heldBytes -= this.readableLength
    this.#frames.begun = 0
    this.socket.destroy()
    done(error)
  }
}
