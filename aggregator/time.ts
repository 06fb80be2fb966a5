// Unix nanoseconds as people and JSON see them.

/** RFC 3339, UTC, nine decimals: `2026-11-21T09:55:00.000000000Z`. */
export function formatTime(unixNano: bigint): string {
  const seconds = unixNano / 1_000_000_000n
  const nanos = unixNano % 1_000_000_000n
  const [whole = ''] = new Date(Number(seconds) * 1000).toISOString().split('.')
  return `${whole}.${String(nanos).padStart(9, '0')}Z`
}
