// What programs write to the log all day: templates of the kind with their holes filled anew, more of them with more
// load, and some many times in a row.
import type { Device, Kind, PortKind, Template } from '../model.ts'
import { stepMs } from '../model.ts'
import type { Random } from '../random.ts'
import { wholes } from './counters.ts'
import { log, printk } from './lines.ts'

const hours = stepMs / 3_600_000
/** Of the lines, so many begin a row of the same kind; and how long such a row is at least, and at most. */
const rowChance = 0.006
const shortestRow = 6
const longestRow = 400
const rowPerStep = 40

/** Templates of a kind as parts, once for all devices of the kind. */
interface Compiled {
  readonly rest: number
  readonly perLoad: number
  readonly templates: readonly { readonly template: Template; readonly parts: readonly string[] }[]
}

const compiled = new WeakMap<readonly Template[], Compiled>()

function compile(templates: readonly Template[]): Compiled {
  let one = compiled.get(templates)
  if (one === undefined) {
    one = {
      rest: templates.reduce((sum, { perHour }) => sum + perHour, 0),
      perLoad: templates.reduce((sum, { perLoad = 0 }) => sum + perLoad, 0),
      templates: templates.map((template) => ({ template, parts: template.text.split(/[{}]/) })),
    }
    compiled.set(templates, one)
  }
  return one
}

export function chat(device: Device): void {
  const { state, kind } = device
  const { inner } = state
  const { talk, repeat } = inner
  const all = compile(kind.chatter)
  const rate = (all.rest + all.perLoad * state.load.network) * hours
  for (inner.quietFor -= rate; inner.quietFor <= 0; inner.quietFor += talk.until(1)) {
    const index = draw(all, state.load.network, talk)
    write(device, all, index)
    if (repeat.left === 0 && talk.chance(rowChance)) {
      repeat.template = index
      repeat.left = Math.min(longestRow, Math.floor(talk.pareto(shortestRow, 1.1)))
    }
  }
  for (let count = 0; repeat.left > 0 && count < rowPerStep; count++, repeat.left--)
    write(device, all, repeat.template)
  for (let index = 0; index < state.services.length; index++) {
    const lines = wholes((state.strain.lines[index] ?? 0) * (stepMs / 1000), talk.float())
    if (lines > 0) flood(device, all, state.services[index]?.name ?? '', lines)
  }
}

function draw(all: Compiled, load: number, random: Random): number {
  let left = random.float() * (all.rest + all.perLoad * load)
  for (let index = 0; index < all.templates.length; index++) {
    const template = all.templates[index]?.template
    left -= (template?.perHour ?? 0) + (template?.perLoad ?? 0) * load
    if (left < 0) return index
  }
  return all.templates.length - 1
}

/** One service writes as fast as it can: what it writes otherwise too. */
function flood(device: Device, all: Compiled, service: string, lines: number): void {
  const mine: number[] = []
  for (let index = 0; index < all.templates.length; index++) {
    if (all.templates[index]?.template.service === service) mine.push(index)
  }
  const { talk } = device.state.inner
  for (let count = 0; count < lines; count++) {
    if (mine.length > 0) write(device, all, talk.pick(mine))
    else
      log(
        device,
        service,
        4,
        `poll: events 0x${talk.below(64).toString(16)} on fd ${talk.below(900)}, again`,
        0,
      )
  }
}

function write(device: Device, all: Compiled, index: number): void {
  const one = all.templates[index]
  if (!one) return
  const { service, severity } = one.template
  const { services, inner } = device.state
  const slot = services.findIndex(({ name }) => name === service)
  if (slot >= 0 && services[slot]?.isActive !== true) return // who is down says nothing
  let text = one.parts[0] ?? ''
  for (let part = 1; part < one.parts.length; part += 2)
    text += fill(device, one.parts[part] ?? '') + (one.parts[part + 1] ?? '')
  if (service === 'kernel') printk(device, severity, text)
  else log(device, service, severity, text, inner.services[slot]?.pid ?? 1000 + inner.talk.below(60_000))
}

const users = ['root', 'ubuntu', 'admin', 'dpuadm', 'nagios', 'deploy', 'svc-backup']
const folders = ['/var/lib', '/run', '/opt', '/etc', '/srv/volumes', '/var/log']

const hex = (random: Random, digits: number): string => {
  let text = ''
  while (text.length < digits) text += random.below(0x10000).toString(16).padStart(4, '0')
  return text.slice(0, digits)
}

const uplinkOf = ({ ports }: Kind, random: Random): PortKind | undefined =>
  random.pick(ports.filter(({ isOptical }) => isOptical))

/** What stands in a hole of a template. */
function fill(device: Device, hole: string): string {
  const { kind, state } = device
  const random = state.inner.talk
  switch (hole) {
    case 'int':
      return `${Math.floor(random.pareto(1, 0.6)) % 1_000_000}`
    case 'hex':
      return hex(random, 8)
    case 'ip':
      return `10.${random.below(32)}.${random.below(256)}.${1 + random.below(254)}`
    case 'port':
      return `${1024 + random.below(64_000)}`
    case 'uuid':
      return `${hex(random, 8)}-${hex(random, 4)}-4${hex(random, 3)}-a${hex(random, 3)}-${hex(random, 12)}`
    case 'ms':
      return random.pareto(0.8, 1.1).toFixed(3)
    case 'pid':
      return `${300 + random.below(60_000)}`
    case 'user':
      return random.pick(users)
    case 'path':
      return `${random.pick(folders)}/${hex(random, 6)}`
    case 'mac':
      return `02:${hex(random, 10).match(/../g)?.join(':') ?? ''}`
    case 'if':
      return uplinkOf(kind, random)?.name ?? 'eth0'
    case 'pci':
      return uplinkOf(kind, random)?.pci ?? ''
    case 'svc':
      return random.pick(kind.services)
    default:
      return hole
  }
}
