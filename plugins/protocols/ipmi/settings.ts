// The configuration of the ipmi source, and its metrics.
import * as z from 'zod'
import { isDeviceId } from '../../contract/batch.ts'
import type { MetricDeclaration } from '../../contract/readings.ts'
import { duration, secret } from '../../contract/settings.ts'
import { sensorMetrics } from '../bmc/metrics.ts'
import { gauge } from '../declared.ts'
import { selection } from '../proc-selection.ts'

export const ipmiSettings = z
  .strictObject({
    host: z
      .string()
      .regex(/^[A-Za-z0-9._:%-]{1,253}$/, 'expected a name or an address')
      .optional()
      .describe('Address of the BMC; without one, that of this machine, through /dev/ipmi0.'),
    port: z.int().min(1).max(65_535).default(623).describe('UDP port of the BMC.'),
    interface: z.enum(['lanplus', 'lan']).default('lanplus').describe('IPMI 2.0 (RMCP+), or 1.5 over LAN.'),
    username: z
      .string()
      .regex(/^[^\s]{1,16}$/, 'expected 1 to 16 characters')
      .optional()
      .describe('User to log in as.'),
    password: secret.optional().describe('Password of the user.'),
    privilege: z
      .enum(['USER', 'OPERATOR', 'ADMINISTRATOR'])
      .default('USER')
      .describe('Privilege to ask for; reading needs no more than that of a user.'),
    cipher_suite: z
      .int()
      .min(1)
      .max(17)
      .default(17)
      .describe('Cipher suite of RMCP+: 17, or 3 where the BMC knows no better.'),
    device: z
      .string()
      .refine(isDeviceId, 'expected 1 to 64 small letters, digits and -')
      .optional()
      .describe('Device that everything is about; otherwise found out from the serial number of its FRU.'),
    interval: duration.prefault('30s').describe('Time between readings of the sensors.'),
    log_interval: duration.prefault('60s').describe('Time between readings of the event log.'),
    timeout: duration.prefault('60s').describe('Longest wait for an answer.'),
    sensors: selection('sensors', []).describe('Which sensors to read, by hw.id, such as CPU_Temp@3.1.'),
    most: z.int().min(1).max(4096).default(1024).describe('Most sensors to read.'),
    program: z.string().default('ipmitool').describe('The helper to run.'),
  })
  .refine(({ username, password }) => (username === undefined) === (password === undefined), {
    path: ['password'],
    message: 'username and password go together',
  })
export type IpmiSettings = z.output<typeof ipmiSettings>

export const ipmiMetrics = {
  ...sensorMetrics,
  'dpu.fru.info': { ...gauge('1', 'A replaceable unit that is there; always 1.'), class: 'capability' },
} as const satisfies Record<string, MetricDeclaration>
export type IpmiMetric = keyof typeof ipmiMetrics
