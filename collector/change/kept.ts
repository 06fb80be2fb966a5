// What was changed from afar and must outlive this process: one small JSON file in the collector's directory, replaced as
// a whole, so that a kill leaves the old one or the new one.
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as z from 'zod'
import { messageOf } from '../../plugins/contract/index.ts'
import type { Log as Logger } from '../../plugins/contract/index.ts'
import { desiredSchema, reportedSchema, severityNames } from '../../plugins/protocols/change.ts'

const configuration = z.object({ hash: z.string(), text: z.string(), by: z.string(), time: z.string() })
/** A configuration that was applied from afar. */
export type Applied = z.infer<typeof configuration>

const verbosity = z.object({
  id: z.string(),
  source: z.string(),
  severity: z.enum(severityNames),
  state: z.enum(['in_force', 'ended']),
  /** As it was when this was written. */
  remainingMs: z.number(),
  /** When it ends, by the wall clock, and by the time since the boot of this id. */
  endsUnixMs: z.number(),
  boot: z.string(),
  endsUptimeMs: z.number(),
})
export type KeptVerbosity = z.infer<typeof verbosity>

const keptSchema = z.object({
  version: z.literal(1),
  /** Of the newest wish that was acted on. */
  revision: z.int().min(0),
  /** In force, or what a trial that fails returns to; null is the device's own. */
  applied: configuration.nullable(),
  trial: z
    .object({
      id: z.string(),
      configuration: configuration.nullable(),
      /** Restarts of the collector while it lasts. */
      starts: z.int(),
      windowMs: z.number(),
    })
    .nullable(),
  outcome: reportedSchema.shape.outcome,
  verbosity: z.array(verbosity),
  labels: desiredSchema.shape.labels,
})
/** All that is remembered of wishes. */
export type Kept = z.infer<typeof keptSchema>

const nothing: Kept = {
  version: 1,
  revision: 0,
  applied: null,
  trial: null,
  outcome: null,
  verbosity: [],
  labels: {},
}

export interface KeptFile {
  readonly state: Kept
  /** On disk when it resolves. */
  save(): Promise<void>
}

/** One that cannot be read is put aside, and the device's own configuration is in force. */
export async function openKept(directory: string, log: Logger): Promise<KeptFile> {
  const file = join(directory, 'change.json')
  let state: Kept = { ...nothing }
  try {
    state = keptSchema.parse(JSON.parse(await readFile(file, 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      const aside = `${file}.unreadable`
      await rename(file, aside).catch(() => undefined)
      log.error('what was changed from afar cannot be read', { file: aside, error: messageOf(error) })
    }
  }
  return {
    state,
    async save() {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      await replace(file, JSON.stringify(state))
    },
  }
}

async function replace(file: string, text: string): Promise<void> {
  const draft = `${file}.draft`
  const written = await open(draft, 'w', 0o600)
  try {
    await written.writeFile(text)
    await written.sync()
  } finally {
    await written.close()
  }
  await rename(draft, file)
  const folder = await open(dirname(file), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
