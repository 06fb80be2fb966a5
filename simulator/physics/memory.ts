// Memory: the kernel, the services and the page cache. When nothing is left, the kernel kills the largest.
import type { Device } from '../model.ts'
import { log, printk, systemPid } from './lines.ts'
import { stopService } from './services.ts'

/** Of the kernel and all that is no service. */
const kernelPart = 0.11
/** Full. */
const limit = 0.985

export function moveMemory(device: Device): void {
  const { kind, state } = device
  const { memory, load } = state
  let used = kernelPart * kind.memoryBytes * (1 + 0.1 * load.network)
  for (const service of state.services) used += service.memoryBytes
  if (used > limit * kind.memoryBytes) used -= killLargest(device)
  memory.usedBytes = Math.min(kind.memoryBytes, Math.round(used))
  // The cache fills with what is read, and gives way at once.
  const room = 0.94 * kind.memoryBytes - memory.usedBytes
  const filled = memory.cachedBytes + load.storage * 2_000_000
  memory.cachedBytes = Math.round(Math.max(0, Math.min(room, filled, 0.45 * kind.memoryBytes)))
}

/** The bytes that it had. */
function killLargest(device: Device): number {
  const { state } = device
  const largest = state.services.reduce(
    (best, service, index) => (service.memoryBytes > (state.services[best]?.memoryBytes ?? 0) ? index : best),
    0,
  )
  const service = state.services[largest]
  const mine = state.inner.services[largest]
  if (!service || !mine) return 0
  const freed = service.memoryBytes
  const kilobytes = Math.round(freed / 1024)
  const name = service.name.slice(0, 15) // as the kernel keeps it
  const { pid } = mine
  const total = Math.round(device.kind.memoryBytes / 4096)
  printk(
    device,
    4,
    `${name} invoked oom-killer: gfp_mask=0x1100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0`,
  )
  printk(device, 4, 'Mem-Info:')
  printk(
    device,
    4,
    `active_anon:${Math.round(freed / 4096)} inactive_anon:${Math.round(total / 20)} isolated_anon:0`,
  )
  printk(device, 4, `${total} pages RAM`)
  printk(
    device,
    6,
    `oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,` +
      `task_memcg=/system.slice/${service.name}.service,task=${name},pid=${pid},uid=0`,
  )
  printk(
    device,
    3,
    `Out of memory: Killed process ${pid} (${name}) total-vm:${Math.round(kilobytes * 1.3)}kB, ` +
      `anon-rss:${kilobytes}kB, file-rss:${Math.round(kilobytes / 900)}kB, shmem-rss:0kB, UID:0 ` +
      `pgtables:${Math.round(kilobytes / 480)}kB oom_score_adj:0`,
  )
  printk(
    device,
    6,
    `oom_reaper: reaped process ${pid} (${name}), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB`,
  )
  const unit = `${service.name}.service`
  log(device, 'systemd', 4, `${unit}: A process of this unit has been killed by the OOM killer.`, systemPid)
  stopService(device, largest, 'code=killed, status=9/KILL', 'oom-kill')
  return freed
}
