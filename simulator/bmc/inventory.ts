// What the system consists of: processor, memory, drives, each with what wears out or fails of it.
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import type { Bmc } from './bmc.ts'
import { makerOf } from './flavours.ts'
import type { Flavour } from './flavours.ts'
import { collection } from './query.ts'
import { base, link } from './router.ts'
import type { Call, Routes } from './router.ts'
import type { Health } from './sensors.ts'
import { worstOf } from './sensors.ts'

/** Corrected errors since the boot from which memory is no longer well. */
const manyCorrected = 100

export function inventoryRoutes({ system, hasInventory }: Flavour): Routes {
  const at = `Systems/${system}`
  const list = (call: Call, type: string, name: string, ids: readonly string[]) =>
    collection(call, { type, name, members: ids, show: (id) => ({ '@odata.id': `${call.path}/${id}` }) })
  const drives = ({ device }: Bmc) =>
    hasInventory ? device.kind.storage.map((_, index) => String(index)) : []
  return {
    [`${at}/Processors`]: {
      get: (call) => list(call, 'Processor', 'Processor Collection', hasInventory ? ['CPU_0'] : []),
    },
    [`${at}/Memory`]: {
      get: (call) => list(call, 'Memory', 'Memory Module Collection', hasInventory ? ['DIMM_0'] : []),
    },
    [`${at}/Storage`]: { get: (call) => list(call, 'Storage', 'Storage Collection', ['1']) },
    [`${at}/Storage/1`]: { get: ({ bmc, path }) => storageBody(bmc, path, drives(bmc)) },
    [`${at}/Storage/1/Drives/{}`]: {
      get: (call) => (drives(call.bmc).includes(call.ids[0] ?? '') ? driveBody(call) : undefined),
    },
    ...(hasInventory
      ? {
          [`${at}/Processors/CPU_0`]: { get: processorBody },
          [`${at}/Memory/DIMM_0`]: { get: memoryBody },
          [`${at}/Memory/DIMM_0/MemoryMetrics`]: { get: memoryMetrics },
        }
      : {}),
  }
}

function processorBody({ bmc, path }: Call): Json {
  const { kind } = bmc.device
  return {
    '@odata.id': path,
    '@odata.type': '#Processor.v1_18_0.Processor',
    Id: 'CPU_0',
    Name: 'CPU_0',
    Socket: 'CPU_0',
    ProcessorType: 'CPU',
    ProcessorArchitecture: kind.arch === 'arm64' ? 'ARM' : 'x86',
    InstructionSet: kind.arch === 'arm64' ? 'ARM-A64' : 'x86-64',
    Manufacturer: makerOf(bmc.device),
    TotalCores: kind.cores,
    TotalThreads: kind.cores,
    Status: { Health: 'OK', State: 'Enabled' },
  }
}

/** Of flavours that show memory at all. */
export function healthOfMemory({ device, flavour }: Bmc): Health {
  const { eccCorrectable, eccUncorrectable } = device.state.memory
  if (!flavour.hasInventory) return 'OK'
  return eccUncorrectable > 0 ? 'Critical' : eccCorrectable >= manyCorrected ? 'Warning' : 'OK'
}

function memoryBody({ bmc, path }: Call): Json {
  const { kind } = bmc.device
  return {
    '@odata.id': path,
    '@odata.type': '#Memory.v1_18_0.Memory',
    Id: 'DIMM_0',
    Name: 'DIMM_0',
    MemoryType: 'DRAM',
    MemoryDeviceType: 'DDR5',
    ErrorCorrection: 'SingleBitECC',
    CapacityMiB: Math.round(kind.memoryBytes / 1024 ** 2),
    Status: { Health: healthOfMemory(bmc), State: 'Enabled' },
    Metrics: { '@odata.id': `${path}/MemoryMetrics` },
  }
}

function memoryMetrics({ bmc, path }: Call): Json {
  const { eccCorrectable, eccUncorrectable } = bmc.device.state.memory
  return {
    '@odata.id': path,
    '@odata.type': '#MemoryMetrics.v1_7_0.MemoryMetrics',
    Id: 'MemoryMetrics',
    Name: 'Memory Metrics',
    CurrentPeriod: {
      CorrectableECCErrorCount: Math.floor(eccCorrectable),
      UncorrectableECCErrorCount: Math.floor(eccUncorrectable),
    },
  }
}

function storageBody(bmc: Bmc, path: string, drives: readonly string[]): Json {
  const health = worstOf(...drives.map((id) => healthOfDrive(bmc, Number(id))))
  return {
    '@odata.id': path,
    '@odata.type': '#Storage.v1_15_0.Storage',
    Id: '1',
    Name: 'Storage',
    Drives: drives.map((id) => link(`${path.slice(base.length + 1)}/Drives/${id}`)),
    'Drives@odata.count': drives.length,
    Status: { Health: health, HealthRollup: health, State: 'Enabled' },
  }
}

function healthOfDrive({ device }: Bmc, index: number): Health {
  const drive = device.state.drives[index]
  if (!drive) return 'OK'
  if (drive.availableSpare < 10) return 'Critical'
  return drive.percentUsed >= 90 || drive.mediaErrors > 0 ? 'Warning' : 'OK'
}

function driveBody({ bmc, ids: [id = ''], path }: Call): Json | undefined {
  const { kind, state } = bmc.device
  const [of, drive] = [kind.storage[Number(id)], state.drives[Number(id)]]
  if (!of || !drive) return undefined
  return {
    '@odata.id': path,
    '@odata.type': '#Drive.v1_17_0.Drive',
    Id: id,
    Name: `Drive ${id}`,
    Model: of.model,
    MediaType: 'SSD',
    Protocol: of.pci === '' ? 'eMMC' : 'NVMe',
    CapacityBytes: of.bytes,
    FailurePredicted: drive.percentUsed >= 100,
    PredictedMediaLifeLeftPercent: Math.max(0, Math.round(100 - drive.percentUsed)),
    Status: { Health: healthOfDrive(bmc, Number(id)), State: 'Enabled' },
  }
}
