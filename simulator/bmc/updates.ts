// Updates of firmware: an image is taken, checked and written as a task that takes simulated time; the new version runs after the
// next reset of what it is for. One at a time, as real services have it.
import { bmcPartOf } from './flavours.ts'
import type { Bmc } from './bmc.ts'
import { Refusal } from './messages.ts'
import type { Plan, TaskMessage } from './tasks.ts'

/** What a client brought, or named. */
export interface Image {
  readonly name: string
  /** Undefined where it is fetched from elsewhere. */
  readonly size: number | undefined
  /** Its first bytes, as text. */
  readonly head: string
}

/** Simulated time from the first byte to the last check. */
const updateMs = 90_000
const transferPart = 0.3
const verifyPart = 0.5

interface Pending {
  readonly part: string
  readonly version: string
  /** The boot that ran when it was written; the next one takes it. */
  readonly bootedAtMs: number
}

export class Updates {
  readonly #bmc: Bmc
  #pending = new Map<string, Pending>()
  #isRunning = false

  constructor(bmc: Bmc) {
    this.#bmc = bmc
  }

  get isActive(): boolean {
    return this.#pending.size > 0
  }

  /** @param targets Ids of the inventory. @throws Refusal where one runs, or a target is none. */
  begin(image: Image, targets: readonly string[]): Plan {
    const { state } = this.#bmc.device
    if (this.#isRunning) throw new Refusal('ServiceTemporarilyUnavailable', ['30'], { 'Retry-After': '30' })
    const unknown = targets.find((one) => state.firmware[one] === undefined)
    if (unknown !== undefined) throw new Refusal('ResourceNotFound', ['SoftwareInventory', unknown])
    const part = targets[0] ?? this.#partOf(image)
    const version = this.#versionOf(part, image)
    const isSame = version === state.firmware[part]
    const isBroken = image.size === 0
    const outcome = isBroken ? 'Critical' : 'OK'
    this.#isRunning = true
    this.#bmc.journal(`phosphor-software-manager: ${image.name} for ${part} was taken`)
    return {
      name: `Update of ${part}`,
      milliseconds: updateMs,
      outcome,
      drop: () => {
        this.#isRunning = false
      },
      messages: messagesOf(part, version, isBroken ? 'broken' : isSame ? 'same' : 'new'),
      finish: () => {
        this.#isRunning = false
        if (isBroken)
          return this.#tell(
            'Critical',
            'VerificationFailed',
            `Verification of image '${version}' at '${part}' failed.`,
          )
        if (isSame) return
        this.#pending.set(part, { part, version, bootedAtMs: state.bootedAtMs })
        this.#tell(
          'OK',
          'AwaitToActivate',
          `Awaiting for an action to proceed with activating image '${version}' on '${part}'.`,
        )
      },
    }
  }

  /** Whoever restarted the system, its firmware is the new one from then on. */
  advance(): void {
    for (const one of this.#pending.values()) {
      if (one.bootedAtMs !== this.#bmc.device.state.bootedAtMs) this.#activate(one)
    }
  }

  systemRestarted(): void {
    this.#activateIf((part) => part !== bmcPartOf(this.#bmc.device))
  }

  bmcRestarted(): void {
    this.#activateIf((part) => part === bmcPartOf(this.#bmc.device))
  }

  #activateIf(isMeant: (part: string) => boolean): void {
    for (const one of this.#pending.values()) if (isMeant(one.part)) this.#activate(one)
  }

  #activate({ part, version }: Pending): void {
    this.#pending.delete(part)
    this.#bmc.device.state.firmware[part] = version
    this.#tell('OK', 'UpdateSuccessful', `Device '${part}' successfully updated with image '${version}'.`)
  }

  #tell(severity: 'OK' | 'Critical', name: string, message: string): void {
    this.#bmc.log(severity, `Update.1.0.${name}`, message)
  }

  /** The part whose versions or name the image speaks of; else the BMC, to which images go by themselves. */
  #partOf(image: Image): string {
    const { device } = this.#bmc
    const parts = Object.keys(device.state.firmware)
    const named = parts.find((part) => knownIn(image, device.kind.firmware[part] ?? []) !== undefined)
    const found =
      named ??
      parts.find((part) => image.name.toLowerCase().includes(part.toLowerCase())) ??
      bmcPartOf(device) ??
      parts[0]
    if (found === undefined) throw new Refusal('GeneralError', ['nothing here can be updated'])
    return found
  }

  /** One that the kind is known to have, else what its name looks like, else the newest. */
  #versionOf(part: string, image: Image): string {
    const versions = this.#bmc.device.kind.firmware[part] ?? []
    const looks = /\d+(?:[._-]\d+)+/.exec(image.name)?.[0]
    return knownIn(image, versions) ?? looks ?? versions.at(-1) ?? '1.0.0'
  }
}

const knownIn = ({ name, head }: Image, versions: readonly string[]): string | undefined =>
  versions.findLast((version) => name.includes(version) || head.includes(version))

function messagesOf(part: string, version: string, is: 'new' | 'same' | 'broken'): TaskMessage[] {
  const message = (
    after: number,
    name: string,
    text: string,
    severity: TaskMessage['severity'] = 'OK',
  ): TaskMessage => ({
    after,
    messageId: `Update.1.0.${name}`,
    message: text,
    args: [part, version],
    severity,
  })
  return [
    message(0, 'TargetDetermined', `The target device '${part}' will be updated with image '${version}'.`),
    message(0.02, 'TransferringToComponent', `Image '${version}' is being transferred to '${part}'.`),
    message(transferPart, 'VerifyingAtComponent', `Image '${version}' is being verified at '${part}'.`),
    ...(is === 'broken'
      ? [
          message(
            verifyPart,
            'VerificationFailed',
            `Verification of image '${version}' at '${part}' failed.`,
            'Critical',
          ),
        ]
      : is === 'same'
        ? [
            message(
              verifyPart,
              'UpdateSkippedSameVersion',
              `The update to device '${part}' with image '${version}' was skipped because the component version is identical.`,
            ),
          ]
        : [
            message(
              verifyPart,
              'InstallingOnComponent',
              `Image '${version}' is being installed on '${part}'.`,
            ),
            message(
              1,
              'AwaitToActivate',
              `Awaiting for an action to proceed with activating image '${version}' on '${part}'.`,
            ),
          ]),
  ]
}
