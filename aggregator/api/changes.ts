// Routes that change devices: configurations, verbosities and labels, and rollouts in stages. Whoever keeps the wishes is
// given; here is only what is asked of it, and by whom.
import type { OpenAPIHono } from '@hono/zod-openapi'
import { createRoute, z } from '@hono/zod-openapi'
import { bareLabel, labelName } from '../../plugins/protocols/change.ts'
import type { FleetChanges } from '../../plugins/protocols/fleet-changes.ts'
import type { LoginOptions } from '../broker-login.ts'
import { QueryRefused } from '../query.ts'
import type { Devices } from '../query.ts'
import * as schemas from './change-schemas.ts'
import { chooseDevices } from './choice.ts'
import * as parameters from './parameters.ts'
import { mayChange, whoOf } from './rights.ts'
import { Failure } from './schemas.ts'

export interface ChangeParts {
  changes: FleetChanges
  devices: Devices
  /** Who may change devices; everybody who reaches the API where it is absent. */
  login?: LoginOptions | undefined
}

const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { 'application/json': { schema } },
})
const body = <T extends z.ZodType>(schema: T) => ({
  required: true,
  content: { 'application/json': { schema } },
})
const failures = {
  400: json(Failure, 'A parameter is wrong; the answer names it and what it takes'),
  401: json(Failure, 'A login is needed'),
  403: json(Failure, 'This user may not change devices'),
  503: json(Failure, 'Too busy, or the journal is away: ask again after Retry-After'),
}
const soakMs = 30_000

export function addChanges(app: OpenAPIHono, parts: ChangeParts): void {
  const middleware = mayChange(parts.login)
  addQuestions(app, parts)
  addConfiguration(app, parts, middleware)
  addVerbosity(app, parts, middleware)
  addLabels(app, parts, middleware)
  addRollouts(app, parts, middleware)
}

type Middleware = ReturnType<typeof mayChange>

function addQuestions(app: OpenAPIHono, { changes, devices }: ChangeParts): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/config',
      summary: 'What is wished of each collector, what it reports, and how they compare',
      request: { query: parameters.DeviceParameters },
      responses: { 200: json(z.array(schemas.DeviceChange), 'Wish and fact'), 400: failures[400] },
    }),
    async (context) => {
      const chosen = await chooseDevices(context.req.valid('query'), devices)
      return context.json(await changes.list(chosen), 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/config/{device}',
      summary: 'Wish and fact of one device, with the text that is wished',
      request: { params: parameters.DevicePath },
      responses: {
        200: json(schemas.DeviceChangeText, 'Wish and fact'),
        400: failures[400],
        404: json(Failure, 'There is no such device'),
      },
    }),
    async (context) => {
      const { device } = context.req.valid('param')
      const found = await changes.get(device)
      if (found) return context.json(found, 200)
      return context.json({ error: { code: 'NO_SUCH_DEVICE', message: `there is no device ${device}` } }, 404)
    },
  )
}

function addConfiguration(app: OpenAPIHono, { changes, devices }: ChangeParts, middleware: Middleware): void {
  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/config',
      summary: 'Wish for a configuration; each device checks it, tries it, and goes back where it loses us',
      middleware,
      request: { query: parameters.TargetParameters, body: body(schemas.ApplyBody) },
      responses: {
        200: json(schemas.Applied, 'It is wished'),
        422: json(schemas.RefusedConfiguration, 'No collector would take it; every problem with its path'),
        ...failures,
      },
    }),
    async (context) => {
      const { text, by, stages, soak } = context.req.valid('json')
      const chosen = await targets(context.req.valid('query'), devices)
      const answer = await changes.apply({
        text,
        devices: chosen.devices,
        by: whoOf(context, by),
        soakMs: soak ?? soakMs,
        ...(stages && { stages }),
      })
      if (!('refused' in answer)) return context.json({ ...answer, ...chosen }, 200)
      const problems = answer.refused
      const message = 'the configuration has problems'
      return context.json({ error: { code: 'CONFIG_INVALID', message, problems } }, 422)
    },
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/api/config',
      summary: "Back to the devices' own configurations",
      middleware,
      request: { query: parameters.TargetParameters },
      responses: { 200: json(schemas.Changed, 'That is wished'), ...failures },
    }),
    async (context) => {
      const asked = context.req.valid('query')
      const chosen = await targets(asked, devices)
      await changes.release(chosen.devices, whoOf(context, asked.by))
      return context.json(chosen, 200)
    },
  )
}

