// `dpulse password`: what a configuration holds instead of a password.
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { hashPassword } from '../plugins/contract/password.ts'
import { CommandFailure } from './failure.ts'

/** Reads one line, unseen where a person types it, and prints its hash. */
export async function printPasswordHash(input: NodeJS.ReadStream): Promise<void> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input, output: nowhere, terminal: input.isTTY })
  if (input.isTTY) process.stderr.write('Password: ')
  const given = await Promise.race([
    once(lines, 'line').then(([line]) => String(line)),
    once(lines, 'close').then(() => ''),
  ])
  lines.close()
  if (input.isTTY) process.stderr.write('\n')
  if (given === '') throw new CommandFailure('no password: it is the first line of the input', 2)
  process.stdout.write(`${await hashPassword(given)}\n`)
}
