// The configuration of the redfish source.
import * as z from 'zod'
import { isDeviceId } from '../../contract/batch.ts'
import { address, duration, secret, tls } from '../../contract/settings.ts'
import { selection } from '../proc-selection.ts'

const endpoint = z
  .url({ protocol: /^https?$/, error: 'expected https://HOST or http://HOST' })
  .transform((text) => new URL(text))
  .refine((url) => url.username === '' && url.password === '', 'name the user in username and password')
  .refine(
    (url) => /^\/?(redfish(\/v1)?\/?)?$/.test(url.pathname),
    'expected no path: the service lies at /redfish/v1',
  )

export const redfishSettings = z
  .strictObject({
    endpoint: endpoint.describe('Address of the BMC, such as https://10.0.0.7.'),
    username: z.string().min(1).optional().describe('User to log in as; without one, nothing is sent.'),
    password: secret.optional().describe('Password of the user.'),
    device: z
      .string()
      .refine(isDeviceId, 'expected 1 to 64 small letters, digits and -')
      .optional()
      .describe('Device that everything is about; otherwise found out for each system that the BMC shows.'),
    interval: duration.prefault('30s').describe('Time between readings.'),
    discovery: duration.prefault('10m').describe('Time between walks over all resources.'),
    requests: z
      .int()
      .min(1)
      .max(16)
      .default(4)
      .describe('Most requests at once; fewer where the BMC is slow.'),
    timeout: duration.prefault('30s').describe('Longest wait for an answer.'),
    most: z.int().min(1).max(20_000).default(4096).describe('Most resources to read.'),
    sensors: selection('sensors', []).describe('Which sensors to read, by hw.id, which is their path.'),
    logs: z
      .strictObject({
        interval: duration
          .prefault('60s')
          .describe('Time between readings of the logs; an event brings one sooner.'),
        services: selection('log services', []).describe('Which log services to read, by their path.'),
      })
      .prefault({})
      .describe('The logs of systems, managers and chassis.'),
    reports: z.boolean().default(true).describe('Read metric reports of the telemetry service.'),
    events: z
      .strictObject({
        mode: z
          .enum(['auto', 'stream', 'push', 'poll'])
          .default('auto')
          .describe(
            'How events come: as a stream, pushed to us, or by reading logs; auto takes the first that works.',
          ),
        listen: address.optional().describe('Address to take pushed events on.'),
        destination: z
          .url({ protocol: /^https?$/, error: 'expected https://HOST:PORT or http://HOST:PORT' })
          .optional()
          .describe('The same address as the BMC sees it.'),
        cert: z
          .string()
          .optional()
          .describe('PEM file with the certificate for that address; plain HTTP without.'),
        key: z.string().optional().describe('PEM file with its private key.'),
      })
      .refine(({ listen, destination }) => (listen === undefined) === (destination === undefined), {
        path: ['destination'],
        message: 'listen and destination go together',
      })
      .refine(({ cert, key }) => (cert === undefined) === (key === undefined), {
        path: ['key'],
        message: 'cert and key go together',
      })
      .refine(({ mode, listen }) => mode !== 'push' || listen !== undefined, {
        path: ['listen'],
        message: 'pushed events need listen and destination',
      })
      .prefault({})
      .describe('Events that the BMC tells by itself.'),
    tls: tls
      .extend({
        fingerprint: z
          .string()
          .regex(
            /^([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}$/,
            'expected a SHA-256 fingerprint: 64 hexadecimal digits',
          )
          .optional()
          .describe('SHA-256 fingerprint of the certificate to expect, where no authority signed it.'),
      })
      .prefault({})
      .describe('How the certificate of the BMC is checked.'),
  })
  .refine(({ username, password }) => (username === undefined) === (password === undefined), {
    path: ['password'],
    message: 'username and password go together',
  })
export type RedfishSettings = z.output<typeof redfishSettings>
