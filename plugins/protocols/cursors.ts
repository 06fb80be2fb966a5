// Cursors of sources, read back from the checkpoint.
import type * as z from 'zod'
import type { Context } from '../contract/index.ts'

/** What the last run saved; undefined at the first start, and where it is of another form, which is said. */
export async function loadCursor<T>(context: Context, schema: z.ZodType<T>): Promise<T | undefined> {
  const loaded = await context.checkpoint.load()
  if (loaded === undefined) return undefined
  const parsed = schema.safeParse(loaded)
  if (parsed.success) return parsed.data
  context.log.warn('the checkpoint is of another form and not used')
  return undefined
}
