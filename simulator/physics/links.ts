// Links and the light that they live on: a link is up when the card runs, a module is there, nothing holds it down and
// the light is strong enough. What changes is said by its driver in its own words.
import type { Device, PortKind } from '../model.ts'
import { bmcLog, printk } from './lines.ts'

/** dBm below which the receiver loses the link, and above which it finds it again. */
const lost = -11.6
const found = -11.2
const dark = -40

export function moveLinks(device: Device): void {
  const { kind, state } = device
  const { inner, strain } = state
  const isOn = state.power === 'on'
  for (let index = 0; index < state.ports.length; index++) {
    const port = state.ports[index]
    const ofKind = kind.ports[index]
    if (!port || !ofKind) continue
    const isEmpty = ((inner.empty >> index) & 1) === 1
    let isWanted = isOn && !isEmpty && ((strain.linksDown >> index) & 1) === 0
    if (ofKind.isOptical) {
      const { ageing } = port
      const flicker = (inner.life.float() - 0.5) * (0.1 + 0.6 * ageing ** 4)
      const isLit = isOn && !isEmpty
      port.txPower = isLit ? -0.4 - 3.2 * ageing ** 2 + flicker / 2 : dark
      port.rxPower = isLit ? -1.9 - 9.6 * ageing ** 3 + flicker : dark
      port.biasMilliamps = isLit ? 6.6 * (1 + 0.9 * ageing ** 2) : 0
      if (port.rxPower < (port.isUp ? lost : found)) isWanted = false
    }
    if (isWanted !== port.isUp) setLink(device, index, isWanted)
  }
}

function setLink(device: Device, index: number, isUp: boolean): void {
  const { kind, state } = device
  const port = state.ports[index]
  const ofKind = kind.ports[index]
  if (!port || !ofKind) return
  port.isUp = isUp
  port.carrierChanges++
  if (state.power !== 'on') return
  printk(device, isUp || ofKind.driver !== 'bonding' ? 6 : 4, lineOf(ofKind, isUp))
  if (!isUp && ofKind.isOptical && kind.bmc.flavour === 'bluefield')
    bmcLog(device, 'OK', 'OpenBMC.0.1.SensorCableStatusError', `p${index}_link sensor is now in error.`)
}

function lineOf({ driver, name, pci, bitsPerSecond }: PortKind, isUp: boolean): string {
  const gigabits = bitsPerSecond / 1e9
  switch (driver) {
    case 'ionic':
      return `ionic ${pci} ${name}: ${isUp ? `Link up - ${gigabits} Gbps` : 'Link down'}`
    case 'rvu_nicpf':
      return `${name} NIC Link is ${isUp ? `UP ${gigabits * 1000} Mbps Full duplex` : 'DOWN'}`
    case 'idpf': // says nothing itself; the bond that it is in does
      return isUp
        ? `bond0: (slave ${name}): link status definitely up, ${gigabits * 1000} Mbps full duplex`
        : `bond0: (slave ${name}): link status definitely down, disabling slave`
    case 'mlx5_core':
      return `mlx5_core ${pci} ${name}: Link ${isUp ? 'up' : 'down'}`
    default:
      return `${driver} ${pci} ${name}: Link is ${isUp ? `Up - ${gigabits}Gbps/Full - flow control off` : 'Down'}`
  }
}

/** A module is pulled and a new one plugged: the light of that port is young again. */
export function replaceOptics(device: Device, index: number): void {
  const port = device.state.ports[index]
  const ofKind = device.kind.ports[index]
  if (!port || !ofKind) return
  port.ageing = 0.02
  if (device.state.power !== 'on' || ofKind.driver !== 'mlx5_core') return
  printk(device, 6, `mlx5_core ${ofKind.pci}: Port module event: module ${index}, Cable unplugged`)
  printk(device, 6, `mlx5_core ${ofKind.pci}: Port module event: module ${index}, Cable plugged`)
}
