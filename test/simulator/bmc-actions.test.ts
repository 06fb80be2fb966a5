// What requests to a simulated BMC do to its device, over simulated time: resets and updates.
import { describe, expect, test, vi } from 'vitest'
import { basic, flavours, messageOf, root, simulatedBmc, taskDone } from '../support/simulated-bmc.ts'
import type { Answer, SimulatedBmc } from '../support/simulated-bmc.ts'
import { run } from '../support/simulated.ts'

const newest = (bmc: SimulatedBmc): string | undefined => bmc.device.state.bmc.log.at(-1)?.message

describe('a reset', () => {
  const reset = (bmc: SimulatedBmc, type: string) =>
    bmc.ask('POST', `${root}/Systems/system/Actions/ComputerSystem.Reset`, { ResetType: type })
  const system = (bmc: SimulatedBmc) => bmc.get(`${root}/Systems/system`)

  test('to off is done at once, and to on takes the time of a boot, with its stages', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    expect((await reset(bmc, 'ForceOff')).status).toBe(204)
    expect(await system(bmc)).toMatchObject({ PowerState: 'Off', BootProgress: { LastState: 'None' } })
    expect(newest(bmc)).toBe('Host system DC power is off')
    const sensor = await bmc.get(`${root}/Chassis/card/Sensors/asic_temp`)
    expect(sensor).toMatchObject({ Reading: null, Status: { State: 'UnavailableOffline' } })
    const started = await reset(bmc, 'On')
    expect([started.status, started.body.TaskState]).toEqual([202, 'Running'])
    const seen = new Set<unknown>()
    for (let second = 0; second < 400 && bmc.device.state.power !== 'on'; second += 4) {
      const { BootProgress: progress } = (await system(bmc)) as { BootProgress: { LastState: string } }
      seen.add(progress.LastState)
      run(bmc.device, 4)
    }
    expect(seen).toContain('SystemHardwareInitializationComplete')
    expect(seen).toContain('OSBootStarted')
    expect(await system(bmc)).toMatchObject({ PowerState: 'On', BootProgress: { LastState: 'OSRunning' } })
    expect((await taskDone(bmc, started)).body).toMatchObject({
      TaskState: 'Completed',
      PercentComplete: 100,
    })
  })

  test('with grace leaves the system time to stop; another one takes its place', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const { boots } = bmc.device.state
    await reset(bmc, 'GracefulRestart')
    run(bmc.device, 5)
    await bmc.get(root)
    expect(bmc.device.state.power).toBe('on')
    await reset(bmc, 'ForceOff')
    run(bmc.device, 60)
    await bmc.get(root)
    expect(bmc.device.state.power).toBe('off')
    expect((await taskDone(bmc, await reset(bmc, 'PowerCycle'))).body.TaskState).toBe('Completed')
    expect(bmc.device.state.boots).toBe(boots + 1)
  })

  test('takes what was set for the next boot once', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const override = {
      BootSourceOverrideTarget: 'UefiHttp',
      BootSourceOverrideEnabled: 'Once',
      HttpBootUri: 'http://x/y',
    }
    expect((await bmc.ask('PATCH', `${root}/Systems/system`, { Boot: override })).status).toBe(204)
    expect(await system(bmc)).toMatchObject({ Boot: override })
    await reset(bmc, 'ForceRestart')
    expect(await system(bmc)).toMatchObject({ Boot: { BootSourceOverrideEnabled: 'Disabled' } })
  })

  test('of the BMC itself ends its tasks and keeps it away for a minute', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const task = await reset(bmc, 'PowerCycle')
    const action = `${root}/Managers/bmc/Actions/Manager.Reset`
    expect((await bmc.ask('POST', action, { ResetType: 'GracefulRestart' })).status).toBe(204)
    await vi.waitFor(() => expect(bmc.get(root)).rejects.toThrow('fetch failed'), { timeout: 5000 })
    run(bmc.device, 61)
    expect((await bmc.ask('GET', task.headers.get('location') ?? '')).status).toBe(404)
  })

  test('that is asked for again and again leaves no more than a hundred tasks', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    for (let again = 0; again < 110; again++) await reset(bmc, 'ForceRestart')
    expect(bmc.bmcs.held(0)?.tasks).toBe(100)
  })
})

