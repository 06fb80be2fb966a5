// Logins at the embedded broker: who a client is, and for which collector it may speak. A password costs much to check, on
// purpose; so a right one is remembered, few are checked at once, and nobody may make others wait for long.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { fitsPassword } from '../plugins/contract/password.ts'

export interface User {
  /** As `hashPassword` made it. */
  password: string
  /** The collector that it is; without it, it may speak and read for all. */
  collector?: string | undefined
}

export interface LoginOptions {
  users: Readonly<Record<string, User>>
  /** Clients of this machine need no login. */
  loopback: boolean
  limits?: Partial<LoginLimits>
}

export interface LoginLimits {
  /** Passwords that are checked at once; each holds a thread and 32 MiB. */
  checks: number
  /** Clients that wait for that, and from one address. */
  waiting: number
  waitingPerPeer: number
}

const loginLimits: LoginLimits = { checks: 2, waiting: 2000, waitingPerPeer: 50 }

/** Who tried, as far as it is known. */
export interface Client {
  /** Address without port. */
  peer: string
  /** The collector that its certificate names. */
  owner: string | undefined
}

export type Verdict =
  | { let: 'in'; collector: string | undefined }
  | { let: 'out'; code: 3 | 4 | 5; reason: string }

const isLoopback = (peer: string): boolean => /^(127\.|::1$|::ffff:127\.)/.test(peer)
/** Of nobody: who guesses names must not hear from the time it takes which there are. */
const nobody = '$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'

export class Logins {
  readonly #options: LoginOptions
  readonly #limits: LoginLimits
  /** Of passwords that were right, under a key of this run. */
  readonly #right = new Map<string, Buffer>()
  readonly #key = randomBytes(32)
  readonly #waiting: (() => void)[] = []
  readonly #peers = new Map<string, number>()
  #checks = 0

  constructor(options: LoginOptions) {
    this.#options = options
    this.#limits = { ...loginLimits, ...options.limits }
  }

  async look(client: Client, name: string | undefined, password: Uint8Array | undefined): Promise<Verdict> {
    const { users, loopback } = this.#options
    if (name === undefined || password === undefined) {
      if (client.owner !== undefined) return { let: 'in', collector: client.owner }
      if (loopback && isLoopback(client.peer)) return { let: 'in', collector: undefined }
      return { let: 'out', code: 5, reason: 'a login is needed' }
    }
    const user = Object.hasOwn(users, name) ? users[name] : undefined
    const isRight = await this.#fits(client.peer, name, password, user)
    if (isRight === undefined) return { let: 'out', code: 3, reason: 'too many logins at once' }
    if (!user || !isRight) return { let: 'out', code: 4, reason: `wrong user name or password for ${name}` }
    const { collector = client.owner } = user
    if (client.owner !== undefined && client.owner !== collector) {
      const reason = `the user ${name} speaks for ${collector}, the certificate for ${client.owner}`
      return { let: 'out', code: 5, reason }
    }
    return { let: 'in', collector }
  }

  /** Undefined where too many wait. */
  async #fits(peer: string, name: string, password: Uint8Array, user?: User): Promise<boolean | undefined> {
    const mark = createHmac('sha256', this.#key).update(password).digest()
    const known = this.#right.get(name)
    if (known && timingSafeEqual(known, mark)) return true
    const { waiting, waitingPerPeer, checks } = this.#limits
    const ofPeer = this.#peers.get(peer) ?? 0
    if (this.#waiting.length >= waiting || ofPeer >= waitingPerPeer) return undefined
    this.#peers.set(peer, ofPeer + 1)
    try {
      if (this.#checks >= checks) await new Promise<void>((resolve) => this.#waiting.push(resolve))
      else this.#checks++
      try {
        // Meanwhile another connection of the same client may have been found right.
        const found = this.#right.get(name)
        if (found && timingSafeEqual(found, mark)) return true
        const fits = await fitsPassword(password, user?.password ?? nobody)
        if (fits && user) this.#right.set(name, mark)
        return fits && user !== undefined
      } finally {
        const next = this.#waiting.shift()
        if (next) next()
        else this.#checks--
      }
    } finally {
      const left = (this.#peers.get(peer) ?? 1) - 1
      if (left > 0) this.#peers.set(peer, left)
      else this.#peers.delete(peer)
    }
  }
}
