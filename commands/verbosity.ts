// `dpulse verbosity SOURCE SEVERITY --for 1h` and `dpulse delete verbosity`.
import { Changed } from './answers.ts'
import { change, whoAmI } from './asking.ts'
import { targetOf } from './config.ts'
import type { TargetOptions } from './config.ts'
import { settle, theRevision } from './settling.ts'

export async function setVerbosity(
  source: string,
  severity: string,
  options: TargetOptions & { for: string },
): Promise<void> {
  const body = { source, severity, for: options.for, by: whoAmI() }
  const changed = await change(options, 'POST', '/api/verbosity', targetOf(options), body, Changed)
  await settle(
    options,
    changed,
    theRevision('change their verbosity', ({ reported }) =>
      reported?.verbosity
        .filter((one) => one.source === source && one.state === 'refused')
        .map(({ reason }) => `refused: ${reason}`)
        .at(0),
    ),
  )
}

export async function endVerbosity(source: string | undefined, options: TargetOptions): Promise<void> {
  const parameters = { ...targetOf(options), source, by: whoAmI() }
  const changed = await change(options, 'DELETE', '/api/verbosity', parameters, undefined, Changed)
  await settle(options, changed, theRevision('end their verbosity'))
}