describe('an update', () => {
  const form = (name: string, content: string, parameters: object = {}): FormData => {
    const body = new FormData()
    body.set('UpdateParameters', new Blob([JSON.stringify(parameters)], { type: 'application/json' }))
    body.set('UpdateFile', new Blob([content]), name)
    return body
  }
  const push = async (bmc: SimulatedBmc, body: FormData): Promise<Answer> => {
    const response = await fetch(`${bmc.url}${root}/UpdateService/update-multipart`, {
      method: 'POST',
      headers: basic,
      body,
    })
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as Answer['body'],
    }
  }
  const target = (part: string) => `${root}/UpdateService/FirmwareInventory/${part}`

  test('is a task that takes time, and runs after the next boot, whoever asked for that', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    bmc.device.state.firmware.nic = '1.4.0'
    const started = await push(
      bmc,
      form('nic-1.5.0.fwpkg', 'x'.repeat(300_000), { Targets: [target('nic')] }),
    )
    expect(started.status).toBe(202)
    expect(messageOf(await push(bmc, form('nic-1.5.0.fwpkg', 'x')))).toBe('ServiceTemporarilyUnavailable')
    const { body } = await taskDone(bmc, started)
    expect(body).toMatchObject({ TaskState: 'Completed', TaskStatus: 'OK' })
    expect(JSON.stringify(body.Messages)).toContain('AwaitToActivate')
    expect((await bmc.get(target('nic'))).Version).toBe('1.4.0')
    await bmc.ask('POST', `${root}/Systems/system/Actions/ComputerSystem.Reset`, {
      ResetType: 'ForceRestart',
    })
    expect((await bmc.get(target('nic'))).Version).toBe('1.5.0')
    expect(bmc.device.state.firmware.nic).toBe('1.5.0')
    expect(bmc.device.state.bmc.log.map(({ messageId }) => messageId)).toContain(
      'Update.1.0.UpdateSuccessful',
    )
  })

  test('of the BMC brings what its new firmware can', async () => {
    const bmc = await simulatedBmc(flavours.early)
    const memory = async () => (await bmc.get(`${root}/Systems/Bluefield/Memory`)).Members
    expect(await memory()).toEqual([])
    const given = {
      ImageURI: 'http://images/bmc_BF-24.07-14.fwpkg',
      TransferProtocol: 'HTTP',
      Targets: [target('BMC_Firmware')],
    }
    const started = await bmc.ask('POST', `${root}/UpdateService/Actions/UpdateService.SimpleUpdate`, given)
    expect((await taskDone(bmc, started)).body.TaskState).toBe('Completed')
    await bmc.ask('POST', `${root}/Managers/Bluefield_BMC/Actions/Manager.Reset`, {
      ResetType: 'ForceRestart',
    })
    await vi.waitFor(() => expect(bmc.get(root)).rejects.toThrow('fetch failed'), { timeout: 5000 })
    run(bmc.device, 61)
    expect((await bmc.get(`${root}/EventService`)).ServerSentEventUri).toBe(`${root}/EventService/SSE`)
  })

  test('with an empty image fails, with one that is installed changes nothing, and of what is not there is refused', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const { nic } = bmc.device.state.firmware
    expect((await taskDone(bmc, await push(bmc, form('nic-9.9.9', '')))).body.TaskState).toBe('Exception')
    const same = await taskDone(bmc, await push(bmc, form(`nic-${nic}`, 'x', { Targets: [target('nic')] })))
    expect(JSON.stringify(same.body.Messages)).toContain('UpdateSkippedSameVersion')
    expect(messageOf(await push(bmc, form('x', 'x', { Targets: [target('soul')] })))).toBe('ResourceNotFound')
  })

  test('that is given up makes room for another', async () => {
    const bmc = await simulatedBmc(flavours.openbmc)
    const { body } = await push(bmc, form('nic-1.5.0.fwpkg', 'x'))
    expect((await bmc.ask('DELETE', String(body['@odata.id']))).status).toBe(204)
    expect((await push(bmc, form('nic-1.5.0.fwpkg', 'x'))).status).toBe(202)
  })
})
