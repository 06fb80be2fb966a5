// UTF-8 questions that the parser and the framing ask of bytes.

/** The largest end ≤ `end` that cuts no character in two. Bytes that are no UTF-8 stay as they are. */
export function cutUtf8(bytes: Uint8Array, start: number, end: number): number {
  for (let back = 1; back <= 4 && end - back >= start; back++) {
    const byte = bytes[end - back] ?? 0
    if (byte < 0x80) return end
    if (byte < 0xc0) continue
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
    return length > back ? end - back : end
  }
  return end
}

export const isContinuation = (byte: number | undefined): boolean =>
  byte !== undefined && (byte & 0xc0) === 0x80
