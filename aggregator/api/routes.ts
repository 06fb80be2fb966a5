// The routes of the HTTP API (DESIGN §9): each declares its parameters and answers, so that /openapi.json cannot
// say anything else than what is served.
import { OpenAPIHono, createRoute, z } from '@hono/zod-openapi'
import type { RouteConfig } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { PermanentError, RetryableError } from '../../plugins/contract/errors.ts'
import { QueryRefused } from '../query.ts'
import type { Health, Ledger, LedgerReport, Live, LogQuery, MetricQuery, Queries } from '../query.ts'
import { Busy, createAdmission } from './admission.ts'
import { addChanges } from './changes.ts'
import type { ChangeParts } from './changes.ts'
import { chooseDevices } from './choice.ts'
import { createSubscribers } from './live.ts'
import * as parameters from './parameters.ts'
import * as schemas from './schemas.ts'

export interface ApiParts extends ChangeParts {
  queries: Queries
  ledger: Ledger
  live: Live
  health: Health
  /** The aggregator's own metrics as Prometheus text. */
  metricsText: () => Promise<string>
  /** Where failures that are our fault are told. */
  log: { error(message: string, facts: Record<string, unknown>): void }
}

const json = <T extends z.ZodType>(schema: T, description: string) => ({
  description,
  content: { 'application/json': { schema } },
})

const failures = {
  400: json(schemas.Failure, 'A parameter is wrong; the answer names it and what it takes'),
  503: json(
    schemas.Failure,
    'Too busy, it took too long, or store or journal are away: ask again after Retry-After',
  ),
}

const hour = 3_600_000_000_000n

/** All routes but the console's files. `stopping` ends what is open. */
export function createRoutes(parts: ApiParts, stopping: AbortSignal): OpenAPIHono {
  const app = new OpenAPIHono({ defaultHook: refuseParameters })
  const admission = createAdmission({ running: 4, waiting: 32, waitMs: 10_000, runMs: 60_000 })
  const admitted = <T>(context: Context, task: (signal: AbortSignal) => Promise<T>) =>
    admission.run(AbortSignal.any([context.req.raw.signal, stopping]), task)

  addState(app, parts)
  addLedger(app, parts)
  addLogs(app, parts, admitted)
  addMetrics(app, parts, admitted)
  addLive(app, parts, stopping)
  addChanges(app, parts)
  addDocuments(app, parts)

  app.onError((error, context) => failed(error, context, parts))
  return app
}

type Admitted = <T>(context: Context, task: (signal: AbortSignal) => Promise<T>) => Promise<T>

function addState(app: OpenAPIHono, { health, devices, changes }: ApiParts): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/health',
      summary: 'Whether all parts are ready',
      responses: {
        200: json(schemas.HealthReport, 'All are'),
        503: json(schemas.HealthReport, 'Some are not'),
      },
    }),
    (context) => {
      const list = health.parts()
      const ready = list.every((part) => part.ready)
      return context.json({ ready, parts: list }, ready ? 200 : 503)
    },
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/devices',
      summary: 'The devices, and which collectors report on them',
      request: { query: parameters.DeviceParameters },
      responses: { 200: json(z.array(schemas.Device), 'Devices'), ...failures },
    }),
    async (context) => {
      const chosen = await chooseDevices(context.req.valid('query'), devices)
      const list = await devices.list()
      return context.json(
        chosen === undefined ? list : list.filter(({ device }) => chosen.includes(device)),
        200,
      )
    },
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/api/devices/{device}',
      summary: 'Forget a device; one that reports again comes back',
      request: { params: parameters.DevicePath },
      responses: {
        200: json(schemas.Removed, 'It is forgotten'),
        404: json(schemas.Failure, 'There is no such device'),
        ...failures,
      },
    }),
    async (context) => {
      const { device } = context.req.valid('param')
      if ((await devices.remove(device)) === 'removed') {
        await changes.forget(device)
        return context.json({ removed: device }, 200)
      }
      return context.json({ error: { code: 'NO_SUCH_DEVICE', message: `there is no device ${device}` } }, 404)
    },
  )
}

function addLedger(app: OpenAPIHono, { ledger, devices }: ApiParts): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/ledger',
      summary: 'The account of every record',
      request: { query: parameters.DeviceParameters },
      responses: { 200: json(schemas.LedgerReport, 'The account'), ...failures },
    }),
    async (context) => {
      const chosen = await chooseDevices(context.req.valid('query'), devices)
      return context.json(chosen?.length === 0 ? emptyReport : await ledger.report(chosen), 200)
    },
  )
}

const emptyReport: LedgerReport = {
  produced: 0,
  stored: 0,
  inFlight: 0,
  dropped: {},
  unknown: 0,
  balanced: true,
  streams: [],
}

function addLogs(app: OpenAPIHono, { queries, devices }: ApiParts, admitted: Admitted): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/logs',
      summary: 'The newest log records that fit, oldest first',
      request: { query: parameters.LogParameters },
      responses: { 200: json(schemas.LogPage, 'One page'), ...failures },
    }),
    async (context) => {
      const asked = context.req.valid('query')
      const chosen = await chooseDevices(asked, devices)
      if (chosen?.length === 0) return context.json({ records: [] }, 200)
      const query: LogQuery = {
        ...parameters.toLogFilter(asked, chosen),
        limit: asked.limit ?? 1000,
        ...(asked.since !== undefined && { sinceUnixNano: asked.since }),
        ...(asked.until !== undefined && { untilUnixNano: asked.until }),
        ...(asked.next !== undefined && { before: asked.next }),
      }
      return context.json(await admitted(context, (signal) => queries.logs(query, signal)), 200)
    },
  )
}

