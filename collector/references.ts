// What a valid configuration refers to beside itself: files and environment variables with secrets, files of TLS. For
// `dpulse check`: where one is absent on this machine that is a warning, because it may be checked elsewhere than it runs.
import { accessSync, constants } from 'node:fs'
import { Secret, messageOf } from '../plugins/contract/index.ts'

export interface Absent {
  path: readonly string[]
  message: string
}

const tlsFiles = new Set(['ca', 'cert', 'key'])
/** Deeper than any schema of ours. */
const mostLevels = 20

/** Walks parsed settings: secrets by what they are, files of TLS by where they stand. */
export function absentReferences(settings: unknown, path: readonly string[] = []): Absent[] {
  if (settings instanceof Secret) return absentSecret(settings, path)
  if (typeof settings !== 'object' || settings === null || path.length > mostLevels) return []
  return Object.entries(settings).flatMap(([key, value]: [string, unknown]) => {
    const here = [...path, key]
    const isFile = typeof value === 'string' && path.at(-1) === 'tls' && tlsFiles.has(key)
    return isFile ? absentFile(value, here) : absentReferences(value, here)
  })
}

function absentSecret(secret: Secret, path: readonly string[]): Absent[] {
  try {
    if (secret.reveal() !== '') return []
    return [{ path, message: `the secret from ${secret.origin} is empty` }]
  } catch (error) {
    return [{ path, message: `${messageOf(error)} here` }]
  }
}

function absentFile(file: string, path: readonly string[]): Absent[] {
  try {
    accessSync(file, constants.R_OK)
    return []
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return [{ path, message: `${file} cannot be read here (${code})` }]
  }
}
