// What a broker means when it says no: its codes (MQTT 3.1.1 §3.2.2.3, MQTT 5 §2.4) as errors that tell a person what to
// mend. Brokers of 3.1.1 say little: most close the connection.
import { RetryableError } from '../contract/errors.ts'

const meanings: Readonly<Record<number, string>> = {
  1: 'it does not speak this version of MQTT',
  2: 'the client id is refused',
  3: 'it is not available',
  4: 'bad user name or password',
  5: 'not authorized: no login, a wrong one, or no right',
  128: 'unspecified',
  129: 'malformed packet',
  130: 'protocol error',
  132: 'it does not speak this version of MQTT',
  133: 'the client id is refused',
  134: 'bad user name or password',
  135: 'not authorized: no login, a wrong one, or no right',
  136: 'it is not available',
  137: 'it is busy',
  138: 'banned',
  139: 'it is shutting down',
  140: 'bad authentication method',
  141: 'it heard nothing for too long',
  142: 'another client has this client id',
  143: 'the topic filter is not allowed',
  144: 'the topic is not allowed',
  147: 'more messages in flight than it takes',
  149: 'the packet is too large',
  150: 'too many messages',
  151: 'a quota is exceeded',
  152: 'an administrator did it',
  154: 'it keeps no retained messages',
  155: 'this quality of service is not supported',
  156: 'use another server',
  157: 'the server moved',
  158: 'shared subscriptions are not supported',
  159: 'too many connections at once',
  160: 'the connection lasted too long',
  162: 'wildcards are not supported',
}

const named = (code: number): string => `${meanings[code] ?? 'it does not say why'} (code ${code})`
const codeIn = (error: unknown): number | undefined => {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined
  return typeof code === 'number' ? code : undefined
}

/** Whether a broker said that it speaks another version, and told so. */
export const refusesVersion = (error: unknown): boolean => [1, 132].includes(codeIn(error) ?? 0)

/** What passes by itself; the others somebody must mend. */
const passing = [3, 136, 137, 139, 141, 142, 147, 150, 151, 152, 156, 157, 159, 160]
const kindOf = (code: number) => (passing.includes(code) ? 'PEER_UNREACHABLE' : 'PEER_REFUSED')

/** What ended a connection, or an attempt at one: a refusal of the broker tells whom it refused. */
export function connectError(error: Error, username: string | undefined): Error {
  const code = codeIn(error)
  if (code === undefined) return error
  const who = username === undefined ? 'without a user name' : `as ${username}`
  const what = [4, 5, 134, 135].includes(code) ? `the login ${who}` : 'the connection'
  return new RetryableError(kindOf(code), `the broker refuses ${what}: ${named(code)}`, { cause: error })
}

export const disconnectError = (code: number): Error =>
  new RetryableError(kindOf(code), `the broker ended the connection: ${named(code)}`)

/** The library gives the SUBACK along, with one code for each topic: here there is one. */
export function subscribeError(error: unknown, topic: string): Error {
  const { packet } = error as { packet?: { granted?: readonly unknown[] } }
  const granted = packet?.granted?.[0]
  const code = typeof granted === 'number' ? granted : codeIn(error)
  if (code === undefined) return error instanceof Error ? error : new Error(String(error))
  const text = `the broker refuses the subscription to ${topic}: ${named(code)}`
  return new RetryableError('PEER_REFUSED', text, { cause: error })
}

/** A PUBACK of MQTT 5 that says no; undefined where the error is none. */
export function publishError(error: unknown, topic: string): RetryableError | undefined {
  const code = codeIn(error)
  if (code === undefined || code < 128) return undefined
  const kind = [136, 137, 147, 150, 151].includes(code) ? 'PEER_OVERLOADED' : 'PEER_REFUSED'
  const text = `the broker refuses a message to ${topic}: ${named(code)}`
  return new RetryableError(kind, text, { cause: error })
}