function addMetrics(app: OpenAPIHono, { queries, devices }: ApiParts, admitted: Admitted): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/metrics',
      summary: 'Which metrics there are',
      request: { query: parameters.DeviceParameters },
      responses: { 200: json(z.array(schemas.Metric), 'Metrics'), ...failures },
    }),
    async (context) => {
      const chosen = await chooseDevices(context.req.valid('query'), devices)
      if (chosen?.length === 0) return context.json([], 200)
      return context.json(await admitted(context, (signal) => queries.metrics(chosen, signal)), 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/query',
      summary: 'The points of one metric',
      request: { query: parameters.QueryParameters },
      responses: { 200: json(z.array(schemas.Series), 'Series'), ...failures },
    }),
    async (context) => {
      const asked = context.req.valid('query')
      const chosen = await chooseDevices(asked, devices)
      if (chosen?.length === 0) return context.json([], 200)
      const query = toMetricQuery(asked, chosen)
      return context.json(await admitted(context, (signal) => queries.query(query, signal)), 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/latest',
      summary: 'The newest value of each series of one device',
      request: { query: parameters.LatestParameters },
      responses: { 200: json(z.array(schemas.Latest), 'Values'), ...failures },
    }),
    async (context) => {
      const { device } = context.req.valid('query')
      return context.json(await admitted(context, (signal) => queries.latest(device, signal)), 200)
    },
  )
}

function toMetricQuery(
  asked: z.output<typeof parameters.QueryParameters>,
  device: readonly string[] | undefined,
): MetricQuery {
  const untilUnixNano = asked.until ?? BigInt(Date.now()) * 1_000_000n
  const sinceUnixNano = asked.since ?? untilUnixNano - hour
  if (sinceUnixNano >= untilUnixNano) throw new QueryRefused('since', 'must be earlier than until')
  return {
    metric: asked.metric,
    where: asked.where ?? [],
    sinceUnixNano,
    untilUnixNano,
    limit: asked.limit ?? 100_000,
    ...(device !== undefined && { device }),
    ...(asked.step !== undefined && { stepNano: asked.step }),
    ...(asked.aggregate !== undefined && { aggregate: asked.aggregate }),
    ...(asked.by !== undefined && { by: asked.by }),
  }
}

function addLive(app: OpenAPIHono, { live, devices }: ApiParts, stopping: AbortSignal): void {
  const subscribers = createSubscribers(live, 64)
  app.openapi(
    createRoute({
      method: 'get',
      path: '/api/live',
      summary: 'Log records as they come in, as server-sent events `record` and `missed`',
      request: { query: parameters.LiveParameters },
      responses: {
        200: { description: 'Events', content: { 'text/event-stream': { schema: z.string() } } },
        ...failures,
      },
    }),
    async (context) => {
      const asked = context.req.valid('query')
      const chosen = await chooseDevices(asked, devices)
      // No device has the labels: one that does not exist keeps the tail open and silent.
      const filter = parameters.toLogFilter(asked, chosen?.length === 0 ? ['-'] : chosen)
      const stream = subscribers.open(filter, AbortSignal.any([context.req.raw.signal, stopping]))
      if (stream === undefined) throw new Busy('64 live tails are open already')
      return context.body(stream, 200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' })
    },
  )
}

function addDocuments(app: OpenAPIHono, { metricsText }: ApiParts): void {
  const metrics: RouteConfig = {
    method: 'get',
    path: '/metrics',
    summary: "The aggregator's own metrics as Prometheus text",
    responses: { 200: { description: 'Metrics', content: { 'text/plain': { schema: z.string() } } } },
  }
  app.openAPIRegistry.registerPath(metrics)
  app.get('/metrics', async (context) =>
    context.body(await metricsText(), 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }),
  )
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: {
      title: 'dpulse',
      version: '1',
      description:
        'Devices, logs, metrics and the account of every record. Times are RFC 3339, UTC, nine decimals.',
    },
  })
}

type Checked = { target: string } & ({ success: true } | { success: false; error: z.ZodError })

function refuseParameters(result: Checked, context: Context): Response | undefined {
  if (result.success) return undefined
  const [issue] = result.error.issues
  if (issue?.code === 'unrecognized_keys') {
    const [parameter = ''] = issue.keys
    return badParameter(context, parameter, 'there is no such parameter here; /openapi.json lists them')
  }
  if (result.target === 'json') {
    return badParameter(context, issue?.path.join('.') || 'body', issue?.message ?? 'is wrong')
  }
  const parameter = String(issue?.path[0] ?? '')
  const given = parameter in context.req.queries() || context.req.param(parameter) !== undefined
  return badParameter(context, parameter, given ? (issue?.message ?? 'is wrong') : 'is needed')
}

function badParameter(context: Context, parameter: string, message: string): Response {
  return context.json(
    { error: { code: 'BAD_PARAMETER', message: `${parameter}: ${message}`, parameter } },
    400,
  )
}

function failed(error: Error, context: Context, { log }: ApiParts): Response {
  if (error instanceof QueryRefused) return badParameter(context, error.parameter, error.message)
  if (error instanceof PermanentError) {
    return context.json({ error: { code: error.code, message: error.message } }, 400)
  }
  // Of a store or journal that is away health tells too, and who asks again is answered once it is back.
  if (error instanceof Busy || error instanceof RetryableError) {
    const code = error instanceof Busy ? 'BUSY' : error.code
    return context.json({ error: { code, message: error.message } }, 503, { 'Retry-After': '1' })
  }
  if (context.req.raw.signal.aborted) return context.json({ error: { code: 'BUSY', message: 'gone' } }, 503)
  log.error('request failed', { path: context.req.path, error: error.stack ?? error.message })
  const message = 'the aggregator failed to answer; its log says why'
  return context.json({ error: { code: 'INTERNAL', message } }, 500)
}
