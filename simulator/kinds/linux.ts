// What Linux on any card says: lines of its own programs, and the beginning of each boot.
import type { Template } from '../model.ts'

export const linuxChatter: readonly Template[] = [
  {
    service: 'sshd',
    severity: 6,
    perHour: 3,
    text: 'Accepted publickey for {user} from {ip} port {port} ssh2: ED25519 SHA256:{hex}{hex}{hex}',
  },
  {
    service: 'sshd',
    severity: 6,
    perHour: 2,
    text: 'Failed password for invalid user {user} from {ip} port {port} ssh2',
  },
  {
    service: 'sshd',
    severity: 6,
    perHour: 3,
    text: 'pam_unix(sshd:session): session closed for user {user}',
  },
  {
    service: 'sudo',
    severity: 5,
    perHour: 1.5,
    text: '{user} : PWD={path} ; USER=root ; COMMAND=/usr/bin/systemctl status {svc}',
  },
  { service: 'systemd', severity: 6, perHour: 0.05, text: 'Starting Daily apt download activities...' },
  { service: 'systemd', severity: 6, perHour: 6, text: 'session-{int}.scope: Deactivated successfully.' },
  { service: 'systemd-logind', severity: 6, perHour: 3, text: 'New session {int} of user {user}.' },
  {
    service: 'systemd-networkd',
    severity: 6,
    perHour: 1,
    text: '{if}: DHCPv4 address {ip}/24, gateway {ip} acquired from {ip}',
  },
  {
    service: 'cron',
    severity: 6,
    perHour: 6,
    text: '(root) CMD (test -x {path} && run-parts --report {path})',
  },
  { service: 'chronyd', severity: 6, perHour: 1, text: 'Selected source {ip} (ntp-{int}.pool)' },
  { service: 'chronyd', severity: 6, perHour: 0.5, text: 'Source {ip} replaced with {ip} (ntp-{int}.pool)' },
  {
    service: 'containerd',
    severity: 6,
    perHour: 6,
    perLoad: 20,
    text: 'level=info msg="StopContainer for \\"{hex}{hex}\\" with timeout {int} (s)"',
  },
  {
    service: 'containerd',
    severity: 4,
    perHour: 0.5,
    text: 'level=warning msg="cleaning up after shim disconnected" id={hex}{hex} namespace=k8s.io',
  },
  {
    service: 'kubelet',
    severity: 6,
    perHour: 8,
    perLoad: 30,
    text: 'I{int} {pid} reconciler_common.go:{int}] "operationExecutor.VerifyControllerAttachedVolume started for volume" pod="{uuid}"',
  },
  {
    service: 'kubelet',
    severity: 4,
    perHour: 1,
    perLoad: 6,
    text: 'W{int} {pid} reflector.go:{int}] object-"kube-system": watch of *v1.ConfigMap ended with: too old resource version: {int} ({int})',
  },
  {
    service: 'kernel',
    severity: 6,
    perHour: 0.6,
    text: 'audit: type=1400 audit({ms}:{int}): apparmor="STATUS" operation="profile_replace" profile="unconfined" name="{path}" pid={pid}',
  },
  {
    service: 'kernel',
    severity: 5,
    perHour: 0.4,
    text: 'TCP: request_sock_TCP: Possible SYN flooding on port {port}. Sending cookies.',
  },
]

/** Before a card's own lines of a boot. */
export const armBoot = (version: string, machine: string): readonly string[] => [
  'Booting Linux on physical CPU 0x0000000000 [0x411fd401]',
  `Linux version ${version} (buildd@bos03-arm64-016) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0) #51-Ubuntu SMP PREEMPT`,
  'efi: EFI v2.70 by EDK II',
  'secureboot: Secure boot disabled',
  `DMI: ${machine}`,
  'psci: PSCIv1.1 detected in firmware.',
  'CPU features: detected: GIC system register CPU interface',
  'Kernel command line: console=hvc0 console=ttyAMA0 earlycon=pl011,0x13010000 net.ifnames=0 biosdevname=0 panic=10',
  'rcu: Hierarchical RCU implementation.',
  'smp: Brought up 1 node',
  'NET: Registered PF_NETLINK/PF_ROUTE protocol family',
  'ACPI: Interpreter enabled',
  'pcieport 0000:00:00.0: PME: Signaling with IRQ 31',
  'pcieport 0000:00:00.0: AER: enabled with IRQ 31',
]

/** After them. */
export const rootBoot = (disk: string): readonly string[] => [
  `EXT4-fs (${disk}): mounted filesystem with ordered data mode. Opts: (null). Quota mode: none.`,
  'systemd[1]: Detected architecture arm64.',
  'openvswitch: Open vSwitch switching datapath',
  'IPv6: ADDRCONF(NETDEV_CHANGE): lo: link becomes ready',
]
