// The two errors that a plugin throws on purpose, and the closed list of their codes. Any other throw is a bug.

/** Why an operation failed; counted by code, listed in the README of plugins. */
export const errorCodes = {
  ADDRESS_IN_USE: 'A port or socket path that a listener wants is taken.',
  CONFIG_INVALID: 'A configuration does not fit its schema.',
  CREDENTIAL_MISSING: 'A secret that the configuration refers to is absent.',
  DATA_CORRUPTED: 'Bytes on disk or on the wire do not fit their checksum or format.',
  DEVICE_CONFLICT: 'Two live collectors claim one device.',
  DISK_FULL: 'The disk, or the share of it that was allowed, is full.',
  INPUT_INVALID: 'What a peer sent is malformed.',
  INPUT_TOO_LARGE: 'What a peer sent exceeds a limit.',
  LIBRARY_MISSING: 'An optional native library cannot be loaded.',
  PEER_OVERLOADED: 'A peer asked to be sent less.',
  PEER_REFUSED: 'A peer understood and said no.',
  PEER_TIMEOUT: 'A peer did not answer in time.',
  PEER_UNREACHABLE: 'No connection to a peer.',
  PERMISSION_DENIED: 'This user may not do or read what was asked.',
  STOPPING: 'The program is stopping.',
  UNEXPECTED: 'A bug: something threw what it should not.',
} as const

export type ErrorCode = keyof typeof errorCodes

interface Options extends ErrorOptions {
  /** How long the peer asked to be left alone. */
  retryAfterMs?: number
}

/** Keep what you have and try again with back-off, not before `retryAfterMs` where the peer named a time. */
export class RetryableError extends Error {
  readonly code: ErrorCode
  readonly retryAfterMs: number | undefined
  constructor(code: ErrorCode, message: string, options: Options = {}) {
    super(message, options)
    this.name = 'RetryableError'
    this.code = code
    this.retryAfterMs = options.retryAfterMs
  }
}

/** Trying again cannot help: count what was to be delivered as dropped, and go on. */
export class PermanentError extends Error {
  readonly code: ErrorCode
  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options)
    this.name = 'PermanentError'
    this.code = code
  }
}

export const codeOf = (error: unknown): ErrorCode =>
  error instanceof RetryableError || error instanceof PermanentError ? error.code : 'UNEXPECTED'

/** The message of whatever was thrown, with those of its causes. */
export function messageOf(error: unknown): string {
  const parts: string[] = []
  for (let cause = error; cause !== undefined && parts.length < 5;) {
    if (!(cause instanceof Error)) {
      parts.push(typeof cause === 'string' ? cause : JSON.stringify(cause))
      break
    }
    const text = cause.message || (cause as NodeJS.ErrnoException).code || cause.name
    // Many a message repeats its cause.
    if (!parts.some((part) => part.includes(text))) parts.push(text)
    cause = cause.cause
  }
  return parts.join(': ')
}