function addVerbosity(app: OpenAPIHono, { changes, devices }: ChangeParts, middleware: Middleware): void {
  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/verbosity',
      summary: 'The lowest severity of log lines that leaves a source, for a while',
      middleware,
      request: { query: parameters.TargetParameters, body: body(schemas.VerbosityBody) },
      responses: { 200: json(schemas.Changed, 'That is wished'), ...failures },
    }),
    async (context) => {
      const { source, severity, for: forMs, by } = context.req.valid('json')
      const chosen = await targets(context.req.valid('query'), devices)
      await changes.setVerbosity({
        devices: chosen.devices,
        source,
        severity,
        forMs,
        by: whoOf(context, by),
      })
      return context.json(chosen, 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/api/verbosity',
      summary: 'End it before its time',
      middleware,
      request: { query: parameters.VerbosityTarget },
      responses: { 200: json(schemas.Changed, 'That is wished'), ...failures },
    }),
    async (context) => {
      const asked = context.req.valid('query')
      const chosen = await targets(asked, devices)
      await changes.endVerbosity(chosen.devices, asked.source)
      return context.json(chosen, 200)
    },
  )
}

function addLabels(app: OpenAPIHono, { changes, devices }: ChangeParts, middleware: Middleware): void {
  app.openapi(
    createRoute({
      method: 'post',
      path: '/api/labels',
      summary: 'Set labels of devices, or take them away, over what the devices themselves say',
      middleware,
      request: { body: body(schemas.LabelsBody) },
      responses: { 200: json(schemas.Labelled, 'They are wished'), ...failures },
    }),
    async (context) => {
      const { devices: given } = context.req.valid('json')
      const list = await devices.list()
      const known = new Map(list.map(({ device, state }) => [device, state]))
      const watched = list.find(({ device, collector }) => device !== collector && device in given)
      if (watched) throw new QueryRefused('devices', withoutCollector(watched))
      const labels = new Map(
        Object.entries(given).map(([device, pairs]) => [device, bareLabels(device, pairs)] as const),
      )
      await changes.setLabels(labels)
      const names = [...labels.keys()]
      const online = names.filter((name) => known.get(name) === 'online')
      return context.json({ devices: names, online, unknown: names.filter((name) => !known.has(name)) }, 200)
    },
  )
}

function bareLabels(
  device: string,
  pairs: Readonly<Record<string, string | null>>,
): Record<string, string | null> {
  return Object.fromEntries(
    Object.entries(pairs).map(([key, value]) => {
      const name = bareLabel(key)
      if (labelName.test(name)) return [name, value]
      const message = `${device}: ${JSON.stringify(key)} is no label; they have small letters, digits, _ and .`
      throw new QueryRefused('devices', message)
    }),
  )
}

function addRollouts(app: OpenAPIHono, { changes }: ChangeParts, middleware: Middleware): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/rollouts',
      summary: 'Rollouts in stages, the newest first',
      responses: { 200: json(z.array(schemas.Rollout), 'Rollouts') },
    }),
    async (context) => context.json(await changes.rollouts(), 200),
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/api/rollouts/{id}',
      summary: 'Stop a rollout where it is; what is in force stays',
      middleware,
      request: { params: parameters.RolloutPath, query: parameters.ByParameter },
      responses: {
        200: json(schemas.Stopped, 'It goes no further'),
        404: json(Failure, 'There is none that runs'),
        ...failures,
      },
    }),
    async (context) => {
      const { id } = context.req.valid('param')
      const by = whoOf(context, context.req.valid('query').by)
      if (await changes.stopRollout(id, by)) return context.json({ stopped: id }, 200)
      const message = `no rollout ${id} is under way`
      return context.json({ error: { code: 'NO_SUCH_ROLLOUT', message } }, 404)
    },
  )
}

const withoutCollector = ({ device, collector }: { device: string; collector: string }): string =>
  `${device} has no collector of its own: ${collector} reports on it, change that one`

/** Collectors of their own, all of which exist, and which of them are online. @throws QueryRefused */
async function targets(
  asked: z.output<typeof parameters.TargetParameters>,
  devices: Devices,
): Promise<{ devices: string[]; online: string[] }> {
  const { device, selector, all } = asked
  const list = await devices.list()
  const own = new Map(
    list.flatMap((one) => (one.device === one.collector ? [[one.device, one.state] as const] : [])),
  )
  const told = (names: Iterable<string>) => {
    const chosen = [...names]
    return { devices: chosen, online: chosen.filter((name) => own.get(name) === 'online') }
  }
  if (device === undefined && selector === undefined) {
    if (all === 'true') return told(own.keys())
    throw new QueryRefused('device', 'is needed, or selector, or all for the whole fleet')
  }
  for (const name of device ?? []) {
    if (own.has(name)) continue
    const found = list.find((one) => one.device === name)
    const why = found
      ? withoutCollector(found)
      : `there is no device ${name}; \`dpulse get devices\` lists them`
    throw new QueryRefused('device', why)
  }
  const chosen = ((await chooseDevices({ device, selector }, devices)) ?? []).filter((one) => own.has(one))
  if (chosen.length === 0) throw new QueryRefused('selector', 'no device has these labels')
  return told(chosen)
}
