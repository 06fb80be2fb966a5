// Who may change devices over HTTP: everybody who reaches the API while nobody has to log in, else the users of
// `mqtt.login` that speak for no single collector.
import type { Context, MiddlewareHandler } from 'hono'
import { getConnInfo } from '@hono/node-server/conninfo'
import { Logins } from '../broker-login.ts'
import type { LoginOptions } from '../broker-login.ts'

/** Under which the name of the user is found in the context of a request. */
const userKey = 'user'

/** Whoever changes something: the user that logged in, else who it says it is. */
export function whoOf(context: Context, claimed: string | undefined): string {
  const user: unknown = context.get(userKey)
  return typeof user === 'string' ? user : (claimed ?? `someone at ${peerOf(context)}`)
}

export function mayChange(login: LoginOptions | undefined): MiddlewareHandler {
  if (!login) return (_, next) => next()
  const logins = new Logins(login)
  return async (context, next) => {
    const given = basic(context.req.header('authorization'))
    const verdict = await logins.look(
      { peer: peerOf(context), owner: undefined },
      given?.name,
      given?.password,
    )
    const refuse = (status: 401 | 403 | 503, code: string, message: string) =>
      context.json({ error: { code, message } }, status, {
        ...(status === 401 && { 'WWW-Authenticate': 'Basic realm="dpulse", charset="UTF-8"' }),
        ...(status === 503 && { 'Retry-After': '1' }),
      })
    if (verdict.let === 'out') {
      if (verdict.code === 3) return refuse(503, 'BUSY', verdict.reason)
      return refuse(401, 'LOGIN_NEEDED', `${verdict.reason}; DPULSE_USER and DPULSE_PASSWORD say who you are`)
    }
    if (verdict.collector !== undefined) {
      const message = `${given?.name ?? ''} speaks for ${verdict.collector} only and may change nothing`
      return refuse(403, 'NOT_ALLOWED', message)
    }
    if (given) context.set(userKey, given.name)
    await next()
    return undefined
  }
}

function peerOf(context: Context): string {
  try {
    return getConnInfo(context).remote.address ?? 'an unknown address'
  } catch {
    return 'an unknown address' // a request that came over no socket
  }
}

/** RFC 7617, in UTF-8. */
function basic(header: string | undefined): { name: string; password: Uint8Array } | undefined {
  const encoded = /^Basic +([A-Za-z0-9+/=]{1,2000})$/i.exec(header ?? '')?.[1]
  if (encoded === undefined) return undefined
  const bytes = Buffer.from(encoded, 'base64')
  const at = bytes.indexOf(0x3a)
  return at < 0 ? undefined : { name: bytes.toString('utf8', 0, at), password: bytes.subarray(at + 1) }
}
