// Labels of this machine, from three places: its configuration, a file beside it (a rack is known where the machine is
// installed), and the aggregator, whose word goes over that of the file, and that of the file over the configuration.
import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import * as z from 'zod'
import { PermanentError, messageOf } from '../../plugins/contract/index.ts'
import { bareLabel, labelName, mostLabels } from '../../plugins/protocols/change.ts'

const mostBytes = 64 * 1024

const fileSchema = z
  .record(
    z.string(),
    z.union([z.string(), z.number(), z.boolean()], { error: 'expected a text' }).transform(String),
  )
  .nullable()

/** `dpu.rack: r12` or `rack: r12`, one a line. @throws PermanentError CONFIG_INVALID that names the label. */
export function parseLabels(text: string): Record<string, string> {
  let plain: unknown
  try {
    plain = parse(text)
  } catch (cause) {
    throw new PermanentError('CONFIG_INVALID', `no YAML: ${messageOf(cause)}`, { cause })
  }
  const found = fileSchema.safeParse(plain)
  if (!found.success) {
    const [issue] = found.error.issues
    throw new PermanentError('CONFIG_INVALID', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
  }
  const labels: Record<string, string> = {}
  for (const [key, value] of Object.entries(found.data ?? {})) {
    const name = bareLabel(key)
    if (!labelName.test(name)) {
      throw new PermanentError('CONFIG_INVALID', `${key}: expected small letters, digits, _ and .`)
    }
    if (value.length > 256)
      throw new PermanentError('CONFIG_INVALID', `${key}: expected at most 256 characters`)
    labels[name] = value
  }
  if (Object.keys(labels).length > mostLabels)
    throw new PermanentError('CONFIG_INVALID', `expected at most ${mostLabels} labels`)
  return labels
}

/** What the file says; nothing where there is none. @throws PermanentError CONFIG_INVALID */
export async function readLabels(file: string): Promise<Record<string, string>> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new PermanentError('CONFIG_INVALID', `${file} cannot be read`, { cause })
  }
  if (text.length > mostBytes)
    throw new PermanentError('CONFIG_INVALID', `expected at most ${mostBytes} bytes`)
  return parseLabels(text)
}

/** All that are in force; null takes one away. */
export function labelsOf(
  configured: Readonly<Record<string, string>>,
  file: Readonly<Record<string, string>>,
  wished: Readonly<Record<string, string | null>>,
): Record<string, string> {
  const all = Object.entries({ ...configured, ...file, ...wished })
  return Object.fromEntries(
    all.flatMap(([key, value]) => (value === null ? [] : [[key, value] as const])).toSorted(byKey),
  )
}

const byKey = ([one]: readonly [string, string], [other]: readonly [string, string]): number =>
  one < other ? -1 : one > other ? 1 : 0
