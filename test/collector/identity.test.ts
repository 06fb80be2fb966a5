// Who a machine is: over made-up trees of /sys, /proc and /etc, and over a captured dump full of placeholders.
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { realMac, realSerial, realUuid, resolveIdentity } from '../../collector/identity.ts'
import type { IdentityMemory } from '../../collector/identity.ts'
import { isDeviceId } from '../../plugins/contract/index.ts'

interface Machine {
  resolve: () => ReturnType<typeof resolveIdentity>
  write: (files: Record<string, string>) => Promise<void>
  remove: (path: string) => Promise<void>
  memory: IdentityMemory & { text: string | undefined }
  root: string
}

const memoryOf = (text?: string): Machine['memory'] => {
  const memory: Machine['memory'] = {
    text,
    load: async () => memory.text,
    save: async (saved) => void (memory.text = saved),
  }
  return memory
}

async function machine(files: Record<string, string>): Promise<Machine> {
  const root = await mkdtemp(join(tmpdir(), 'dpulse-identity-'))
  onTestFinished(() => rm(root, { recursive: true }))
  const memory = memoryOf()
  const made: Machine = {
    root,
    memory,
    write: async (more) => {
      for (const [path, text] of Object.entries(more)) {
        await mkdir(dirname(join(root, path)), { recursive: true })
        await writeFile(join(root, path), text)
      }
    },
    remove: (path) => rm(join(root, path), { recursive: true, force: true }),
    resolve: () =>
      resolveIdentity(made.memory, {
        proc: join(root, 'proc'),
        sys: join(root, 'sys'),
        etc: join(root, 'etc'),
      }),
  }
  await made.write(files)
  return made
}

const port = (name: string, address: string, more: Record<string, string> = {}): Record<string, string> =>
  Object.fromEntries(
    Object.entries({ address, type: '1', addr_assign_type: '0', 'device/vendor': '0x15b3', ...more }).map(
      ([file, text]) => [`sys/class/net/${name}/${file}`, `${text}\n`],
    ),
  )
const dmi = (files: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(files).map(([file, text]) => [`sys/class/dmi/id/${file}`, `${text}\n`]))
const machineId = { 'etc/machine-id': '0123456789abcdef0123456789abcdee\n' }

