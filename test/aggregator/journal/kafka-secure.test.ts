// Kafka behind TLS and logins, as a configuration names them: every mechanism works, and what does not fit says why.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { ulid } from 'ulid'
import { parse } from 'yaml'
import { aggregatorConfig } from '../../../aggregator/config.ts'
import type { Journal } from '../../../aggregator/journal/journal.ts'
import { openJournal } from '../../../aggregator/journal/open.ts'
import { systemClock as clock } from '../../../collector/clock.ts'
import { createAuthority } from '../../support/certificates.ts'
import { testContext } from '../../support/context.ts'
import { headedBatch } from '../../support/kafka.ts'
import { noSecureKafka, startSecureKafka } from '../../support/kafka-secure.ts'
import type { SecureKafka } from '../../support/kafka-secure.ts'

const password = 'a secret of the test'

/** Opens the journal as a configuration says, with what stands below `journal.kafka` beside the brokers. */
async function openedBy(address: string, yaml: string): Promise<Journal> {
  const name = `s${ulid().toLowerCase()}`
  const kafka = {
    brokers: [address],
    group: name,
    prefix: `${name}.`,
    partitions: 1,
    ...(parse(yaml) as object),
  }
  const config = aggregatorConfig.parse({ journal: { kafka } }).journal
  const { log } = testContext()
  return openJournal({ url: 'embedded', config, directory: '', maxBytes: 0, alone: false, log, clock })
}

const why = noSecureKafka === undefined ? '' : ` (${noSecureKafka})`
describe.skipIf(noSecureKafka !== undefined)(`Kafka with TLS and logins${why}`, () => {
  const authority = createAuthority()
  const file = join(authority.directory, 'password')
  let broker: SecureKafka | undefined
  const address = () => broker?.address ?? ''
  beforeAll(async () => {
    writeFileSync(file, `${password}\n`)
    const files = authority.certificate('broker')
    broker = await startSecureKafka({ files, ca: authority.ca, user: { name: 'dpulse', password } })
  })
  afterAll(async () => {
    await broker?.stop()
    authority.remove()
  })
  const tls = () => `tls: { ca: ${authority.ca} }`
  const sasl = (mechanism: string, secret = file) =>
    `sasl: { mechanism: ${mechanism}, username: dpulse, password: { file: ${secret} } }`

  test.each(['plain', 'scram-sha-256', 'scram-sha-512'])(
    'takes batches and gives them back with %s',
    async (mechanism) => {
      const journal = await openedBy(address(), `${tls()}\n${sasl(mechanism)}`)
      onTestFinished(async () => journal[Symbol.asyncDispose]())
      const { key, value } = headedBatch({ device: 'dpu-1', session: ulid(), seq: 1, count: 2 })
      await journal.append([{ topic: 'otlp_logs', key, value }], [])
      const signal = AbortSignal.timeout(30_000)
      let position = {}
      for (;;) {
        const read = await journal.read(position, { entries: 10, bytes: 1_000_000 }, signal)
        for (const { position: at } of read.moved?.gained ?? []) position = { ...position, ...at }
        if (!read.moved) position = read.next
        if (signal.aborted || read.entries.length > 0) {
          expect(read.entries.map((entry) => Buffer.from(entry.value))).toEqual([Buffer.from(value)])
          break
        }
      }
    },
    60_000,
  )

  test('says that the login was refused, and does not show the password', async () => {
    const wrong = join(authority.directory, 'wrong')
    writeFileSync(wrong, 'not the password')
    const error: unknown = await openedBy(address(), `${tls()}\n${sasl('scram-sha-512', wrong)}`).catch(
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({ code: 'PEER_REFUSED' })
    expect(String(error)).toMatch(/journal\.kafka\.sasl|login/)
    expect(String(error)).not.toContain('not the password')
  }, 60_000)

  test('says that the certificate is not trusted where the authority is another one', async () => {
    const other = createAuthority()
    onTestFinished(() => other.remove())
    const opening = openedBy(address(), `tls: { ca: ${other.ca} }\n${sasl('plain')}`)
    await expect(opening).rejects.toThrow(/certificate/)
  }, 60_000)
})
