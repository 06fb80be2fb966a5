// Clients that others wrote against simulated BMCs.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runPython, whyNoPythonPeers } from '../support/python-peers.ts'
import { user } from '../support/redfish-source.ts'
import { flavours, simulatedBmc } from '../support/simulated-bmc.ts'

const needed = whyNoPythonPeers === undefined ? '' : ` (${whyNoPythonPeers})`
const session = join(import.meta.dirname, '../support/sushy_session.py')

describe.skipIf(whyNoPythonPeers !== undefined)(`clients of others${needed}`, () => {
  test.each(['bluefield', 'openbmc'] as const)(
    'sushy reads, boots, resets and updates a %s over HTTPS that it checks',
    async (flavour) => {
      const { device, url, bmcs } = await simulatedBmc(flavours[flavour], { tls: true })
      const directory = mkdtempSync(join(tmpdir(), 'dpulse-bmc-'))
      onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
      const ca = join(directory, 'ca.pem')
      writeFileSync(ca, bmcs.certificate ?? '')
      const { kind, state } = device
      const told: unknown = JSON.parse(
        await runPython('python', [session, url, user.name, user.password, ca]),
      )
      expect(told).toMatchObject({
        serial: device.serial,
        power: 'On',
        memory: kind.memoryBytes / 2 ** 30,
        cores: kind.cores,
        drives: kind.storage.map(({ bytes }) => bytes),
        boot: 'Pxe',
        'after off': 'Off',
        bmc: flavour === 'openbmc' ? state.firmware.bmc : state.firmware.BMC_Firmware,
        chassis: flavour === 'openbmc' ? ['card'] : ['Bluefield_BMC', 'Bluefield_ERoT', 'Card1'],
        firmware: state.firmware,
        task: ['Running', 'Update.1.0.TargetDetermined'],
        sessions: 1,
      })
      expect(state.power).toBe('booting')
    },
  )

  test('redfishtool shows the system and switches it off', async () => {
    const { device, url } = await simulatedBmc(flavours.openbmc)
    const login = ['-r', new URL(url).host, '-S', 'Never', '-u', user.name, '-p', user.password]
    const system: unknown = JSON.parse(await runPython('redfishtool', [...login, 'Systems', '-F', 'get']))
    expect(system).toMatchObject({ SerialNumber: device.serial, PowerState: 'On' })
    await runPython('redfishtool', [...login, 'Systems', '-F', 'reset', 'ForceOff'])
    expect(device.state.power).toBe('off')
  })
})
