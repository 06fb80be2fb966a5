// Errors of memory and of the bus: each has its rate in the background, the rest is strain. They count, and the kernel
// tells of them as EDAC and AER do.
import type { Device } from '../model.ts'
import { stepMs } from '../model.ts'
import { wholes } from './counters.ts'
import { printk } from './lines.ts'

const seconds = stepMs / 1000
/** Once in three weeks, and once in four days. */
const correctableRate = 1 / (21 * 86_400)
const aerRate = 1 / (4 * 86_400)
/** The kernel holds back what comes faster. */
const toldInStep = 3

const layers = [
  { layer: 'Physical Layer', agent: 'Receiver ID', status: '00000001', bit: '[ 0] RxErr                 ' },
  {
    layer: 'Data Link Layer',
    agent: 'Transmitter ID',
    status: '00001000',
    bit: '[12] Timeout               ',
  },
  { layer: 'Data Link Layer', agent: 'Receiver ID', status: '00000040', bit: '[ 6] BadTLP                ' },
] as const

export function moveErrors(device: Device): void {
  const { memory, aer, strain, inner } = device.state
  const { errors } = inner
  const correctable = wholes((correctableRate + strain.eccCorrectable) * seconds, errors.float())
  if (correctable > 0) {
    memory.eccCorrectable += correctable
    printk(device, 4, memoryLine(device, 'CE', correctable))
  }
  const uncorrectable = wholes(strain.eccUncorrectable * seconds, errors.float())
  if (uncorrectable > 0) {
    memory.eccUncorrectable += uncorrectable
    printk(device, 3, memoryLine(device, 'UE', uncorrectable))
    const page = errors.below(2 ** 22).toString(16)
    printk(device, 3, `Memory failure: 0x${page}: recovery action for dirty LRU page: Recovered`)
  }
  const corrected = wholes((aerRate + strain.aerCorrectable) * seconds, errors.float())
  aer.correctable += corrected
  for (let told = 0; told < Math.min(corrected, toldInStep); told++) tellCorrected(device)
  const nonfatal = wholes(strain.aerNonfatal * seconds, errors.float())
  aer.nonfatal += nonfatal
  if (nonfatal > 0) tellNonfatal(device)
}

function memoryLine(device: Device, type: 'CE' | 'UE', count: number): string {
  const { errors } = device.state.inner
  const page = errors.below(2 ** 22).toString(16)
  const offset = (errors.below(64) * 64).toString(16)
  const label = 'mc#0csrow#0channel#0'
  const syndrome = type === 'CE' ? ` syndrome:0x${errors.below(256).toString(16)}` : ''
  return `EDAC MC0: ${count} ${type} memory read error on ${label} (csrow:0 channel:0 page:0x${page} offset:0x${offset} grain:8${syndrome})`
}

function tellCorrected(device: Device): void {
  const { kind, state } = device
  const first = kind.ports[0]
  if (!first) return
  const { layer, agent, status, bit } = state.inner.errors.pick(layers)
  const who = `${first.driver} ${first.pci}`
  printk(device, 4, `pcieport 0000:00:00.0: AER: Corrected error received: ${first.pci}`)
  printk(device, 4, `${who}: PCIe Bus Error: severity=Corrected, type=${layer}, (${agent})`)
  printk(device, 4, `${who}:   device [${kind.pciId}] error status/mask=${status}/0000e000`)
  printk(device, 4, `${who}:    ${bit}`)
}

function tellNonfatal(device: Device): void {
  const first = device.kind.ports[0]
  if (!first) return
  const who = `${first.driver} ${first.pci}`
  printk(device, 3, `pcieport 0000:00:00.0: AER: Uncorrected (Non-Fatal) error received: ${first.pci}`)
  printk(
    device,
    3,
    `${who}: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)`,
  )
  printk(device, 3, `${who}:   device [${device.kind.pciId}] error status/mask=00004000/00400000`)
  printk(device, 3, `${who}:    [14] CmpltTO                (First)`)
  printk(device, 6, 'pcieport 0000:00:00.0: AER: device recovery successful')
}