describe('the identity of a machine', () => {
  test('is the serial number of the system where there is one, without its padding', async () => {
    const { resolve } = await machine({
      ...dmi({
        product_serial: 'MT2251X00123         ',
        product_uuid: '9A2E3C14-5B6D-11EE-8C99-0242AC120002',
      }),
      ...port('p0', 'b8:3f:d2:aa:bb:c1'),
      'proc/sys/kernel/hostname': 'bf3-17\n',
    })
    expect(await resolve()).toMatchObject({
      device: 'mt2251x00123',
      source: 'dmi product_serial',
      hostname: 'bf3-17',
      candidates: [
        { kind: 'dmi product_serial', value: 'MT2251X00123' },
        { kind: 'dmi product_uuid', value: '9a2e3c14-5b6d-11ee-8c99-0242ac120002' },
        { kind: 'mac', value: 'b8:3f:d2:aa:bb:c1' },
      ],
    })
  })

  test('goes down the ranks as placeholders stand where facts should', async () => {
    const made = await machine({
      ...dmi({
        product_serial: 'Unspecified System Serial Number',
        product_uuid: '03000200-0400-0500-0006-000700080009',
        board_serial: 'To be filled by O.E.M.',
        chassis_serial: 'CH-0042-A',
      }),
      'proc/device-tree/serial-number': 'MBF2 H516A 0x77\0',
      ...port('p0', 'b8:3f:d2:aa:bb:c1'),
      ...machineId,
    })
    const next = async () => {
      made.memory.text = undefined
      const { source, device } = await made.resolve()
      return [source, device]
    }
    expect(await next()).toEqual(['device-tree serial-number', 'mbf2-h516a-0x77'])
    await made.remove('proc/device-tree')
    expect(await next()).toEqual(['mac', 'mac-b83fd2aabbc1'])
    await made.remove('sys/class/net')
    expect(await next()).toEqual(['dmi chassis_serial', 'ch-0042-a'])
    await made.remove('sys/class/dmi')
    const [source, device] = await next()
    expect(source).toBe('machine-id')
    expect(device).toMatch(/^machine-[0-9a-f]{16}$/)
    await made.remove('etc')
    expect((await next())[0]).toBe('random')
  })

  test('stays what it was when a better fact becomes readable, and when it is lost again', async () => {
    const made = await machine({ ...port('p0', 'b8:3f:d2:aa:bb:c1'), ...machineId })
    expect((await made.resolve()).device).toBe('mac-b83fd2aabbc1')
    await made.write(dmi({ product_serial: 'MT2251X00123' }))
    expect(await made.resolve()).toMatchObject({ device: 'mac-b83fd2aabbc1', source: 'mac' })
    await made.remove('sys/class/dmi')
    expect((await made.resolve()).device).toBe('mac-b83fd2aabbc1')
    await made.remove('sys/class/net')
    expect((await made.resolve()).device).toBe('mac-b83fd2aabbc1')
  })

  test('stays what it was when root-only files can no longer be read', async () => {
    const made = await machine({
      ...dmi({ product_serial: 'MT2251X00123' }),
      ...port('p0', 'b8:3f:d2:aa:bb:c1'),
    })
    const { device } = await made.resolve()
    await made.remove('sys/class/dmi/id/product_serial')
    await mkdir(join(made.root, 'sys/class/dmi/id/product_serial')) // unreadable for everybody, root too
    expect(await made.resolve()).toMatchObject({ device, source: 'dmi product_serial' })
  })

  test('is a new one on another machine that got a copy of the data directory', async () => {
    const one = await machine({ ...dmi({ product_serial: 'MT2251X00123' }), ...machineId })
    const two = await machine({ ...dmi({ product_serial: 'MT2251X00999' }), ...machineId })
    await one.resolve()
    two.memory.text = one.memory.text
    expect((await two.resolve()).device).toBe('mt2251x00999')
  })

  test('is a new one on a clone that only its ports tell apart', async () => {
    const one = await machine({ ...port('p0', 'b8:3f:d2:aa:bb:c1'), ...machineId })
    const two = await machine({ ...port('p0', 'b8:3f:d2:aa:bb:d1'), ...machineId })
    await one.resolve()
    two.memory.text = one.memory.text
    expect((await two.resolve()).device).toBe('mac-b83fd2aabbd1')
  })

  test('does not depend on the names of ports, nor on a port that comes later', async () => {
    const one = await machine({ ...port('eth0', 'b8:3f:d2:aa:bb:c2'), ...port('eth1', 'b8:3f:d2:aa:bb:c1') })
    const two = await machine({ ...port('eth0', 'b8:3f:d2:aa:bb:c1'), ...port('eth1', 'b8:3f:d2:aa:bb:c2') })
    const { device } = await one.resolve()
    expect((await two.resolve()).device).toBe(device)
    await one.write(port('eth2', '00:02:c9:00:00:01'))
    expect((await one.resolve()).device).toBe(device)
  })

  test('takes no address that others may have too', async () => {
    const made = await machine({
      ...port('tmfifo_net0', '00:1a:ca:ff:ff:01'),
      ...port('random0', '00:02:c9:00:00:01', { addr_assign_type: '1' }),
      ...port('local0', '02:02:c9:00:00:01'),
      ...port('vf0', '00:02:c9:00:00:02', { 'device/physfn/vendor': '0x15b3' }),
      ...port('pf0hpf', '00:02:c9:00:00:03', { phys_port_name: 'pf0' }),
      ...port('en3f0pf0sf0', '00:02:c9:00:00:04', { phys_port_name: 'pf0sf0' }),
      ...port('ib0', '00:02:c9:00:00:05', { type: '32' }),
      'sys/class/net/br0/address': '00:02:c9:00:00:06\n',
      'sys/class/net/br0/type': '1\n',
      'sys/class/net/br0/addr_assign_type': '0\n',
      ...port('p0', 'b8:3f:d2:aa:bb:c9', {
        addr_assign_type: '3',
        phys_port_name: 'p0',
        'bonding_slave/perm_hwaddr': 'b8:3f:d2:aa:bb:c1',
      }),
    })
    expect((await made.resolve()).candidates).toEqual([{ kind: 'mac', value: 'b8:3f:d2:aa:bb:c1' }])
  })

  test('survives a torn memory', async () => {
    const made = await machine(dmi({ product_serial: 'MT2251X00123' }))
    made.memory.text = '{"device":"mt22'
    expect((await made.resolve()).device).toBe('mt2251x00123')
    expect(JSON.parse(made.memory.text)).toMatchObject({ device: 'mt2251x00123' })
  })

  test('writes its memory only when there is something new to remember', async () => {
    const made = await machine(dmi({ product_serial: 'MT2251X00123' }))
    let saves = 0
    const { memory } = made
    memory.save = async (text) => {
      saves++
      memory.text = text
    }
    await made.resolve()
    await made.resolve()
    expect(saves).toBe(1)
  })

  test('keeps a random name when there is nothing to go by', async () => {
    const made = await machine({})
    const { device, source } = await made.resolve()
    expect(source).toBe('random')
    expect((await made.resolve()).device).toBe(device)
  })

  test('is found on this machine too', async () => {
    const { device, hostname } = await resolveIdentity(memoryOf())
    expect(isDeviceId(device)).toBe(true)
    expect(hostname).not.toBe('')
  })
})

