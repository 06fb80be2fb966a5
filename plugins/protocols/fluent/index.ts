// The Fluent forward protocol: messages to log records, and log records to messages.
export { ForwardReader } from './forward.ts'
export type { ForwardMessage, ForwardOptions } from './forward.ts'
export { helo, ping, pong } from './handshake.ts'
export { MalformedPack, PackReader, PackScanner } from './msgpack.ts'
export { PackStream } from './stream.ts'
export { PackWriter } from './write.ts'
