// Members of a group as processes, a sender that repeats what Kafka did not take, and the books in which all must be
// counted once.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { onTestFinished } from 'vitest'
import { ulid } from 'ulid'
import type { FilterSettings } from '../../plugins/protocols/filter/index.ts'
import { partitionFor } from '../../aggregator/journal/kafka-partition.ts'
import { headedBatch, openTestKafka, testSender } from './kafka.ts'
import { booksOf, storedIn } from './member.ts'
import { eventually } from './programs.ts'

export const groupPartitions = 6
type Place = { prefix: string; group: string }

export interface MemberProcess {
  readonly child: ChildProcess
  owned(): number[]
  output(): string
}

export function storeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-group-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function startMemberProcess(
  place: Place,
  folder: string,
  brokers: readonly string[],
  rules?: FilterSettings['rules'],
): MemberProcess {
  const child = spawn(
    process.execPath,
    [resolve(import.meta.dirname, 'member-program.ts'), JSON.stringify({ ...place, folder, brokers, rules })],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let told = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (told += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-20_000)))
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  return {
    child,
    owned: () => {
      const last = told.trimEnd().split('\n').at(-1)?.replace('owned ', '') ?? ''
      return last === '' ? [] : last.split(',').map(Number)
    },
    output: () => errors,
  }
}

/** Batches of some devices, one after the other, each sent again until Kafka has it. */
export function startTraffic(place: Place, brokers: readonly string[], deviceCount = 24) {
  const session = ulid()
  const devices = Array.from({ length: deviceCount }, (_, index) => `dpu-${index}`)
  const sender = testSender(place, 2, brokers)
  const stopping = new AbortController()
  let seq = 0
  let failures = 0
  const running = (async () => {
    while (!stopping.signal.aborted) {
      seq++
      const batches = devices.map((device) => {
        const batch = headedBatch({ device, session, seq, count: 2 })
        return { ...batch, partition: partitionFor(batch.key, groupPartitions) }
      })
      for (;;) {
        try {
          await sender.send(batches)
          break
        } catch {
          failures++
        }
      }
      await new Promise((resume) => setTimeout(resume, 20))
    }
  })()
  return {
    session,
    devices,
    seq: () => seq,
    failures: () => failures,
    async stop() {
      stopping.abort()
      await running
    },
  }
}

/** Every batch is in the store, and every book counts each record once. @throws when it is not so in time. */
export async function allCountedOnce(
  place: Place,
  brokers: readonly string[],
  folder: string,
  { session, devices, seq }: { session: string; devices: string[]; seq: () => number },
): Promise<void> {
  const observer = await openTestKafka(place, {
    brokers,
    // It only looks: under other ids it fences nobody.
    group: `${place.group}-looks`,
  })
  onTestFinished(async () => observer[Symbol.asyncDispose]())
  const { accounts, streams } = booksOf(observer)
  const total = seq() * 2
  const wrong = (): string[] =>
    devices.flatMap((device) => {
      const key = `${device}/${session}/${device}/log`
      const [account, stream] = [accounts.get(key), streams.get(key)]
      const isRight =
        account?.records === total && account.acknowledged.through === seq() && stream?.records === total
      return isRight ? [] : [`${device}: ${account?.records} and ${stream?.records} of ${total}`]
    })
  await eventually('all is counted', 120, () => {
    const found = wrong()
    if (found.length > 0) throw new Error(found.join('; '))
    return true
  })
  const stored = await storedIn(folder)
  for (const device of devices) {
    for (let number = 1; number <= seq(); number++) {
      if (!stored.has(`${device}_${session}_${device}_log_${number}`))
        throw new Error(`${device} lacks ${number}`)
    }
  }
}
