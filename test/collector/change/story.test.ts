// The operator's story of the top README: its configuration is a valid one, and its own examples hold.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseAndCheck } from '../../../collector/check.ts'
import { definitions } from '../../../collector/main.ts'

test('the configuration in the README has no problem, and its rule does what its examples say', async () => {
  const text = readFileSync(join(import.meta.dirname, '../../../README.md'), 'utf8')
  const [, quiet = ''] = /```yaml\n(# quiet\.yaml\n[^`]*)```/.exec(text) ?? []
  const { config, problems } = await parseAndCheck(quiet, 'quiet.yaml', definitions)
  expect(problems).toEqual([])
  expect(config?.processors.map(({ id }) => id)).toEqual(['quiet'])
})
