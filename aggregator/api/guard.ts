// What every request passes before it reaches a route: only this machine's own names in Host (a page elsewhere that
// rebinds its DNS name to 127.0.0.1 is refused), no other origin, bounded length; and the headers every answer carries.
import { isIP } from 'node:net'
import type { MiddlewareHandler } from 'hono'

const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

export interface GuardOptions {
  /** Addresses that the server listens on. */
  hosts: readonly string[]
  /** Further names by which it may be asked, where the configuration names some. */
  allowedHosts: readonly string[]
}

const mostUrl = 8192
const mostBody = 65_536
/** Of a change: a configuration of 128 KiB, as JSON at its worst. */
const mostPosted = 1024 * 1024

export function guard(options: GuardOptions): MiddlewareHandler {
  const loopbackOnly = options.hosts.every(isLoopback)
  const allowed = new Set(['localhost', ...options.allowedHosts.map((name) => name.toLowerCase())])
  const mayAsk = (host: string) => {
    const name = hostName(host)
    if (allowed.has(name)) return true
    // An address cannot be rebound, so one that is no loopback is fine where we listen on more than loopback.
    return isIP(name) !== 0 && (isLoopback(name) || !loopbackOnly)
  }
  return async (context, next) => {
    const { req } = context
    context.header('X-Content-Type-Options', 'nosniff')
    context.header('Referrer-Policy', 'no-referrer')
    context.header('Content-Security-Policy', contentSecurityPolicy)
    context.header('Cross-Origin-Resource-Policy', 'same-origin')
    const host = req.header('host') ?? ''
    const refuse = (status: 403 | 413 | 414, code: string, message: string) =>
      context.json({ error: { code, message } }, status)
    if (!mayAsk(host))
      return refuse(403, 'FOREIGN_HOST', `this server does not answer to the name ${quoted(host)}`)
    if (req.url.length > mostUrl) return refuse(414, 'URL_TOO_LONG', `a URL may have ${mostUrl} characters`)
    const most = req.method === 'POST' ? mostPosted : mostBody
    if (Number(req.header('content-length') ?? 0) > most || req.header('transfer-encoding') !== undefined) {
      return refuse(413, 'BODY_TOO_LARGE', `a body may have ${most} bytes, and says how many`)
    }
    if (isForeign(req.header('origin'), req.header('sec-fetch-site'), req.header('sec-fetch-mode'), host)) {
      return refuse(403, 'FOREIGN_ORIGIN', 'pages of other origins may not ask this server')
    }
    await next()
    if (req.path.startsWith('/api/')) context.header('Cache-Control', 'no-store')
    return undefined
  }
}

// Browsers send Origin with what could do harm, and Sec-Fetch-Site with everything. A link that is followed is fine.
function isForeign(
  origin: string | undefined,
  site: string | undefined,
  mode: string | undefined,
  host: string,
): boolean {
  if (origin !== undefined && origin.toLowerCase() !== `http://${host.toLowerCase()}`) return true
  return (site === 'cross-site' || site === 'same-site') && mode !== 'navigate'
}

function hostName(host: string): string {
  const bracketed = /^\[([^\]]+)\](:\d+)?$/.exec(host)
  return (bracketed?.[1] ?? host.replace(/:\d+$/, '')).toLowerCase()
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 100))
}
