// Running totals of a stream that no row can tell: records that retention removed, and those that were rejected.
import type { Database } from './database.ts'

/** Adds within the transaction that is open. One row a stream, so that the table does not grow with what is counted. */
export async function addTally(
  database: Database,
  column: 'removed' | 'rejected',
  counts: ReadonlyMap<number, number>,
): Promise<void> {
  const values = [...counts]
    .filter(([, count]) => count > 0)
    .map(([stream, count]) => `(${stream}, ${count})`)
  if (values.length === 0) return
  const added = `(VALUES ${values.join(', ')}) AS added(stream, rows)`
  await database.run(
    `INSERT INTO tally SELECT stream, 0, 0 FROM ${added} WHERE stream NOT IN (SELECT stream FROM tally);
     UPDATE tally SET ${column} = ${column} + added.rows FROM ${added} WHERE tally.stream = added.stream`,
  )
}
