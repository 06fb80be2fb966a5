// Messages of the Base registry (DSP0268, DSP2065) and the errors that carry them: what a request was refused for.
import type { Json } from '../../plugins/protocols/redfish/json.ts'

interface Message {
  readonly status: number
  readonly text: string
  readonly severity: 'OK' | 'Warning' | 'Critical'
  readonly resolution: string
}

const message = (
  status: number,
  text: string,
  resolution: string,
  severity: Message['severity'] = 'Warning',
): Message => ({ status, text, severity, resolution })
const correct = 'Correct the request and submit it again.'
const later = 'Wait for the indicated time and submit the request again.'

export const baseRegistry = 'Base.1.15.0'
/** Those that this service gives; `%1` is the first argument. */
export const baseMessages = {
  Success: message(200, 'The request completed successfully.', 'None.', 'OK'),
  GeneralError: message(400, 'A general error has occurred: %1', correct, 'Critical'),
  ResourceMissingAtURI: message(
    404,
    "The resource at the URI '%1' was not found.",
    'Place a valid resource at the URI or correct the URI and resubmit the request.',
    'Critical',
  ),
  ResourceNotFound: message(
    404,
    "The requested resource of type '%1' named '%2' was not found.",
    correct,
    'Critical',
  ),
  MalformedJSON: message(
    400,
    'The request body submitted was malformed JSON and could not be parsed by the receiving service.',
    correct,
    'Critical',
  ),
  UnrecognizedRequestBody: message(
    400,
    'The service detected a malformed request body that it was unable to interpret.',
    correct,
  ),
  PayloadTooLarge: message(413, 'The supplied payload exceeds %1 bytes.', correct),
  PropertyMissing: message(
    400,
    "The property '%1' is a required property and must be included in the request.",
    correct,
  ),
  PropertyUnknown: message(
    400,
    "The property '%1' is not in the list of valid properties for the resource.",
    correct,
  ),
  PropertyNotWritable: message(
    400,
    "The property '%1' is a read-only property and cannot be assigned a value.",
    correct,
  ),
  PropertyValueTypeError: message(
    400,
    "The value '%1' for the property '%2' is not a type that the property can accept.",
    correct,
  ),
  PropertyValueNotInList: message(
    400,
    "The value '%1' for the property '%2' is not in the list of acceptable values.",
    correct,
  ),
  PropertyValueFormatError: message(
    400,
    "The value '%1' for the property '%2' is not a format that the property can accept.",
    correct,
  ),
  ActionParameterMissing: message(
    400,
    "The action '%1' requires the parameter '%2' to be present in the request body.",
    correct,
  ),
  ActionParameterNotSupported: message(
    400,
    "The parameter '%1' for the action '%2' is not supported on the target resource.",
    correct,
  ),
  QueryNotSupported: message(501, 'Querying is not supported by the implementation.', correct),
  QueryParameterValueFormatError: message(
    400,
    "The value '%1' for the parameter '%2' is not a format that the parameter can accept.",
    correct,
  ),
  OperationNotAllowed: message(405, 'The HTTP method is not allowed on this resource.', correct, 'Critical'),
  ResourceAlreadyExists: message(
    409,
    "The requested resource of type '%1' with the property '%2' with the value '%3' already exists.",
    correct,
    'Critical',
  ),
  PreconditionFailed: message(
    412,
    'The ETag supplied did not match the ETag required to change this resource.',
    correct,
    'Critical',
  ),
  NoValidSession: message(
    401,
    'There is no valid session established with the implementation.',
    'Establish a session before attempting any operations.',
    'Critical',
  ),
  ResourceAtUriUnauthorized: message(
    401,
    "While accessing the resource at '%1', the service received an authorization error '%2'.",
    'Ensure that the appropriate access is provided for the service in order for it to access the URI.',
    'Critical',
  ),
  InsufficientPrivilege: message(
    403,
    'There are insufficient privileges for the account or credentials associated with the current session to perform the requested operation.',
    'Either abandon the operation or change the associated access rights.',
    'Critical',
  ),
  SessionLimitExceeded: message(
    503,
    'The session establishment failed due to the number of simultaneous sessions exceeding the limit of the implementation.',
    'Reduce the number of other sessions before trying to establish the session.',
    'Critical',
  ),
  EventSubscriptionLimitExceeded: message(
    503,
    'The event subscription failed due to the number of simultaneous subscriptions exceeding the limit of the implementation.',
    'Reduce the number of other subscriptions before trying to establish the event subscription.',
    'Critical',
  ),
  CreateLimitReachedForResource: message(
    400,
    'The create operation failed because the resource has reached the limit of possible resources.',
    correct,
    'Critical',
  ),
  ServiceTemporarilyUnavailable: message(
    503,
    'The service is temporarily unavailable.  Retry in %1 seconds.',
    later,
    'Critical',
  ),
  InternalError: message(
    500,
    'The request failed due to an internal service error.  The service is still operational.',
    'Resubmit the request.',
    'Critical',
  ),
} as const satisfies Record<string, Message>
export type BaseMessage = keyof typeof baseMessages

/** Fills `%1`, `%2`, … */
export const fill = (text: string, args: readonly string[]): string =>
  text.replace(/%(\d)/g, (hole, at: string) => args[Number(at) - 1] ?? hole)

/** An answer other than success; its body is an error of DSP0266 §8.6. */
export class Refusal extends Error {
  readonly status: number
  readonly body: Json
  readonly headers: Readonly<Record<string, string>>

  constructor(
    name: BaseMessage,
    args: readonly string[] = [],
    headers: Readonly<Record<string, string>> = {},
  ) {
    const { status, text, severity, resolution } = baseMessages[name]
    const filled = fill(
      text,
      args.map((one) => one.slice(0, 256)),
    )
    super(filled)
    this.status = status
    this.headers = headers
    this.body = {
      error: {
        '@Message.ExtendedInfo': [
          {
            '@odata.type': '#Message.v1_1_1.Message',
            Message: filled,
            MessageArgs: args,
            MessageId: `${baseRegistry}.${name}`,
            MessageSeverity: severity,
            Resolution: resolution,
          },
        ],
        code: `${baseRegistry}.${name}`,
        message: filled,
      },
    }
  }
}

/** The registry as a resource: what a client looks up to read our messages. */
export const registryBody = (): Json => ({
  '@odata.type': '#MessageRegistry.v1_4_0.MessageRegistry',
  Id: baseRegistry,
  Name: 'Base Message Registry',
  Language: 'en',
  RegistryPrefix: 'Base',
  RegistryVersion: baseRegistry.replace(/^Base\./, ''),
  OwningEntity: 'DMTF',
  Messages: Object.fromEntries(
    Object.entries(baseMessages).map(([name, { text, severity, resolution }]) => {
      const count = new Set(text.match(/%\d/g)).size
      const types = count > 0 ? { ParamTypes: Array.from({ length: count }, () => 'string') } : {}
      return [
        name,
        {
          Description: text,
          Message: text,
          MessageSeverity: severity,
          NumberOfArgs: count,
          Resolution: resolution,
          ...types,
        },
      ]
    }),
  ),
})
