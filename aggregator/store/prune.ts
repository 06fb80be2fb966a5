// Forgets series and Resources that no row speaks of any more, so that their number is bounded by what is kept.
import { longMs } from './runner.ts'
import type { QueryContext, QueryRunner } from './runner.ts'
import type { StoredSignal } from './segments.ts'
import type { Engine } from './write.ts'

const never = new AbortController().signal

export async function prune(engine: Engine, runner: QueryRunner): Promise<void> {
  const { database, dictionaries, lock, series } = engine
  // What is used while the search runs is noted, and kept whatever the search says.
  await lock.run(async () => {
    series.watch(true)
    dictionaries.resources.touched.clear()
  })
  try {
    const unused = await runner.run(
      never,
      async (context) => ({
        series: await unusedIn(context, engine, 'metrics', 'series'),
        resources: await unusedIn(context, engine, 'logs', 'resource'),
      }),
      longMs,
    )
    await lock.run(async () => {
      const { touched } = dictionaries.resources
      await series.ready(database)
      const gone = unused.series.filter((id) => !series.touched.has(id))
      if (gone.length > 0) {
        await database.transaction(() => database.run(`DELETE FROM series WHERE id IN (${gone.join(',')})`))
        await series.load(database)
      }
      const held = series.resources()
      const rows = unused.resources.filter((id) => !touched.has(id) && !held.has(id))
      if (rows.length === 0) return
      await database.transaction(() => database.run(`DELETE FROM resources WHERE id IN (${rows.join(',')})`))
      dictionaries.resources.forget()
    })
  } finally {
    series.watch(false)
  }
}

async function unusedIn(
  context: QueryContext,
  { segments }: Engine,
  signal: StoredSignal,
  column: 'series' | 'resource',
): Promise<number[]> {
  const table = signal === 'logs' ? 'resources' : 'series'
  const list = segments.within(signal, -Infinity, Infinity)
  const used =
    list.length > 0
      ? `WHERE id NOT IN (SELECT DISTINCT ${column} FROM ${segments.relation(list, column)})`
      : ''
  const rows = await context.rows(`SELECT id FROM ${table} ${used}`)
  return rows.map(([id]) => Number(id))
}