describe('facts and placeholders', () => {
  test.each([
    'unknown',
    '-------------',
    'N/A',
    'Not specified',
    'Not Specified',
    '0000000000',
    'XXXXXXXX',
    '123456789',
    '',
  ])('the serial number %j is a placeholder', (text) => expect(realSerial(text)).toBeUndefined())

  test.each(['00000000-0000-0000-0000-000000000000', 'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF', 'Not Settable'])(
    'the UUID %j is a placeholder',
    (text) => expect(realUuid(text)).toBeUndefined(),
  )

  test('a real serial number is not a placeholder', () => {
    expect(realSerial('MT2334XZ0ABC')).toBe('MT2334XZ0ABC')
    expect(realSerial('CN-0VXTV2-74261-99F-01K5-A00')).toBe('CN-0VXTV2-74261-99F-01K5-A00')
  })

  test('any serial number makes a device id', async () => {
    const made = await machine({})
    await fc.assert(
      fc.asyncProperty(fc.string({ minLength: 1, maxLength: 200 }), async (text) => {
        made.memory.text = undefined
        await made.write(dmi({ product_serial: text }))
        return isDeviceId((await made.resolve()).device)
      }),
    )
  })

  const dump = join(import.meta.dirname, '../../../shared/data/dmi/less_compliant_smbios_records.txt')
  test.runIf(existsSync(dump))(
    'a captured dump has no serial number or UUID that counts (needs ../shared/data)',
    async () => {
      const text = await readFile(dump, 'utf8')
      const all = [...text.matchAll(/^System Information\n(?:\t.*\n)*/gm)].map(([block]) => block)
      expect(all.length).toBeGreaterThan(0)
      for (const block of all) {
        expect(realSerial(/\tSerial Number: (.*)/.exec(block)?.[1])).toBeUndefined()
        expect(realUuid(/\tUUID: (.*)/.exec(block)?.[1])).toBeUndefined()
      }
      const chassis = /^Chassis Information\n(?:\t.*\n)*/m.exec(text)?.[0] ?? ''
      expect(realSerial(/\tSerial Number: (.*)/.exec(chassis)?.[1])).toBeUndefined()
    },
  )

  const lldp = join(import.meta.dirname, '../../../shared/data/lldp/lldp_query.json')
  test.runIf(existsSync(lldp))('addresses of captured switches count (needs ../shared/data)', async () => {
    const macs = (await readFile(lldp, 'utf8')).match(/[0-9a-f]{2}(:[0-9a-f]{2}){5}/g) ?? []
    expect(macs.length).toBeGreaterThan(0)
    for (const mac of macs) expect(realMac(mac)).toBe(mac)
  })
})
