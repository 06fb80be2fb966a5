// EventService: the stream, subscriptions, and an event to try them with.
import { randomBytes } from 'node:crypto'
import type { Json } from '../../plugins/protocols/redfish/json.ts'
import { filterOf, lastEventIdOf, mostStreams, mostSubscriptions } from './events.ts'
import { Refusal } from './messages.ts'
import { checkQuery, collection } from './query.ts'
import { base, link, noContent } from './router.ts'
import type { Call, Reply, Routes } from './router.ts'
import { Subscription, policies } from './subscriptions.ts'
import type { Policy } from './subscriptions.ts'
import { required, take } from './taking.ts'

const registryPrefixes = ['Base', 'OpenBMC', 'ResourceEvent', 'TaskEvent', 'Update']

export const eventRoutes: Routes = {
  EventService: { get: eventService },
  'EventService/SSE': {
    stream: (call, response) => {
      const { bmc, query, request } = call
      if (bmc.events.streams >= mostStreams)
        throw new Refusal('EventSubscriptionLimitExceeded', [], { 'Retry-After': '60' })
      checkQuery(query, true)
      const filter = filterOf(query.get('$filter'))
      if (!filter)
        throw new Refusal('QueryParameterValueFormatError', [query.get('$filter') ?? '', '$filter'])
      bmc.events.open(response, filter, lastEventIdOf(request.headers['last-event-id']))
    },
  },
  'EventService/Subscriptions': {
    get: (call) =>
      collection(call, {
        type: 'EventDestination',
        name: 'Event Destination Collections',
        members: [...call.bmc.events.subscriptions.keys()],
        show: (id) => link(`EventService/Subscriptions/${id}`),
      }),
    post: subscribe,
    privilege: 'ConfigureManager',
  },
  'EventService/Subscriptions/{}': {
    get: (call) => {
      const one = subscriptionOf(call)
      return one && subscriptionBody(one)
    },
    patch: changeSubscription,
    delete: (call) => {
      const one = subscriptionOf(call)
      one?.close()
      call.bmc.events.subscriptions.delete(one?.id ?? '')
      return noContent
    },
    privilege: 'ConfigureManager',
  },
  'EventService/Actions/EventService.SubmitTestEvent': {
    post: submitTestEvent,
    privilege: 'ConfigureManager',
  },
}

function eventService(): Json {
  return {
    '@odata.id': `${base}/EventService`,
    '@odata.type': '#EventService.v1_7_2.EventService',
    Id: 'EventService',
    Name: 'Event Service',
    ServiceEnabled: true,
    Status: { Health: 'OK', State: 'Enabled' },
    DeliveryRetryAttempts: 3,
    DeliveryRetryIntervalSeconds: 30,
    EventFormatTypes: ['Event'],
    IncludeOriginOfConditionSupported: false,
    RegistryPrefixes: registryPrefixes,
    ResourceTypes: ['Task', 'LogEntry'],
    SubordinateResourcesSupported: false,
    SSEFilterPropertiesSupported: {
      EventFormatType: true,
      MessageId: true,
      MetricReportDefinition: false,
      OriginResource: false,
      RegistryPrefix: true,
      ResourceType: false,
    },
    ServerSentEventUri: `${base}/EventService/SSE`,
    Subscriptions: link('EventService/Subscriptions'),
    Actions: {
      '#EventService.SubmitTestEvent': {
        target: `${base}/EventService/Actions/EventService.SubmitTestEvent`,
      },
    },
  }
}

const subscriptionOf = ({ bmc, ids: [id = ''] }: Call): Subscription | undefined =>
  bmc.events.subscriptions.get(id)

const subscriptionBody = (one: Subscription): Json => ({
  '@odata.id': `${base}/EventService/Subscriptions/${one.id}`,
  '@odata.type': '#EventDestination.v1_13_2.EventDestination',
  Id: one.id,
  Name: `Event Destination ${one.id}`,
  ...one.told,
  Context: one.context,
  DeliveryRetryPolicy: one.policy,
  // As real services do: what may be a secret is not shown.
  HttpHeaders: [],
  Status: { Health: 'OK', State: one.state },
})

