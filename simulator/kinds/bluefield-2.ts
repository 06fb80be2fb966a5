// NVIDIA BlueField-2, the E-series with a BMC of its own: eight A72 cores, 16 GB, eMMC only.
import type { Kind } from '../model.ts'
import { bluefieldPorts, bluefieldTemperatures, mlxChatter, mlxServices, rail } from './bluefield.ts'
import { armBoot, linuxChatter, rootBoot } from './linux.ts'

export const bluefield2: Kind = {
  name: 'bluefield-2',
  vendor: 'https://www.mellanox.com', // as its SMBIOS says
  model: 'BlueField-2 E-Series DPU 100GbE Dual-Port QSFP56',
  partNumber: 'MBF2M516C-CECOT',
  serial: 'MT23##XZ####',
  pciId: '15b3:a2d6',
  arch: 'arm64',
  share: 25,
  cores: 8,
  memoryBytes: 17_179_869_184,
  ports: bluefieldPorts(100e9),
  sensors: [
    ...bluefieldTemperatures,
    rail('12V_PCIe', 12.2, 10.4, 13.6),
    rail('1V_BMC', 0.996, 0.9, 1.1),
    rail('1_2V_BMC', 1.196, 1.1, 1.3),
    rail('1_8V', 1.801, 1.6, 2),
    rail('1_8V_BMC', 1.803, 1.6, 2),
    rail('2_5V', 2.503, 2.2, 2.8),
    rail('3_3V', 3.31, 3, 3.6),
    rail('5V', 5.02, 4.5, 5.5),
    rail('VDD', 0.85, 0.7, 1),
    rail('VDDQ', 1.21, 1.1, 1.3),
  ],
  power: { idle: 34, full: 74 },
  thermal: { idle: 23, full: 55, seconds: 48, throttle: 98, shutdown: 115 },
  fans: 0, // cooled by those of the server
  storage: [{ model: 'eMMC DG4064', bytes: 62_537_072_640, pci: '' }],
  accelerators: ['crypto', 'regex', 'compression'],
  services: [...mlxServices, 'dockerd', 'containerd'],
  firmware: {
    BMC_Firmware: ['23.03-3', '23.09-6', '24.01-5'],
    DPU_ATF: [
      'v2.2(release):3.9.3-7-g8f2d8ca',
      'v2.2(release):4.2.2-3-ged2a420',
      'v2.2(release):4.5.0-39-gc9b3ecb',
    ],
    DPU_NIC: ['24.35.2000', '24.36.7506', '24.38.1002', '24.39.2048'],
    DPU_OFED: [
      'MLNX_OFED_LINUX-5.8-1.1.2.1',
      'MLNX_OFED_LINUX-23.07-0.5.0.0',
      'MLNX_OFED_LINUX-23.10-0.5.5.0',
    ],
    DPU_OS: [
      'DOCA_1.5.0_BSP_3.9.3_Ubuntu_20.04',
      'DOCA_2.2.0_BSP_4.2.2_Ubuntu_22.04',
      'DOCA_2.5.0_BSP_4.5.0_Ubuntu_22.04',
    ],
    DPU_UEFI: ['BlueField:3.7.0-20-g98daf29', 'BlueField:3.9.3-7-g8f2d8ca', 'BlueField:4.2.2-2-g1174066'],
  },
  chatter: [...linuxChatter, ...mlxChatter],
  boot: [
    ...armBoot(
      '5.15.0-1021-bluefield',
      'https://www.mellanox.com BlueField SoC/BlueField SoC, BIOS {fw DPU_UEFI}',
    ),
    'mlx5_core 0000:03:00.0: firmware version: {fw DPU_NIC}',
    'mlx5_core 0000:03:00.0: 126.024 Gb/s available PCIe bandwidth (16.0 GT/s PCIe x8 link)',
    'mlx5_core 0000:03:00.0: Port module event: module 0, Cable plugged',
    'mlx5_core 0000:03:00.1: firmware version: {fw DPU_NIC}',
    'mlxbf_gige MLNXBF17:00 oob_net0: renamed from eth0',
    'mmcblk0: mmc0:0001 DG4064 58.3 GiB',
    ...rootBoot('mmcblk0p2'),
  ],
  bootSeconds: 180,
  bmc: { flavour: 'bluefield', version: '23.09-6', answerMs: 420 },
}
