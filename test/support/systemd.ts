// A systemd of its own as process 1 of a namespace: its units, journal and control groups are real, and nothing of the
// machine is in its reach but /usr, read-only.
import { execFileSync, spawn } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'

/** Why there cannot be one here; undefined where there can. */
export function systemdProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'a systemd of its own takes root'
  if (!existsSync('/lib/systemd/systemd')) return 'systemd is not installed'
  // Two of them would quarrel over the groups of both.
  if (existsSync('/run/systemd/system')) return 'a systemd runs this machine'
  try {
    for (const tree of trees()) accessSync(join(tree, 'cgroup.procs'), constants.W_OK)
  } catch {
    return 'control groups cannot be written'
  }
  return trees().length > 0 ? undefined : 'control groups are not mounted'
}

const boot = `set -e
root=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir -p "$root"/{usr,etc/systemd/system,proc,sys,run,tmp,var/log/journal,var/lib,var/tmp,dev,root}
mount --bind /usr "$root/usr"
mount -o remount,ro,bind "$root/usr"
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
cp -a /etc/passwd /etc/group /etc/ld.so.* "$root/etc/"
echo 11111111111111111111111111111111 > "$root/etc/machine-id"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$root/dev/\${node%:*}" c 1 "\${node#*:}"; done
mount --rbind /sys "$root/sys"
cp "$2"/*.service "$2"/*.target "$root/etc/systemd/system/"
export container=test
exec chroot "$root" /lib/systemd/systemd --system --unit=test.target --log-target=console
`

export interface Systemd extends AsyncDisposable {
  /** A program that runs what it is given beside that systemd. */
  readonly enter: string
  /** A `systemctl` that asks it. */
  readonly systemctl: string
  run: (...command: string[]) => string
}

/** Starts one with these units: name of the file to its text. */
export async function startSystemd(units: Readonly<Record<string, string>>): Promise<Systemd> {
  const folder = mkdtempSync(join(tmpdir(), 'dpulse-systemd-'))
  const root = join(folder, 'root')
  for (const name of ['root', 'units']) execFileSync('mkdir', [join(folder, name)])
  for (const [name, text] of Object.entries(units)) writeFileSync(join(folder, 'units', name), text)
  const wants = Object.keys(units).join(' ')
  writeFileSync(join(folder, 'units/test.target'), `[Unit]\nDefaultDependencies=no\nWants=${wants}\n`)
  const script = join(folder, 'boot.sh')
  writeFileSync(script, boot)
  const before = groups()
  const spaces = ['-p', '-m', '-n', '-u', '-i', '-C', '-f', '--kill-child']
  const child = spawn('unshare', [...spaces, 'bash', script, root, join(folder, 'units')], {
    stdio: 'ignore',
  })
  const enter = join(folder, 'enter')
  const systemctl = join(folder, 'systemctl')
  const run = (...command: string[]): string =>
    execFileSync(enter, command, { encoding: 'utf8', stdio: 'pipe' })
  const dispose = async (): Promise<void> => {
    const gone = new Promise((resolve) => child.once('exit', resolve))
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await gone
    }
    await removeGroups(before)
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    for (let left = 200; ; left--) {
      const pid = firstProcess(child.pid)
      if (pid !== undefined) {
        const command = `exec nsenter -t ${pid} -p -m -n -u -i -C chroot /proc/${pid}/root`
        // Within the namespace the process has the number 1.
        const inside = command.replace(`/proc/${pid}/root`, root)
        writeFileSync(enter, `#!/bin/sh\n${inside} "$@"\n`)
        writeFileSync(systemctl, `#!/bin/sh\n${inside} systemctl "$@"\n`)
        for (const file of [enter, systemctl]) chmodSync(file, 0o755)
        if (isUp(run)) return { enter, systemctl, run, [Symbol.asyncDispose]: dispose }
      }
      if (left === 0 || child.exitCode !== null) throw new Error('systemd did not come up')
      await sleep(100)
    }
  } catch (error) {
    await dispose()
    throw error
  }
}

function isUp(run: (...command: string[]) => string): boolean {
  try {
    return run('systemctl', 'is-active', 'test.target').trim() === 'active'
  } catch {
    return false
  }
}

/** Process 1 of the namespace, by its number here, once it is systemd. */
function firstProcess(parent: number | undefined): number | undefined {
  try {
    const [pid] = readFileSync(`/proc/${parent}/task/${parent}/children`, 'latin1')
      .trim()
      .split(' ')
      .map(Number)
    return pid && readFileSync(`/proc/${pid}/comm`, 'latin1').trim() === 'systemd' ? pid : undefined
  } catch {
    return undefined
  }
}

// A control group namespace hides the groups above; those below stay when it goes.
const trees = (): string[] =>
  ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((name) => `/sys/fs/cgroup/${name}`)].filter(
    (path) => existsSync(join(path, 'cgroup.procs')),
  )
const groups = (): Set<string> =>
  new Set(
    trees().flatMap((tree) =>
      ['init.scope', 'system.slice', 'user.slice'].map((name) => join(tree, name)).filter(existsSync),
    ),
  )

async function removeGroups(before: ReadonlySet<string>): Promise<void> {
  for (let left = 20; left > 0; left--) {
    const added = [...groups()].filter((path) => !before.has(path))
    if (added.length === 0) return
    for (const path of added) {
      try {
        execFileSync('find', [path, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+'], { stdio: 'ignore' })
      } catch {
        // A process in it is still ending.
      }
    }
    await sleep(100)
  }
}
