// A member of a group of aggregators as a process of its own, that a test can kill or freeze.
import process from 'node:process'
import { openKafkaJournal } from '../../aggregator/journal/kafka.ts'
import { systemClock as clock } from '../../collector/clock.ts'
import { Logger } from '../../collector/logger.ts'
import type { FilterSettings } from '../../plugins/protocols/filter/index.ts'
import { startMember } from './member.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as {
  brokers: string[]
  prefix: string
  group: string
  folder: string
  rules?: FilterSettings['rules']
}
const log = new Logger().for('member')
const journal = await openKafkaJournal({
  ...options,
  partitions: 6,
  retentionMs: 3_600_000,
  senders: 1,
  create: true,
  sessionTimeoutMs: 6000,
  alone: false,
  clock,
  log,
})
const member = await startMember(journal, options.folder, log, options.rules)
// What is ours, whenever it changes: that is what a test waits for.
let told = ''
setInterval(() => {
  const owned = [...(journal.shared?.owned() ?? [])].sort((a, b) => a - b).join(',')
  if (owned !== told) process.stdout.write(`owned ${owned}\n`)
  told = owned
}, 50)
process.once('SIGTERM', () => {
  void member.stop().then(() => process.exit(0))
})
