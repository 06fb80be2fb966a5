// `--truth FILE`: what was done to which device and when, one JSON object a line. Whoever judges alert rules holds their
// findings against it.
import { closeSync, openSync, writeSync } from 'node:fs'
import { PermanentError } from '../plugins/contract/index.ts'
import type { Truth } from './model.ts'

export interface TruthWriter extends Disposable {
  readonly tell: (truth: Truth) => void
}

/** Begins the file anew. Faults are few: each line is on its way to the disk before the fault shows. */
export function openTruth(path: string | undefined): TruthWriter {
  if (path === undefined) return { tell: () => undefined, [Symbol.dispose]: () => undefined }
  const file = opened(path)
  return {
    tell: (truth) => void writeSync(file, `${JSON.stringify(truth)}\n`),
    [Symbol.dispose]: () => closeSync(file),
  }
}

function opened(path: string): number {
  try {
    return openSync(path, 'w')
  } catch (cause) {
    throw new PermanentError('CONFIG_INVALID', `--truth ${path} cannot be written`, { cause })
  }
}
