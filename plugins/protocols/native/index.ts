// What Node lacks and libc has: datagrams of the Unix domain, many UDP datagrams in one call.
export { receiveDatagrams, removeSocket } from './datagrams.ts'
export { ListenError } from './listen.ts'
export type { DatagramListen, DatagramOptions, DatagramReceiver } from './listen.ts'
export { receivePlain } from './plain.ts'
export { hostText, inetAddress, longestPath } from './sockaddr.ts'
export { processOf } from './process.ts'
export { loadLibc } from './libc.ts'
export type { Libc } from './libc.ts'
