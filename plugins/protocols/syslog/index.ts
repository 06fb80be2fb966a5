// Syslog (RFC 5424, RFC 3164, RFC 6587): messages into OTLP log records, streams into messages.
export { Framer } from './framing.ts'
export type { TakeFrame } from './framing.ts'
export { encodeAttribute } from './attributes.ts'
export { SyslogParser, classOf, longestMessage } from './parser.ts'
export type { Origin, SyslogOptions } from './parser.ts'
export { zoneOf } from './zone.ts'
