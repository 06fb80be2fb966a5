// Looks through an encoded message to its last leaf, so that what a peer sent is refused at the door, with the
// byte offset, and no reader behind it meets a truncated attribute.
import { PermanentError } from '../../contract/errors.ts'
import type { ErrorCode } from '../../contract/errors.ts'
import type { Signal } from '../../contract/signal.ts'
import { Reader, WireError, bytesType, fixed64Type, varintType } from '../../contract/wire.ts'
import { requests } from './schema.ts'
import type { Field, Message } from './schema.ts'

/** Messages within messages. An attribute value within 32 others, each in a list of pairs, is about 100 deep. */
export const depthLimit = 128

/**
 * Walks the message that the reader's bounds hold; afterwards `position` is at their end. A message that stands
 * twice where one is due is refused too: protobuf would merge the two, which no sender means and no cursor does.
 * @throws WireError with the byte offset where it is malformed.
 */
export function checkMessage(reader: Reader, message: Message, depth = 0): void {
  if (depth > depthLimit) throw new WireError(`messages nested more than ${depthLimit} deep`, reader.position)
  const { end } = reader
  let seen = 0
  while (reader.position < end) {
    const began = reader.position
    const key = reader.key()
    const field = message.byNumber[key >>> 3]
    if (field) checkType(message, field, key & 7, began)
    if (!field?.message) {
      if (field?.repeated === true && isPacked(field, key & 7)) checkPacked(reader, field)
      else reader.skip(key)
      continue
    }
    if (!field.repeated) {
      // The members of a oneof count as one.
      const bit = field.presence ? 1 : 2 << field.index
      if ((seen & bit) !== 0) throw new WireError(`${message.name} with ${field.name} twice`, began)
      seen |= bit
    }
    reader.end = reader.length() + reader.position
    checkMessage(reader, field.message, depth + 1)
    reader.end = end
  }
}

const isPacked = (field: Field, type: number): boolean => type === bytesType && field.wireType !== bytesType

/**
 * A reader takes a field of another type for one that it does not know, and the record is stored without what it says:
 * mostly these are records of another signal.
 */
function checkType(message: Message, field: Field, type: number, at: number): void {
  if (type === field.wireType || (field.repeated && isPacked(field, type))) return
  const what = `${message.name} with ${field.name} of wire type ${type} instead of ${field.wireType}`
  throw new WireError(`${what}, as if it were another message`, at)
}

/** Numbers one after the other within one field. */
function checkPacked(reader: Reader, { name, wireType }: Field): void {
  const { end } = reader
  const size = reader.length()
  const last = reader.position + size
  if (wireType === varintType) {
    reader.end = last
    while (reader.position < last) reader.skipVarint()
    reader.end = end
    return
  }
  const width = wireType === fixed64Type ? 8 : 4
  if (size % width !== 0)
    throw new WireError(`${name} of ${size} bytes, no multiple of ${width}`, reader.position)
  reader.position = last
}

/** @throws PermanentError INPUT_INVALID that names the byte offset. */
export function checkRequest(signal: Signal, bytes: Uint8Array): void {
  refuseMalformed(signal, bytes.length, () => checkMessage(new Reader(bytes), requests[signal]))
}

/** Runs `read`; a WireError becomes a PermanentError INPUT_INVALID whose message holds the offset. */
export function refuseMalformed<T>(
  signal: Signal,
  size: number,
  read: () => T,
  code: ErrorCode = 'INPUT_INVALID',
): T {
  try {
    return read()
  } catch (cause) {
    if (!(cause instanceof WireError)) throw cause
    throw new PermanentError(code, `malformed ${signal} request of ${size} bytes: ${cause.message}`, {
      cause,
    })
  }
}
