// Who may ask: accounts with roles, sessions that time out, Basic. Passwords are held as digests, tokens are random.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { Refusal } from './messages.ts'

export type Privilege =
  | 'Login'
  | 'ConfigureManager'
  | 'ConfigureUsers'
  | 'ConfigureSelf'
  | 'ConfigureComponents'
/** Predefined roles (DSP0266 §13.3). */
export const roles = {
  Administrator: ['Login', 'ConfigureManager', 'ConfigureUsers', 'ConfigureSelf', 'ConfigureComponents'],
  Operator: ['Login', 'ConfigureSelf', 'ConfigureComponents'],
  ReadOnly: ['Login', 'ConfigureSelf'],
} as const satisfies Record<string, readonly Privilege[]>
export type Role = keyof typeof roles
export const roleNames = Object.keys(roles) as readonly Role[] // the keys of an object literal

export interface Account {
  readonly name: string
  role: Role
  isEnabled: boolean
  digest: Buffer
}

export interface Session {
  readonly id: string
  readonly token: string
  readonly user: string
  readonly address: string
  readonly createdMs: number
  lastUsedMs: number
}

/** Who asks, and by which session. */
export interface User {
  readonly name: string
  readonly role: Role
  readonly session: Session | undefined
}

const mostSessions = 64
export const mostAccounts = 15
export const passwordLength = { least: 8, most: 64 }

const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest()

export class Access {
  readonly accounts = new Map<string, Account>()
  readonly sessions = new Map<string, Session>()
  readonly #byToken = new Map<string, Session>()
  readonly #nowMs: () => number
  timeoutSeconds = 1800

  constructor(user: string, password: string, nowMs: () => number) {
    this.#nowMs = nowMs
    this.addAccount(user, password, 'Administrator')
  }

  addAccount(name: string, password: string, role: Role, isEnabled = true): void {
    this.accounts.set(name, { name, role, isEnabled, digest: digestOf(password) })
  }

  setPassword(account: Account, password: string): void {
    account.digest = digestOf(password)
  }

  /** With its sessions. */
  removeAccount(name: string): void {
    this.accounts.delete(name)
    for (const one of this.sessions.values()) if (one.user === name) this.end(one)
  }

  /** @throws Refusal where the password is another, or there is no room. */
  begin(name: string, password: string, address: string): Session {
    this.#forgetIdle()
    if (!this.#check(name, password)) {
      throw new Refusal('ResourceAtUriUnauthorized', [
        '/redfish/v1/SessionService/Sessions',
        'Invalid username or password',
      ])
    }
    if (this.sessions.size >= mostSessions)
      throw new Refusal('SessionLimitExceeded', [], { 'Retry-After': '60' })
    const nowMs = this.#nowMs()
    const session: Session = {
      id: randomBytes(8).toString('hex'),
      token: randomBytes(20).toString('base64url'),
      user: name,
      address,
      createdMs: nowMs,
      lastUsedMs: nowMs,
    }
    this.sessions.set(session.id, session)
    this.#byToken.set(session.token, session)
    return session
  }

  end(session: Session): void {
    this.sessions.delete(session.id)
    this.#byToken.delete(session.token)
  }

  /** Undefined where the headers name nobody. @throws Refusal where they name one who may not. */
  identify(headers: IncomingHttpHeaders): User | undefined {
    this.#forgetIdle()
    const token = headers['x-auth-token']
    if (typeof token === 'string') {
      const session = this.#byToken.get(token)
      const account = session && this.accounts.get(session.user)
      if (!session || account?.isEnabled !== true) throw new Refusal('NoValidSession')
      session.lastUsedMs = this.#nowMs()
      return { name: account.name, role: account.role, session }
    }
    const [scheme = '', encoded = ''] = (headers.authorization ?? '').split(' ')
    if (scheme.toLowerCase() !== 'basic') return undefined
    const [, name = '', password = ''] =
      /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, 'base64').toString()) ?? []
    const account = this.#check(name, password)
    if (!account) throw new Refusal('NoValidSession', [], { 'WWW-Authenticate': 'Basic realm="BMC"' })
    return { name: account.name, role: account.role, session: undefined }
  }

  #check(name: string, password: string): Account | undefined {
    const account = this.accounts.get(name)
    const isRight = timingSafeEqual(digestOf(password), account?.digest ?? digestOf(''))
    return account?.isEnabled === true && isRight ? account : undefined
  }

  #forgetIdle(): void {
    const oldest = this.#nowMs() - this.timeoutSeconds * 1000
    for (const one of this.sessions.values()) if (one.lastUsedMs < oldest) this.end(one)
  }
}

/** @throws Refusal where the user may not. */
export function demand({ role }: User, privilege: Privilege): void {
  const has: readonly Privilege[] = roles[role]
  if (!has.includes(privilege)) throw new Refusal('InsufficientPrivilege')
}
