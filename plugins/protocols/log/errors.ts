// The errors of the durable log. All but LogLockedError leave the log as it was before the call that got them.

export class LogError extends Error {
  override name = 'LogError'
}

/** No room: the log's own limit is reached, or the disk or the quota is full. Works again when there is. */
export class LogFullError extends LogError {
  override name = 'LogFullError'
}

/** Too much waits for the disk. */
export class LogBusyError extends LogError {
  override name = 'LogBusyError'
}

/** The disk refused a write or could not make it durable. Nothing of the request is kept. */
export class LogWriteError extends LogError {
  override name = 'LogWriteError'
}

export class LogClosedError extends LogError {
  override name = 'LogClosedError'
}

/** Another process, or this one, has the directory open. */
export class LogLockedError extends LogError {
  override name = 'LogLockedError'
  readonly pid: number
  constructor(directory: string, pid: number) {
    super(
      pid === process.pid
        ? `${directory} is already open in this process (pid ${pid})`
        : `${directory} is in use by the process ${pid}: stop it, or choose another directory`,
    )
    this.pid = pid
  }
}

/** The system's code of an error, such as ENOSPC. */
export const systemCode = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined

/** What a caller is told when the disk failed. */
export function writeFailure(cause: unknown): LogError {
  if (cause instanceof LogError) return cause
  const code = systemCode(cause)
  return code === 'ENOSPC' || code === 'EDQUOT'
    ? new LogFullError(`the disk is full (${code})`, { cause })
    : new LogWriteError(`the log could not be written (${code ?? String(cause)})`, { cause })
}
