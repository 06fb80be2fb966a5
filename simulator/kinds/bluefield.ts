// What both generations of BlueField have, run and say: two uplinks and a port for management, the sensors of their BMC,
// Open vSwitch in hardware, DOCA's services, mlx5.
import type { PortKind, SensorKind, Template } from '../model.ts'

export function bluefieldPorts(bitsPerSecond: number): PortKind[] {
  const uplink = (index: number): PortKind => ({
    name: `p${index}`,
    pci: `0000:03:00.${index}`,
    bitsPerSecond,
    driver: 'mlx5_core',
    isOptical: true,
    counterBits: 64,
  })
  const management: PortKind = {
    name: 'oob_net0',
    pci: 'MLNXBF17:00',
    bitsPerSecond: 1e9,
    driver: 'mlxbf_gige',
    isOptical: false,
    counterBits: 32,
  }
  return [uplink(0), uplink(1), management]
}

export const rail = (id: string, nominal: number, lowWarning: number, warning: number): SensorKind => ({
  id,
  kind: 'voltage',
  of: 'rail',
  nominal,
  lowWarning,
  warning,
})

const moduleTemperature = (index: number): SensorKind => ({
  id: `p${index}_temp`,
  kind: 'temperature',
  of: 'optics',
  index,
  lowWarning: 0,
  lowCritical: -5,
  warning: 70,
  critical: 75,
})

export const bluefieldTemperatures: readonly SensorKind[] = [
  {
    id: 'bluefield_temp',
    kind: 'temperature',
    of: 'asic',
    lowWarning: 5,
    lowCritical: 0,
    warning: 95,
    critical: 105,
  },
  moduleTemperature(0),
  moduleTemperature(1),
]

export const mlxServices: readonly string[] = [
  'ovs-vswitchd',
  'ovsdb-server',
  'mlnx_snap',
  'rasdaemon',
  'mlx_ipmid',
  'set_emu_param',
]

export const mlxChatter: readonly Template[] = [
  {
    service: 'mlnx_snap',
    severity: 6,
    perHour: 6,
    perLoad: 50,
    text: 'nvme-ctrl NvmeEmu0pf{int}: queue {int} of namespace {int} served {int} requests in {ms} ms',
  },
  {
    service: 'mlnx_snap',
    severity: 4,
    perHour: 0.3,
    perLoad: 8,
    text: 'bdev {uuid}: request 0x{hex} retried after {ms} ms',
  },
  { service: 'rasdaemon', severity: 6, perHour: 0.5, text: 'mc_event record {int} stored in {path}' },
  {
    service: 'ovs-vswitchd',
    severity: 6,
    perHour: 20,
    perLoad: 260,
    text: 'ovs|{int}|bridge|INFO|bridge ovsbr1: added interface pf0vf{int} on port {int}',
  },
  {
    service: 'ovs-vswitchd',
    severity: 4,
    perHour: 2,
    perLoad: 90,
    text: 'ovs|{int}|dpif|WARN|system@ovs-system: recirc_id({hex}),in_port({int}) eth(src={mac},dst={mac}) flow put took {ms} ms',
  },
  {
    service: 'ovs-vswitchd',
    severity: 4,
    perHour: 1,
    perLoad: 30,
    text: 'ovs|{int}|ofproto_dpif_upcall|WARN|upcall_cb failure: ukey installation fails for {ip} -> {ip}:{port}',
  },
  {
    service: 'ovs-vswitchd',
    severity: 6,
    perHour: 6,
    perLoad: 60,
    text: 'ovs|{int}|timeval|INFO|context switches: {int} voluntary, {int} involuntary',
  },
  {
    service: 'ovsdb-server',
    severity: 6,
    perHour: 4,
    text: 'ovs|{int}|jsonrpc|INFO|unix#{int}: connection from pid {pid} closed',
  },
  {
    service: 'mlx_ipmid',
    severity: 6,
    perHour: 6,
    text: 'request netfn 0x{int} cmd 0x{int} answered in {ms} ms',
  },
  {
    service: 'set_emu_param',
    severity: 6,
    perHour: 8,
    text: 'updated /run/emu_param/bluefield_temp in {ms} ms',
  },
  {
    service: 'doca-telemetry',
    severity: 6,
    perHour: 10,
    perLoad: 40,
    text: 'dts: provider sysfs read {int} counters in {ms} ms',
  },
  {
    service: 'doca-telemetry',
    severity: 4,
    perHour: 0.6,
    perLoad: 6,
    text: 'dts: fluent exporter {ip}:{port}: send buffer full, {int} records queued',
  },
  {
    service: 'kernel',
    severity: 6,
    perHour: 0.3,
    perLoad: 3,
    text: 'mlx5_core {pci}: mlx5e_rep_neigh_update: neigh {ip} lladdr {mac} connected',
  },
  {
    service: 'kernel',
    severity: 4,
    perHour: 0.1,
    perLoad: 0.6,
    text: 'mlx5_core {pci}: mlx5_cmd_out_err:808:(pid {pid}): MODIFY_FLOW_TABLE(0x93c) op_mod(0x0) failed, status bad parameter(0x3), syndrome (0x{hex}), err(-22)',
  },
]
