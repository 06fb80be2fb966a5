// Resources that a component keeps: labels that change are in what begins after.
import { expect, test } from 'vitest'
import { checkpointOf } from '../../collector/checkpoint.ts'
import { systemClock as clock } from '../../collector/clock.ts'
import { contextOf } from '../../collector/context.ts'
import type { CollectorIdentity } from '../../collector/context.ts'
import { Logger } from '../../collector/logger.ts'
import { LogsEncoder } from '../../plugins/contract/index.ts'

const identity: CollectorIdentity = {
  collector: 'dpu-1',
  device: 'dpu-1',
  instance: '01K00000000000000000000000',
  version: '',
  since: '',
  hostname: '',
  arch: '',
  labels: { rack: 'r1' },
  identity: 'test',
  portOffset: 0,
}

test('a Resource that a source made at its start has the labels of the time at which a batch begins', () => {
  const context = contextOf(identity, {
    id: 'one',
    clock,
    logger: new Logger({ write: () => undefined }).for('one'),
    checkpoint: checkpointOf(undefined, 'one'),
    ready: () => undefined,
    dropped: () => undefined,
  })
  const flat = context.resource({ 'service.name': 'one' })
  const nested = context.resource({ 'service.name': 'one', tags: ['a', 'b'] })
  const encoder = new LogsEncoder({ name: 'test' })
  const said = (resource: Uint8Array): string => {
    encoder.begin(resource)
    return Buffer.from(encoder.finish('dpu-1', 'log').bytes).toString('latin1')
  }
  for (const resource of [flat, nested]) expect(said(resource)).toContain('r1')
  for (const rack of ['r2', 'r3']) {
    identity.labels = { rack }
    for (const resource of [flat, nested]) {
      expect(said(resource)).toContain(rack)
      expect(said(resource)).not.toContain('r1')
    }
  }
  identity.labels = {}
  expect(said(flat)).not.toContain('dpu.rack')
})