const subscriptionShape = {
  Destination: 'string',
  Protocol: ['Redfish'],
  SubscriptionType: ['RedfishEvent'],
  Context: 'string',
  EventFormatType: ['Event'],
  EventTypes: 'strings',
  RegistryPrefixes: 'strings',
  MessageIds: 'strings',
  ResourceTypes: 'strings',
  OriginResources: 'objects',
  IncludeOriginOfCondition: 'boolean',
  SubordinateResources: 'boolean',
  HttpHeaders: 'objects',
  DeliveryRetryPolicy: policies,
  VerifyCertificate: 'boolean',
  SendHeartbeat: 'boolean',
  HeartbeatIntervalMinutes: 'number',
} as const

function subscribe({ bmc, body }: Call): Reply {
  const { subscriptions } = bmc.events
  const given = take(body, subscriptionShape)
  const destination = destinationOf(required(given.Destination, 'Destination'))
  required(given.Protocol, 'Protocol')
  if (subscriptions.size >= mostSubscriptions) throw new Refusal('EventSubscriptionLimitExceeded')
  const id = randomBytes(5).toString('hex')
  const { HttpHeaders: headers = [], MessageIds: messageIds, RegistryPrefixes: prefixes } = given
  const subscription = new Subscription({
    id,
    destination,
    context: given.Context ?? '',
    filter: { messageIds: someOf(messageIds), prefixes: someOf(prefixes) },
    headers: headersOf(headers),
    policy: (given.DeliveryRetryPolicy ?? 'TerminateAfterRetries') as Policy, // take() lets only policies through
    verify: given.VerifyCertificate ?? false,
    told: {
      Destination: destination.href,
      Protocol: 'Redfish',
      SubscriptionType: 'RedfishEvent',
      EventFormatType: 'Event',
      MessageIds: messageIds ?? [],
      RegistryPrefixes: prefixes ?? [],
      ResourceTypes: given.ResourceTypes ?? [],
      VerifyCertificate: given.VerifyCertificate ?? false,
    },
  })
  subscriptions.set(id, subscription)
  const path = `${base}/EventService/Subscriptions/${id}`
  return { status: 201, body: subscriptionBody(subscription), headers: { Location: path } }
}

const someOf = (list: readonly string[] | undefined): readonly string[] | undefined =>
  list && list.length > 0 ? list : undefined

function destinationOf(given: string): URL {
  const url = URL.canParse(given) ? new URL(given) : undefined
  if (!url || !/^https?:$/.test(url.protocol))
    throw new Refusal('PropertyValueFormatError', [given, 'Destination'])
  return url
}

/** Each object of the array is a header or several. */
function headersOf(given: readonly Json[]): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of given.flatMap((one) => Object.entries(one))) {
    const isHeader =
      typeof value === 'string' && /^[\w-]{1,64}$/.test(name) && /^[\x20-\x7e]{0,1024}$/.test(value)
    if (!isHeader) throw new Refusal('PropertyValueFormatError', [name, 'HttpHeaders'])
    headers[name] = value
  }
  return headers
}

function changeSubscription(call: Call): Reply {
  const { body } = call
  const one = subscriptionOf(call)
  const { Context: context, DeliveryRetryPolicy: policy } = take(body, {
    Context: 'string',
    DeliveryRetryPolicy: policies,
  })
  if (!one) return noContent
  if (context !== undefined) one.context = context
  if (policy !== undefined) one.policy = policy as Policy // take() lets only policies through
  one.resume()
  return { status: 200, body: subscriptionBody(one) }
}

function submitTestEvent({ bmc, body }: Call): Reply {
  const given = take(body, {
    EventId: 'string',
    EventTimestamp: 'string',
    EventGroupId: 'number',
    EventType: 'string',
    Message: 'string',
    MessageArgs: 'strings',
    MessageId: 'string',
    MessageSeverity: ['OK', 'Warning', 'Critical'],
    OriginOfCondition: 'string',
    Severity: 'string',
  })
  bmc.events.add({
    messageId: given.MessageId ?? 'ResourceEvent.1.3.TestMessage',
    message: given.Message ?? 'A test event.',
    args: given.MessageArgs ?? [],
    severity: given.MessageSeverity ?? 'OK',
    timestamp: given.EventTimestamp ?? bmc.timeAt(bmc.nowMs),
    origin: given.OriginOfCondition,
    entry: undefined,
  })
  return noContent
}
